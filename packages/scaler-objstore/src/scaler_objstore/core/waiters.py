"""The table of gets that wait for an object to arrive."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from scaler_objstore.core.limits import Limits


@dataclass(slots=True, frozen=True)
class Waiter:
    """One waiting get, identified by (peer, request)."""

    peer: bytes
    request: int
    object_id: bytes
    deadline: float
    mappable: bool
    """Whether the answer may be a place instead of bytes."""
    follows: bool = False
    """Whether the answer may be the addresses of homes."""
    pieces: bool = False
    """Whether it may be the layout of a large object."""
    size: int = 0
    """Not 0: it is to be a piece of so many bytes."""
    offset: int = 0
    """Where that begins."""


class Waiters:
    """All waiting gets, by object, by peer and by deadline."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_peer: dict[bytes, dict[int, Waiter]] = {}
        self._by_object: dict[bytes, dict[tuple[bytes, int], Waiter]] = {}
        self._count = 0
        # Entries stay after their waiters have gone. They are recognised and dropped when they come to the front.
        self._deadlines: list[tuple[float, bytes, int]] = []

    def add(self, waiter: Waiter) -> bool:
        """Let a get wait. It replaces one with the same number. Returns False if too many gets wait already."""
        self.remove(waiter.peer, waiter.request)
        of_peer = self._by_peer.get(waiter.peer, {})
        if len(of_peer) >= self._limits.peer_waiters_max or self._count >= self._limits.waiters_max:
            return False
        self._by_peer.setdefault(waiter.peer, {})[waiter.request] = waiter
        self._by_object.setdefault(waiter.object_id, {})[waiter.peer, waiter.request] = waiter
        self._count += 1
        if len(self._deadlines) > 2 * self._count + 1_000:
            self._deadlines = [(w.deadline, w.peer, w.request) for w in self.all()]
            heapq.heapify(self._deadlines)
        else:
            heapq.heappush(self._deadlines, (waiter.deadline, waiter.peer, waiter.request))
        return True

    def remove(self, peer: bytes, request: int) -> None:
        """Forget a get, waiting or not."""
        of_peer = self._by_peer.get(peer)
        waiter = None if of_peer is None else of_peer.pop(request, None)
        if of_peer is None or waiter is None:
            return
        if not of_peer:
            del self._by_peer[peer]
        of_object = self._by_object[waiter.object_id]
        del of_object[peer, request]
        if not of_object:
            del self._by_object[waiter.object_id]
        self._count -= 1

    def remove_peer(self, peer: bytes) -> None:
        """Forget all gets of one peer."""
        for request in list(self._by_peer.get(peer, ())):
            self.remove(peer, request)

    def take_for(self, object_id: bytes) -> list[Waiter]:
        """Return and forget all waiters for this object, in the order of their requests."""
        waiters = list(self._by_object.get(object_id, {}).values())
        for waiter in waiters:
            self.remove(waiter.peer, waiter.request)
        return waiters

    def take_expired(self, now: float) -> list[Waiter]:
        """Return and forget all waiters whose deadline has come."""
        expired = []
        while self.next_deadline() <= now:
            _, peer, request = heapq.heappop(self._deadlines)
            expired.append(self._by_peer[peer][request])
            self.remove(peer, request)
        return expired

    def next_deadline(self) -> float:
        """Return when the next waiter must be answered; inf if there is none."""
        deadlines = self._deadlines
        while deadlines:
            deadline, peer, request = deadlines[0]
            waiter = self._by_peer.get(peer, {}).get(request)
            if waiter is not None and waiter.deadline == deadline:
                return deadline
            heapq.heappop(deadlines)
        return float("inf")

    def count_for(self, object_id: bytes) -> int:
        """Return how many gets wait for an object."""
        return len(self._by_object.get(object_id, ()))

    def objects(self) -> list[bytes]:
        """Return the objects that gets wait for."""
        return list(self._by_object)

    def all(self) -> list[Waiter]:
        """Return every waiter, as found through its peer."""
        return [waiter for of_peer in self._by_peer.values() for waiter in of_peer.values()]

    def __len__(self) -> int:
        return self._count
