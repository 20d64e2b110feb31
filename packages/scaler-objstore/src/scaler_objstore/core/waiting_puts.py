"""The queue of puts that wait for room in memory, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scaler_objstore.core.peers import Peer
from scaler_protocol.wire import messages as m


@dataclass(slots=True, frozen=True)
class WaitingPut:
    """A put that has not been answered, identified by (address, request)."""

    address: bytes
    peer: Peer
    message: m.ObjectPut
    size_bytes: int
    """The memory it needs."""
    deadline: float


class WaitingPuts:
    """At most `count_max` puts of at most `bytes_max` together. One may wait in any case."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._puts: dict[tuple[bytes, int], WaitingPut] = {}
        self._bytes = 0

    def add(self, put: WaitingPut) -> bool:
        """Let a put wait. Returns False if too many wait. A repeated one keeps its turn and its deadline."""
        key = put.address, put.message.request
        if key in self._puts:
            return True
        if self._puts and (len(self._puts) >= self._count_max or self._bytes + put.size_bytes > self._bytes_max):
            return False
        self._puts[key] = put
        self._bytes += put.size_bytes
        return True

    def first(self) -> WaitingPut | None:
        """Return the put whose turn it is; None if none waits."""
        return next(iter(self._puts.values()), None)

    def remove(self, put: WaitingPut) -> None:
        """Forget a put that waits."""
        del self._puts[put.address, put.message.request]
        self._bytes -= put.size_bytes

    def remove_peer(self, address: bytes) -> None:
        """Forget all puts of one peer."""
        for put in [put for put in self._puts.values() if put.address == address]:
            self.remove(put)

    def next_deadline(self) -> float:
        """When the first one must be answered; inf if none waits. All wait equally long, so none is due before."""
        first = self.first()
        return float("inf") if first is None else first.deadline

    def all(self) -> Iterable[WaitingPut]:
        """Return every put that waits."""
        return self._puts.values()

    @property
    def bytes(self) -> int:
        """The memory that they need together."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._puts)
