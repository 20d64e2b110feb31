"""How much memory messages may take that have arrived in part, over all connections of a listener.

One message is limited, and so is one connection, but a peer may have many connections and leave each in the middle of a
message. Counted is memory that is held: the pages of a large frame count as its bytes arrive, a smaller buffer from the start.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from scaler_protocol.errors import UnfinishedMessagesError
from scaler_protocol.runtime.memory_limit import memory_limit_bytes

if TYPE_CHECKING:
    from scaler_protocol.security.authority import Authority
    from scaler_protocol.transport.admission import Origin


class _OwnedStream(Protocol):
    @property
    def authority(self) -> Authority | None: ...


class _OwnedPeer(Protocol):
    @property
    def stream(self) -> _OwnedStream: ...

    @property
    def origin(self) -> Origin: ...


class _Stream(_OwnedStream, Protocol):
    @property
    def unfinished_bytes(self) -> int: ...


class _Peer(Protocol):
    @property
    def stream(self) -> _Stream: ...

    @property
    def origin(self) -> Origin: ...


ROOM_PART = 8
"""When the limit is exceeded, this part of it is made free."""

PeerType = TypeVar("PeerType", bound=_Peer)


def half_of_memory() -> int:
    """Return half of the memory in bytes that this process may use."""
    return memory_limit_bytes() // 2


class UnfinishedMessages(Generic[PeerType]):
    """What the connections of a listener hold of messages that have arrived in part.

    Connections are noted only when what was read ends within a message. What is noted may be complete by now: that is looked
    up when the sum exceeds the limit, so that whole messages cost nothing.
    """

    def __init__(self, limit: int, refuse: Callable[[PeerType, UnfinishedMessagesError], None]) -> None:
        """`limit` is in bytes. `refuse` closes a connection, and calls `forget`."""
        self._limit = limit
        self._refuse = refuse
        self._noted: dict[PeerType, int] = {}
        self._arriving: set[PeerType] = set()
        self._total = 0

    def note(self, peer: PeerType) -> None:
        """Bytes of a peer were read and end within a message.

        If all peers hold more than the limit now, connections are closed until they do not: the largest of whoever holds most,
        by its key, or without keys by its address. Raises UnfinishedMessagesError if this peer's is one of them.
        """
        self._arriving.add(peer)
        count = peer.stream.unfinished_bytes
        self._total += count - self._noted.get(peer, 0)
        self._noted[peer] = count
        if self._total > self._limit:
            self._leave_out_complete()
            if self._total > self._limit:
                self._close_largest(peer)

    def forget(self, peer: PeerType) -> None:
        """The connection of a peer has ended."""
        self._total -= self._noted.pop(peer, 0)
        self._arriving.discard(peer)

    def take_arriving(self) -> set[PeerType]:
        """Return the peers that have been noted since the last call."""
        arriving, self._arriving = self._arriving, set()
        return arriving

    def _leave_out_complete(self) -> None:
        counts = {peer: peer.stream.unfinished_bytes for peer in self._noted}
        self._noted = {peer: count for peer, count in counts.items() if count}
        self._total = sum(self._noted.values())

    def _close_largest(self, reading: PeerType) -> None:
        by_owner: dict[bytes | str, list[PeerType]] = {}
        for peer in sorted(self._noted, key=self._noted.__getitem__):
            by_owner.setdefault(owner_of(peer), []).append(peer)
        sums = [(-sum(map(self._noted.__getitem__, peers)), at) for at, peers in enumerate(by_owner.values())]
        heapq.heapify(sums)
        peers_at = list(by_owner.values())
        # Some room is made, or else every further read would go over all connections again.
        enough = self._limit - self._limit // ROOM_PART
        mine: UnfinishedMessagesError | None = None
        while self._total > enough:
            held, at = sums[0]
            peer = peers_at[at].pop()
            count = self._noted[peer]
            heapq.heapreplace(sums, (held + count, at))
            error = UnfinishedMessagesError(self._reason(peer, -held))
            self.forget(peer)
            if peer is reading:
                mine = error
            else:
                self._refuse(peer, error)
        if mine is not None:
            raise mine

    def _reason(self, peer: PeerType, held: int) -> str:
        authority = peer.stream.authority
        whose = f"of the key {authority.name!r}" if authority is not None else "from this address"
        return (
            f"messages that have arrived in part hold {self._total} bytes, the limit is {self._limit}; "
            f"connections {whose} hold most of them, {held}, and this one {self._noted[peer]}"
        )


def owner_of(peer: _OwnedPeer) -> bytes | str:
    """Return whose a connection is: its key, or without keys its address."""
    authority = peer.stream.authority
    return peer.origin.host if authority is None else authority.public
