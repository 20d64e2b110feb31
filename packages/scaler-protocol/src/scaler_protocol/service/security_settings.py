"""The setting that names a security directory, and the keys that a service reads from there."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.problems import Problems
from scaler_protocol.service.settings import Protective, ServiceSettings, Short

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity
    from scaler_protocol.security.directory import DirectorySecurity


logger = logging.getLogger(__name__)


class SecuritySettings(ServiceSettings):
    """Adds `--security-dir` to a command."""

    security_dir: Annotated[Path | None, Short("sd"), Protective()] = Field(
        default=None,
        description="directory with the keys of this cluster, as scaler_keys makes it; or, for what only connects, a connection "
        "file or a key file beside server.pub (default: no keys, all may connect)",
    )


class InsecureSettings(ServiceSettings):
    """Adds `--insecure` to a command that listens."""

    insecure: bool = Field(
        default=False,
        description="let everybody in who reaches this service from another machine, without a key or token. It lifts no "
        "other setting: with --security-dir keys are needed all the same, with a token the token",
    )


class ListeningSettings(InsecureSettings, SecuritySettings):
    """Adds `--security-dir` and `--insecure` to a command that listens for peers with keys."""


def checked_binds(settings: ListeningSettings, addresses: Mapping[str, Address]) -> dict[str, Address]:
    """Return the addresses to listen on for these, given by their flags.

    Raises ConfigurationError if other machines could reach one of them without a key. With `--insecure` it is allowed, and said
    in the log at every start. Host names are replaced by the numbers that were checked: looked up again, they could have others.
    """
    if settings.security_dir is not None:
        if settings.insecure:
            logger.warning("--insecure has no effect, because of --security-dir: only peers with keys are let in")
        return dict(addresses)
    found, problems = {}, Problems()
    for flag, address in addresses.items():
        with problems.noted():
            found[flag] = _checked_bind(flag, address, insecure=settings.insecure)
    problems.raise_if_any()
    return found


def _checked_bind(flag: str, address: Address, *, insecure: bool) -> Address:
    if address.is_loopback:
        return address
    found = _numeric(flag, address)
    if found.is_loopback:
        return found
    if not insecure:
        raise ConfigurationError(
            f"{flag}: whoever reaches {address} from another machine could run code here. Make keys with "
            "`scaler_keys generate DIR` and give --security-dir DIR; or give --insecure to let everybody in"
        )
    logger.warning("%s: whoever reaches %s may run code here, because of --insecure", flag, address)
    return found


def _numeric(flag: str, address: Address) -> Address:
    """Return the address with the number of its host, as a listener would look it up."""
    if address.is_wildcard or ":" in address.host:
        return address
    try:
        (_, _, _, _, (host, *_)), *_ = socket.getaddrinfo(address.host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if address.host in (name for _, name in socket.if_nameindex()):
            # Monitors may be published to at an interface, by its name.
            return address
        reason = error.strerror if isinstance(error, OSError) else "this cannot be the name of a host"
        raise ConfigurationError(f"{flag}: cannot listen on {address}: {reason}") from None
    return replace(address, host=str(host))


def peer_security(settings: SecuritySettings, *roles: str) -> PeerSecurity | None:
    """Return the keys with which this command connects: of the first of these roles that has any; None without keys.

    Raises ConfigurationError.
    """
    path = settings.security_dir
    if path is None:
        return None
    # Imported late: only with keys is PyNaCl needed.
    from scaler_protocol.security.authority import KeyRole
    from scaler_protocol.security.directory import load_peer
    from scaler_protocol.security.errors import SecurityError

    try:
        return load_peer(path, *map(KeyRole, roles))
    except SecurityError as error:
        raise ConfigurationError(f"--security-dir: {error}") from None


def server_security(settings: SecuritySettings) -> DirectorySecurity | None:
    """Return the keys of a server, and those it lets in; None without keys. Raises ConfigurationError."""
    path = settings.security_dir
    if path is None:
        return None
    # Imported late: only with keys is PyNaCl needed.
    from scaler_protocol.security.directory import load_server
    from scaler_protocol.security.errors import SecurityError

    try:
        return load_server(path)
    except SecurityError as error:
        raise ConfigurationError(f"--security-dir: {error}") from None
