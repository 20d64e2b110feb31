"""Addresses that a service gets after its start: `-` on the command line, then one line on standard input.

So a service can import its modules before its address is known.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from pydantic import PlainSerializer, PlainValidator
from pydantic_settings import NoDecode

from scaler_protocol.address import Address
from scaler_protocol.address_list import AddressList
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings import parse_address, require_connectable, text_of

ON_INPUT: Literal["-"] = "-"

LateAddress = Address | Literal["-"]

LateAddressList = AddressList | Literal["-"]


def _parse_bind_address(value: object) -> LateAddress:
    return ON_INPUT if value == ON_INPUT else parse_address(value)


def _parse_address(value: object) -> LateAddress:
    return ON_INPUT if value == ON_INPUT else require_connectable(parse_address(value))


def _parse_address_list(value: object) -> LateAddressList:
    if value == ON_INPUT:
        return ON_INPUT
    if isinstance(value, Address):
        return AddressList((require_connectable(value),))
    return value if isinstance(value, AddressList) else AddressList.parse(text_of(value))


LateBindAddressSetting = Annotated[LateAddress, NoDecode, PlainValidator(_parse_bind_address), PlainSerializer(str)]
"""An address to listen on, or `-`. For port 0 the system chooses one."""

LateAddressSetting = Annotated[LateAddress, NoDecode, PlainValidator(_parse_address), PlainSerializer(str)]
"""An address to connect to, or `-`."""

LateAddressListSetting = Annotated[LateAddressList, NoDecode, PlainValidator(_parse_address_list), PlainSerializer(str)]
"""Addresses of schedulers to connect to, separated by commas, or `-`."""


def bind_address_now(address: LateAddress) -> Address:
    """Return the address. For `-`, wait for it on standard input. Raises ConfigurationError if it is missing or wrong."""
    if isinstance(address, Address):
        return address
    line = sys.stdin.readline()
    if not line:
        raise ConfigurationError("ADDRESS: standard input ended without one")
    try:
        return parse_address(line.strip())
    except ValueError as error:
        raise ConfigurationError(f"ADDRESS: on standard input: {error}") from None


def addresses_now(addresses: LateAddressList) -> AddressList:
    """As `address_now`, for the addresses of schedulers. On standard input there is one."""
    return addresses if isinstance(addresses, AddressList) else AddressList((address_now(addresses),))


def address_now(address: LateAddress) -> Address:
    """As `bind_address_now`, for an address to connect to."""
    try:
        return require_connectable(bind_address_now(address))
    except ValueError as error:
        raise ConfigurationError(f"ADDRESS: on standard input: {error}") from None
