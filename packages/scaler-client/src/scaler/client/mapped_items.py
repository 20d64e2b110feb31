"""The items of a map, however they were given."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple


class MappedItems(NamedTuple):
    """What a function is mapped over."""

    items: Iterator[Any]
    star: bool
    """Whether an item is the arguments of a call, not its only one."""
    total: int | None
    """How many there are, as far as they say so."""


def called_items(verb: str, iterables: Sequence[Iterable[Any]]) -> MappedItems:
    """Return the items of `map(fn, *iterables)`. Raises TypeError where there are no iterables."""
    if not iterables:
        raise TypeError(f"{verb}() needs at least one iterable")
    totals = [_length_of(iterable) for iterable in iterables]
    total = min(totals) if min(totals) >= 0 else None
    if len(iterables) == 1:
        return MappedItems(iter(iterables[0]), False, total)
    return MappedItems(zip(*iterables, strict=False), True, total)


def starred_items(iterable: Iterable[Iterable[Any]]) -> MappedItems:
    """Return the items of `starmap(fn, iterable)`."""
    total = _length_of(iterable)
    return MappedItems(map(tuple, iterable), True, total if total >= 0 else None)


def _length_of(iterable: Any) -> int:
    """Return how many items an iterable says it has, -1 where it does not. Nothing depends on its being right."""
    try:
        return operator.length_hint(iterable, -1)
    except Exception:
        return -1
