"""Where the results of rows meet: rows whose results are read together are made at one agent, where there is a choice.

Until there are results, nothing says where a row would read least from other hosts. But it is known which row will read them.
The first of its inputs is made wherever a worker is free; that agent then gets the others, while other agents get rows that
are read elsewhere. It is only a preference between tasks that are ready: no agent waits for it, and none gets more.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

PLACES_MAX = 4096
"""Of so many reading rows of a graph is known where their inputs meet: those that came last."""

HERE, NOWHERE, ELSEWHERE = range(3)
"""Where the other inputs of a row's reader are made. An agent gets the least first."""

Holder = TypeVar("Holder", bound=Hashable)


class MeetingPlaces(Generic[Holder]):
    """For rows of one graph that read results, where these are made. Holders are only compared."""

    __slots__ = ("_by_reader",)

    def __init__(self) -> None:
        self._by_reader: dict[int, Holder] = {}

    def note(self, reader: int, holder: Holder) -> None:
        """A row goes to this holder whose result the reader needs. The first one counts."""
        places = self._by_reader
        if reader not in places:
            if len(places) >= PLACES_MAX:
                del places[next(iter(places))]
            places[reader] = holder

    def rank(self, reader: int, holder: Holder) -> int:
        """Return where the inputs of this reader are made, as seen from a holder."""
        place = self._by_reader.get(reader)
        if place is None:
            return NOWHERE
        return HERE if place is holder else ELSEWHERE
