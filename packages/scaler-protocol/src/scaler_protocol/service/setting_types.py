"""What a setting may hold, and how it is read: from a word of the command line, from TOML, or from code.

A `SettingType` turns what was given into a value, or raises ValueError with the reason in words that go behind the name of
the flag or key. Those here cover what commands need; `text(check=…)` and the like add a rule of a command's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from scaler_protocol.address import Address
from scaler_protocol.capabilities import format_capabilities, parse_capabilities

T = TypeVar("T")

_SWITCH_TEXTS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class SettingType(Generic[T]):
    """How one kind of value is read. `metavar` stands for it in the help."""

    read: Callable[[object], T]
    """Return the value; raise ValueError with the reason."""
    metavar: str = "TEXT"
    is_switch: bool = False
    is_list: bool = False


def text(
    *, not_empty: bool = False, at_most: int | None = None, check: Callable[[str], None] | None = None
) -> SettingType[str]:
    """Any text, of `at_most` so many characters. `check` raises ValueError for what it does not like."""

    def read(given: object) -> str:
        value = _as_text(given)
        if not_empty and not value:
            raise ValueError("must not be empty")
        if at_most is not None and len(value) > at_most:
            raise ValueError(f"must not have more than {at_most} characters")
        if check is not None:
            check(value)
        return value

    return SettingType(read)


def integer(*, at_least: int | None = None, at_most: int | None = None) -> SettingType[int]:
    """A whole number within inclusive limits."""

    def read(given: object) -> int:
        # A switch is a number to Python, and never meant as one.
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise ValueError(f"{given!r} is not a whole number")
        try:
            value = int(given)
        except ValueError:
            raise ValueError(f"{given!r} is not a whole number") from None
        _check_limits(value, at_least, None, at_most)
        return value

    return SettingType(read, "N")


def number(
    *, at_least: float | None = None, more_than: float | None = None, at_most: float | None = None
) -> SettingType[float]:
    """A number within limits."""

    def read(given: object) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float | str):
            raise ValueError(f"{given!r} is not a number")
        try:
            value = float(given)
        except ValueError:
            raise ValueError(f"{given!r} is not a number") from None
        if value != value:
            raise ValueError(f"{given!r} is not a number")
        _check_limits(value, at_least, more_than, at_most)
        return value

    return SettingType(read, "X")


def choice(literal: Any) -> SettingType[Any]:
    """One of the texts of a `typing.Literal`, in any case of letters."""
    values: tuple[str, ...] = get_args(literal)
    by_text = {value.casefold(): value for value in values}

    def read(given: object) -> str:
        value = by_text.get(_as_text(given).casefold())
        if value is None:
            raise ValueError(f"{given!r} is none of {', '.join(values)}")
        return value

    return SettingType(read, "{" + ",".join(values) + "}")


def several(
    item: SettingType[T], *, at_least: int = 0, at_most: int | None = None, blanks_separate: bool = False
) -> SettingType[tuple[T, ...]]:
    """A TOML array; or one text, separated by commas (with `blanks_separate`: by blanks too); or several such words."""

    def read(given: object) -> tuple[T, ...]:
        if isinstance(given, str):
            parts: list[Any] = given.replace(",", " ").split() if blanks_separate else given.split(",")
            given = [part.strip() for part in parts if part.strip()]
        if not isinstance(given, list | tuple):
            raise ValueError(f"{given!r} is neither a list nor a text separated by commas")
        if len(given) < at_least:
            raise ValueError(f"must name at least {at_least}")
        if at_most is not None and len(given) > at_most:
            raise ValueError(f"must not name more than {at_most}")
        return tuple(item.read(part) for part in given)

    return SettingType(read, item.metavar, is_list=True)


def _read_switch(given: object) -> bool:
    if isinstance(given, bool):
        return given
    value = _SWITCH_TEXTS.get(given.casefold()) if isinstance(given, str) else None
    if value is None:
        raise ValueError(f"{given!r} is neither true nor false")
    return value


def _read_path(given: object) -> Path:
    return given if isinstance(given, Path) else Path(_as_text(given))


def _read_bind_address(given: object) -> Address:
    if isinstance(given, Address):
        return given
    if not isinstance(given, str):
        raise ValueError(f"expected text like tcp://127.0.0.1:2345, not {type(given).__name__}")
    return Address.parse(given)


def _read_address(given: object) -> Address:
    address = _read_bind_address(given)
    if not address.can_be_connected:
        raise ValueError(f"{address} can be listened on but not connected to: name a host and a port other than 0")
    return address


def _read_capabilities(given: object) -> str:
    if isinstance(given, Mapping):
        given = format_capabilities(given)
    if not isinstance(given, str):
        raise ValueError(f"expected text like linux,cpu=4, not {type(given).__name__}")
    return format_capabilities(parse_capabilities(given))


SWITCH = SettingType(_read_switch, "", is_switch=True)
"""True or false; a flag without a value."""

PATH = SettingType(_read_path, "FILE")

BIND_ADDRESS = SettingType(_read_bind_address, "ADDRESS")
"""An address to listen on; port 0 lets the system choose."""

ADDRESS = SettingType(_read_address, "ADDRESS")
"""An address to connect to."""

CAPABILITIES = SettingType(_read_capabilities)
"""Capabilities such as `linux,cpu=4`, checked, in their normal form; also accepts a mapping in code."""

TEXTS = several(text())
"""Several texts."""


def _as_text(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{given!r} is not a text")
    return given


def _check_limits(value: float, at_least: float | None, more_than: float | None, at_most: float | None) -> None:
    if at_least is not None and value < at_least:
        raise ValueError(f"must be at least {at_least:g}, not {value:g}")
    if more_than is not None and value <= more_than:
        raise ValueError(f"must be greater than {more_than:g}, not {value:g}")
    if at_most is not None and value > at_most:
        raise ValueError(f"must be at most {at_most}, not {value:g}")
