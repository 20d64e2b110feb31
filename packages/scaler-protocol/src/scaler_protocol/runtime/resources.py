"""Counted resources: what a host offers for all its workers together, and what a task asks for: `gpu=2,mem=64GiB,licence=3`.

Amounts are whole numbers of thousandths, so that fractions add up exactly. A resource is whatever its name says; scheduler and
agents only count. Memory is counted in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from operator import index
from typing import Any, Final

from scaler_protocol.runtime.names import shown, shown_type

Amounts = tuple[tuple[str, int], ...]
"""Names with thousandths, in the order of names."""

NO_AMOUNTS: Final[Amounts] = ()

ONE: Final = 1000
"""One of something, in thousandths."""

CORES, MEMORY, GPU = "cores", "mem", "gpu"
"""Resources with a meaning: every host offers the first two unless it says otherwise, and the third are devices."""

NAMES_MAX = 16
NAME_CHARACTERS_MAX = 64
TEXT_CHARACTERS_MAX = 4096
AMOUNT_MAX = 2**63 - 1
"""In thousandths: what fits into eight bytes."""

# Read by hand: what `decimal` makes of a text depends on a context that any program may change, and long exponents take minutes.
_NUMBER = re.compile(r"([0-9]{0,40})(?:\.([0-9]{0,40}))?(?:[eE]([+-]?[0-9]{1,2}))?")

_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_IN_BYTES = frozenset({MEMORY, "disk", "vram"})
"""Shown with units."""


class ResourcesError(ValueError):
    """What is no list of amounts. The message names the part at fault."""


def parse_amounts(value: str | Mapping[str, Any], *, keep_zeros: bool = False) -> Amounts:
    """Read `name=amount,…`, or names with amounts, which are numbers or texts such as "8GiB" and "0.5".

    An amount of 0 is left out unless `keep_zeros`. Raises ResourcesError.
    """
    if isinstance(value, str):
        if len(value) > TEXT_CHARACTERS_MAX:
            raise ResourcesError(f"resources are more than {TEXT_CHARACTERS_MAX} characters long")
        pairs: Iterable[tuple[Any, Any]] = _split(value)
    elif isinstance(value, Mapping):
        pairs = value.items()
    else:
        raise ResourcesError(f"resources must map names to amounts, as in {{'gpu': 1}}, not {shown(value)}")
    amounts: dict[str, int] = {}
    for name, amount in pairs:
        if not isinstance(name, str):
            raise ResourcesError(f"resources: the name {shown(name)} is a {shown_type(name)}, not a str")
        if not name or len(name) > NAME_CHARACTERS_MAX or not name.replace("-", "_").replace(".", "_").isidentifier():
            raise ResourcesError(
                f"resources: {shown(name)} is no name: letters, digits, _, - and . are allowed, at most {NAME_CHARACTERS_MAX}"
            )
        if name in amounts:
            raise ResourcesError(f"resources: {name} is given twice")
        amounts[str(name)] = _thousandths(name, amount)
    if len(amounts) > NAMES_MAX:
        raise ResourcesError(f"resources has {len(amounts)} names; {NAMES_MAX} are allowed")
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount or keep_zeros))


def normal_amounts(value: str | Mapping[str, Any]) -> str:
    """Return amounts as text in its usual form, those of 0 too. Raises ResourcesError, a ValueError."""
    return format_amounts(parse_amounts(value, keep_zeros=True))


def format_amounts(amounts: Iterable[tuple[str, int]]) -> str:
    """Return the text from which `parse_amounts` reads the same amounts."""
    return ",".join(f"{name}={format_amount(name, amount)}" for name, amount in amounts)


def format_amount(name: str, amount: int) -> str:
    """Return an amount for people and for `parse_amounts`, as in "2", "0.5" or "64GiB"."""
    whole, rest = divmod(amount, ONE)
    if not rest and name in _IN_BYTES:
        for unit, size in reversed(_UNITS.items()):
            if whole >= size and not whole % size:
                return f"{whole // size}{unit}"
    return f"{whole}.{rest:03}".rstrip("0") if rest else str(whole)


def memory_bytes(amounts: Amounts) -> int:
    """Return the bytes of memory among these amounts; 0 where there are none."""
    return dict(amounts).get(MEMORY, 0) // ONE


class CountedAmounts:
    """How much there is of each resource, and how much of it is in use."""

    __slots__ = ("_offered", "_used")

    def __init__(self, offered: Amounts = NO_AMOUNTS) -> None:
        self._offered = dict(offered)
        self._used: dict[str, int] = {}

    @property
    def offered(self) -> Amounts:
        """What there is."""
        return tuple(self._offered.items())

    @property
    def used(self) -> Amounts:
        """What is in use."""
        return tuple(sorted(self._used.items()))

    @property
    def free(self) -> Amounts:
        """What is not in use, with zeros."""
        return tuple((name, self.free_of(name)) for name in self._offered)

    def __contains__(self, name: str) -> bool:
        """Whether there is any of this resource."""
        return name in self._offered

    def __iter__(self) -> Iterator[str]:
        return iter(self._offered)

    def __len__(self) -> int:
        """Of how many resources there is any."""
        return len(self._offered)

    def free_of(self, name: str) -> int:
        """Return how much of one resource is free; below 0 if more is in use than there is."""
        return self._offered.get(name, 0) - self._used.get(name, 0)

    def could_serve(self, needed: Amounts) -> bool:
        """Whether there is enough for these amounts when nothing is in use."""
        offered = self._offered.get
        return all(offered(name, 0) >= amount for name, amount in needed)

    def fits(self, needed: Amounts) -> bool:
        """Whether there is enough for these amounts now."""
        offered, used = self._offered.get, self._used.get
        return all(offered(name, 0) - used(name, 0) >= amount for name, amount in needed)

    def times(self, needed: Amounts, limit: int) -> int:
        """Return how often these amounts fit now, at most `limit` times."""
        for name, amount in needed:
            limit = min(limit, self.free_of(name) // amount)
        return max(0, limit)

    def take(self, needed: Amounts, times: int = 1) -> None:
        """Count amounts as in use, whether they fit or not: what runs already is in use whatever was said before."""
        used = self._used
        for name, amount in needed:
            used[name] = used.get(name, 0) + amount * times

    def give_back(self, needed: Amounts) -> None:
        """Amounts that were taken are not in use any more."""
        used = self._used
        for name, amount in needed:
            left = used.get(name, 0) - amount
            if left < 0:
                raise ValueError(f"more {name} is given back than was in use")
            if left:
                used[name] = left
            else:
                del used[name]


def _split(text: str) -> Iterator[tuple[str, str]]:
    if not text.strip():
        return
    for part in text.split(","):
        name, separator, amount = (piece.strip() for piece in part.partition("="))
        if not name or not separator:
            raise ResourcesError(f"resources {shown(text)}: {shown(part)} is not name=amount")
        yield name, amount


def _thousandths(name: str, value: Any) -> int:
    text = _number_text(name, value)
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    found = _NUMBER.fullmatch(text.removesuffix(unit).strip())
    if found is None or not (found[1] or found[2]):
        raise ResourcesError(
            f"resources: the amount of {name} is {shown(text)}, not a number from 0 on, which may have a unit: "
            f"{', '.join(_UNITS)}"
        )
    whole, fraction, exponent = found[1], found[2] or "", int(found[3] or 0) - len(found[2] or "")
    amount = int(whole + fraction) * _UNITS.get(unit, 1) * ONE
    if exponent >= 0:
        amount *= int(10**exponent)
    else:
        amount, rest = divmod(amount, int(10**-exponent))
        if rest:
            raise ResourcesError(f"resources: the amount of {name} is {shown(text)}; a thousandth is the smallest part")
    if amount > AMOUNT_MAX:
        raise ResourcesError(
            f"resources: the amount of {name} is {shown(text)}; it must be from 0 to {AMOUNT_MAX // ONE}"
        )
    return amount


def _number_text(name: str, value: Any) -> str:
    """Return the text of a number: of a float the shortest one, which is what people wrote."""
    if isinstance(value, str):
        return value.strip()
    if type(value).__name__ not in ("bool", "bool_"):
        if isinstance(value, float):
            return repr(float(value))
        if isinstance(value, Decimal):
            return str(value)
        try:
            number = int(index(value))
        except TypeError:
            pass
        else:
            # Texts of longer numbers may be refused by Python.
            is_short = -(10**40) < number < 10**40
            return str(number) if is_short else hex(number)
    raise ResourcesError(f"resources: the amount of {name} is {shown(value)}, not a number or a text such as '8GiB'")
