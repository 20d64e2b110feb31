"""Which host fetches a large object from which, while several do at the same time: so that no network card sends it twice.

Every host that fetches an object into its own store gets a *source*: a store that has the object and serves nobody else with
it now, otherwise a host that is fetching it itself and serves nobody yet. As objects travel in pieces, such a chain takes hardly
longer than one transfer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

ADDRESSES_MAX = 8
"""Stores that one answer names."""


@dataclass(slots=True, frozen=True)
class _Reader:
    address: str
    source: str
    until: float


class Chains:
    """Hosts that fetch objects now, by object and by agent."""

    def __init__(self, seconds_max: float) -> None:
        """`seconds_max`: a host that has not said for so long how its fetch has ended is no source any more."""
        self._seconds_max = seconds_max
        self._readers: dict[bytes, dict[bytes, _Reader]] = {}
        self._turn = 0

    def join(self, object_id: bytes, peer: bytes, address: str, stores: Sequence[str], now: float) -> list[str]:
        """An agent begins to fetch an object into the store at `address`; `stores` have it. Return where from, best first."""
        readers = self._readers.setdefault(object_id, {})
        for other, reader in list(readers.items()):
            if reader.until <= now or other == peer:
                del readers[other]
        served = Counter(reader.source for reader in readers.values())
        self._turn += 1
        turn = self._turn % max(len(stores), 1)
        whole = [*stores[turn:], *stores[:turn]]
        # The newest host of the chain serves nobody yet.
        growing = [reader.address for reader in reversed(readers.values())]
        source = min([*whole, *growing], key=lambda one: served[one])
        readers[peer] = _Reader(address, source, now + self._seconds_max)
        return [source, *[one for one in whole if one != source][: ADDRESSES_MAX - 1]]

    def leave(self, object_id: bytes, peer: bytes) -> None:
        """The fetch of an agent has ended, if there was one."""
        readers = self._readers.get(object_id)
        if readers is not None and readers.pop(peer, None) is not None and not readers:
            del self._readers[object_id]

    def leave_all(self, peer: bytes) -> None:
        """An agent has no connection any more."""
        for object_id in [one for one, readers in self._readers.items() if peer in readers]:
            self.leave(object_id, peer)

    def remove(self, object_id: bytes) -> None:
        """Forget an object, which was deleted."""
        self._readers.pop(object_id, None)

    def __len__(self) -> int:
        return len(self._readers)
