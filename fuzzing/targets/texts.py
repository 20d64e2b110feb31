"""What people write: addresses, capabilities and keys."""

from __future__ import annotations

import contextlib

from scaler_protocol.address import Address, AddressError
from scaler_protocol.capabilities import CapabilitiesError, format_capabilities, parse_capabilities
from scaler_protocol.security.errors import KeyTextError
from scaler_protocol.security.keys import from_text, to_text


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    texts = ("tcp://127.0.0.1:2345", "tcp://[::1]:0", "ipc:///tmp/a", "linux,gpu=2,mem=-1", to_text(bytes(range(32))))
    return [text.encode() for text in texts]


def run(data: bytes) -> None:
    """See `fuzzing`."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(AddressError):
        address = Address.parse(text)
        assert Address.parse(str(address)) == address
        str(address).encode()
    with contextlib.suppress(CapabilitiesError):
        capabilities = parse_capabilities(text)
        assert parse_capabilities(format_capabilities(capabilities)) == capabilities
    with contextlib.suppress(KeyTextError):
        assert to_text(from_text(text)) == text
