"""A connection file: everything that somebody needs to connect, in one file. `scaler_keys connect` writes it."""

from __future__ import annotations

from pathlib import Path

from scaler_protocol.address import AddressError
from scaler_protocol.address_list import AddressList
from scaler_protocol.runtime.values import value
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.directory import key_field, read_key_document, read_secret_document
from scaler_protocol.security.errors import SecurityFileError


@value
class Connection:
    """What a connection file says: where the scheduler is, and the keys to use there."""

    address: str
    role: str
    security: PeerSecurity


def read_connection(path: Path) -> Connection:
    """Return what a connection file says. Raises SecurityFileError."""
    document = read_secret_document(path)
    key = read_key_document(path, document)
    address = document.get("address")
    try:
        if not isinstance(address, str):
            raise SecurityFileError(f'{path}: address = "tcp://HOST:PORT" is missing')
        AddressList.parse(address)
    except AddressError as error:
        raise SecurityFileError(f"{path}: address: {error}") from None
    return Connection(address, key.role, PeerSecurity(key.pair, key_field(path, document, "server")))
