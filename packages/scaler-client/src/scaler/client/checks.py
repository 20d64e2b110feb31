"""Checks of what users hand over, made where they do: each error names the value, and nothing has happened yet."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from scaler.client.serializer.default import DefaultSerializer
from scaler_protocol.address import Address
from scaler_protocol.address_list import AddressList, split_addresses
from scaler_protocol.capabilities import VALUE_MAX, VALUE_MIN
from scaler_protocol.runtime.names import shown, shown_type
from scaler_protocol.wire import messages as m

NAME_BYTES_MAX = 1_000
"""Longest name of a capability or an object."""

CLIENT_NAME_CHARACTERS_MAX = 100

CAPABILITIES_MAX = 1_000


def checked_switch(name: str, value: Any) -> bool:
    """Return a setting that is on or off. Raises TypeError for text, which would always be on."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def checked_address(name: str, value: Any) -> str:
    """Return an address that can be connected to. Raises TypeError for what is no text, ValueError for what is none."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text such as tcp://127.0.0.1:2345, not {shown(value)}")
    _require_text(f"{name} {shown(value)}", value)
    if not Address.parse(value).can_be_connected:
        raise ValueError(f"{shown(value)} is not an address to connect to: it needs a host and a port other than 0")
    return value


def checked_addresses(name: str, value: Any) -> str:
    """As `checked_address`, for the addresses of one scheduler or several, separated by commas."""
    if isinstance(value, str) and len(split_addresses(value)) > 1:
        _require_text(f"{name} {shown(value)}", value)
        return str(AddressList.parse(value))
    return checked_address(name, value)


def checked_serializer(value: Any) -> Any:
    """Return a serializer, None for none and for the default one. Raises TypeError for what has not both of its methods."""
    if value is None or value is DefaultSerializer or type(value) is DefaultSerializer:
        return None
    for method in ("serialize", "deserialize"):
        if not callable(getattr(value, method, None)):
            raise TypeError(f"serializer {shown(value)} has no method {method}: derive it from scaler.Serializer")
    return value


def checked_arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments, as copies. Raises TypeError for what are none."""
    try:
        positional = tuple(args)
    except TypeError:
        raise TypeError(f"args must be a tuple of arguments, not {shown(args)}") from None
    try:
        keyword = dict(kwargs or {})
    except (TypeError, ValueError):
        raise TypeError(f"kwargs must be a dictionary of arguments by name, not {shown(kwargs)}") from None
    for name in keyword:
        if not isinstance(name, str):
            raise TypeError(f"kwargs: the name {shown(name)} is a {shown_type(name)}, not a str")
    return positional, keyword


def checked_client_name(name: Any, setting: str = "name") -> str | None:
    """Return the name of a client, or of its group; None for none.

    Raises TypeError for what is no text, ValueError for unusable text; these name the setting.
    """
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"{setting} must be a str or None, not {shown(name)}")
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{setting} {_shortened(name)} is not one line of printable characters")
    if len(name) > CLIENT_NAME_CHARACTERS_MAX:
        raise ValueError(f"{setting} {_shortened(name)} has more than {CLIENT_NAME_CHARACTERS_MAX} characters")
    return str(name)


def checked_capabilities(capabilities: Any) -> m.Capabilities:
    """Return capabilities as tasks carry them.

    Raises TypeError for what is no mapping of names to integers, ValueError for what is too large or cannot be written.
    """
    if capabilities is None:
        return ()
    if not isinstance(capabilities, Mapping):
        raise TypeError(f"capabilities are names with integers, such as {{'gpu': -1}}, not {shown(capabilities)}")
    if len(capabilities) > CAPABILITIES_MAX:
        raise ValueError(f"{len(capabilities):,} capabilities; a task can have {CAPABILITIES_MAX:,} at most")
    checked: dict[str, int] = {}
    for name, value in capabilities.items():
        if not isinstance(name, str):
            raise TypeError(f"capabilities: the name {shown(name)} is a {shown_type(name)}, not a str")
        if not name:
            raise ValueError("capabilities: a name is empty")
        _require_text(f"capability {_shortened(name)}", name)
        checked[str(name)] = _capability_value(name, value)
    return tuple(sorted(checked.items()))


def checked_object_name(name: Any) -> str:
    """Return the name of an object: empty for None. Raises TypeError for what is no text, ValueError for bad text."""
    if name is None:
        return ""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str or None, not {shown(name)}")
    _require_text(f"name {_shortened(name)}", name)
    return str(name)


def _capability_value(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"capability {_shortened(name)} is {shown(value)}, not an integer; -1 means any amount")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"capabilities: the value of {_shortened(name)} is {shown(value)}, not an integer") from None
    if not VALUE_MIN <= number <= VALUE_MAX:
        raise ValueError(f"capability {_shortened(name)} has a value of more than 64 bits")
    return number


def _require_text(what: str, text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} has characters that cannot be encoded as UTF-8") from None
    if size > NAME_BYTES_MAX:
        raise ValueError(f"{what} has {size:,} bytes; at most {NAME_BYTES_MAX:,} are possible")


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"


def checked_buffersize(value: Any) -> int | None:
    """Return how many items may be under way. Raises TypeError and ValueError for what is no positive integer and not None."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"buffersize must be an integer or None, not {shown(value)}")
    if value < 1:
        raise ValueError(f"buffersize must be None or greater than 0, not {value}")
    return value
