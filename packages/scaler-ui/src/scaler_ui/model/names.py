"""Small numbers for names, so that a hundred thousand bars need not hold a text each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Generic, TypeVar

Name = TypeVar("Name")


class NameTable(Generic[Name]):
    """Numbers names in the order of their arrival, up to a limit. The columns that use the numbers say which are still needed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.generation = 0
        """Changes when names get new numbers. Readers that keep numbers must then ask again."""
        self._numbers: dict[Name, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def full(self) -> bool:
        """Whether a further name would exceed the limit."""
        return len(self._numbers) >= self.limit

    def number(self, name: Name) -> int:
        """Return the number of `name`, a new one if it has none. Call `compact` before if the table is `full`."""
        return self._numbers.setdefault(name, len(self._numbers))

    def names(self) -> list[Name]:
        """Return all names, by number."""
        return list(self._numbers)

    def compact(self, used: Iterable[int], columns: Iterable[array[int]]) -> None:
        """Forget names whose number is not `used`, and write the new numbers into `columns`."""
        names = self.names()
        kept = sorted(set(used))
        # Keep at most half, so that compacting stays rare. The oldest names are dropped.
        kept = kept[-self.limit // 2 :]
        renumbered = array("H", bytes(2 * max(1, len(names))))
        self._numbers = {}
        for old in kept:
            renumbered[old] = self.number(names[old])
        for column in columns:
            for row, old in enumerate(column):
                column[row] = renumbered[old]
        self.generation += 1
