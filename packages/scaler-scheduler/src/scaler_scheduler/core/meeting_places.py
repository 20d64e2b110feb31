"""Where the results of rows meet: rows whose results are read together are made at one agent, where there is a choice.

Until there are results, nothing says where a row would read least from other hosts. But it is known which row will read them, and
which one will read what that makes. The first row below such a reader goes wherever a worker is free; that agent then gets the
others below it, while other agents begin as far from it as they can, in other branches of the graph. It is only a preference
between tasks that are ready: no agent waits for it, and none gets more.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

PLACES_MAX = 4096
"""Of so many reading rows of a graph is known where their inputs meet: those for which rows went last."""

LEVELS = 8
"""So many readers are looked at: the row's own one, the one of that, and so on."""

BEST = 0
"""The rank of a row that is read together with others of the agent."""

NOWHERE = LEVELS
"""The rank of a row of which nothing is known."""

WORST = 2 * LEVELS
"""The rank of a row that is read together with others of another agent."""

Holder = TypeVar("Holder", bound=Hashable)


class MeetingPlaces(Generic[Holder]):
    """For rows of one graph that read results, where these are made. Holders are only compared."""

    __slots__ = ("_by_reader",)

    def __init__(self) -> None:
        self._by_reader: dict[int, Holder] = {}

    def note(self, readers: Sequence[int], holder: Holder) -> None:
        """A row goes to this holder whose result these readers need, the nearest one first. The first holder counts."""
        places = self._by_reader
        for reader in readers:
            # What is needed again comes last.
            places[reader] = places.pop(reader, holder)
        while len(places) > PLACES_MAX:
            del places[next(iter(places))]

    def rank(self, readers: Sequence[int], holder: Holder) -> int:
        """Return how much a holder should get the row with these readers, the nearest one first: the least before others.

        The nearest reader with a place decides. Where that is here, the nearer the better; where it is elsewhere, the further.
        """
        places = self._by_reader
        for level, reader in enumerate(readers):
            place = places.get(reader)
            if place is not None:
                return level if place is holder else WORST - level
        return NOWHERE
