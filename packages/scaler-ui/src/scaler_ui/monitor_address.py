"""Checks that an address is a scheduler's monitor address. Any other address would only look like silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaler_protocol.address import Address
from scaler_protocol.errors import TransportError
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.transport.probe import require_publisher

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity


def check_monitor_address(address: Address, *, may_come: bool = False, security: PeerSecurity | None = None) -> None:
    """Raise ConfigurationError if something other than a scheduler's publisher answers. There may be no answer at all yet.

    `may_come`: the host name may still be unknown, and the key not let in. `security`: the keys with which a monitor will
    connect.
    """
    try:
        require_publisher(str(address), may_come=may_come, security=security)
    except TransportError as error:
        raise ConfigurationError(
            f"MONITOR_ADDRESS: {address} is not the monitor address of a scheduler: {error}"
        ) from None
