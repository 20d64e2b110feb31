"""Whether a monitor was given the address that the scheduler has for monitors: any other one would only look like silence."""

from __future__ import annotations

from scaler_protocol.address import Address
from scaler_protocol.errors import TransportError
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.transport.probe import require_publisher


def check_monitor_address(address: Address, *, host_may_come: bool = False) -> None:
    """Raise ConfigurationError where something else than a scheduler's publisher answers. Nobody at all may be there yet.

    `host_may_come`: nor need its name be known yet.
    """
    try:
        require_publisher(str(address), host_may_come=host_may_come)
    except TransportError as error:
        raise ConfigurationError(f"MONITOR_ADDRESS: {address} is not where a scheduler publishes: {error}") from None
