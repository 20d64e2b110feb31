"""Addresses that a service is told after it was started: `-` on the command line, then one line on standard input.

So a service can import what it needs while nobody knows yet where it is to listen, or to connect to.
"""

from __future__ import annotations

import sys
from typing import Literal

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.setting_types import SettingType

ON_INPUT: Literal["-"] = "-"

LateAddress = Address | Literal["-"]


def or_on_input(setting_type: SettingType[Address]) -> SettingType[LateAddress]:
    """Such an address, or `ON_INPUT`."""

    def read(given: object) -> LateAddress:
        return ON_INPUT if given == ON_INPUT else setting_type.read(given)

    return SettingType(read, setting_type.metavar)


def address_now(address: LateAddress, setting_type: SettingType[Address]) -> Address:
    """Return the address; where it comes on standard input, wait for it. Raises ConfigurationError for none, or a wrong one."""
    if isinstance(address, Address):
        return address
    line = sys.stdin.readline()
    if not line:
        raise ConfigurationError("ADDRESS: standard input ended without one")
    try:
        return setting_type.read(line.strip())
    except ValueError as error:
        raise ConfigurationError(f"ADDRESS: on standard input: {error}") from None
