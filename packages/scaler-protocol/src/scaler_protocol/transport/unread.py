"""How much memory messages may take that wait for peers which do not read, over all connections of a listener.

The queue of one connection is limited, but a peer may have many. And it may have objects deleted that wait to be sent to it:
then nobody else counts them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from scaler_protocol.transport.admission import RefusalKind
from scaler_protocol.transport.unfinished import owner_of

if TYPE_CHECKING:
    from scaler_protocol.security.authority import Authority
    from scaler_protocol.transport.admission import Origin
    from scaler_protocol.wire.envelope import Frame

INTERVAL_PART = 8
"""Memory is counted again when this part of the limit has been queued."""

FRAME_OVERHEAD_BYTES = 64
"""What an object of bytes takes beside its content, about."""


class _Stream(Protocol):
    @property
    def authority(self) -> Authority | None: ...

    @property
    def sealed_bytes(self) -> int: ...


class _Peer(Protocol):
    @property
    def stream(self) -> _Stream: ...

    @property
    def origin(self) -> Origin: ...

    @property
    def queue(self) -> deque[tuple[int, Sequence[Frame]]]: ...

    @property
    def queue_bytes(self) -> int: ...


PeerType = TypeVar("PeerType", bound=_Peer)


class UnreadMessages(Generic[PeerType]):
    """Closes the connections of whoever has most messages waiting, if all of them take too much memory.

    Messages to several peers may consist of the same bytes. These count once, so they are counted only now and then.
    """

    def __init__(
        self, limit: int, peers: Collection[PeerType], refuse: Callable[[PeerType, RefusalKind, str], None]
    ) -> None:
        """`peers`: those that messages wait for, always up to date. `refuse` closes a connection."""
        self._limit = limit
        self._peers = peers
        self._refuse = refuse
        self._queued_bytes = 0

    def note(self, size: int) -> None:
        """A message of so many bytes was queued."""
        self._queued_bytes += size
        if self._queued_bytes > self._limit // INTERVAL_PART:
            self._queued_bytes = 0
            while (held := _held_bytes(self._peers)) > self._limit:
                self._close_largest(held)

    def _close_largest(self, held: int) -> None:
        """Close the largest connections of whoever has most: half of what waits there."""
        by_owner: dict[bytes | str, list[PeerType]] = {}
        for peer in self._peers:
            by_owner.setdefault(owner_of(peer), []).append(peer)
        peers, size = max(
            ((peers, sum(map(_size, peers))) for peers in by_owner.values()),
            key=lambda peers_and_size: peers_and_size[1],
        )
        left = size
        for peer in sorted(peers, key=_size, reverse=True):
            left -= _size(peer)
            self._refuse(
                peer,
                RefusalKind.UNREAD,
                f"messages that are not read hold {held} bytes, the limit is {self._limit}; "
                f"{size} of them wait for this key or address, {_size(peer)} at this connection",
            )
            if left <= size // 2:
                return


def _size(peer: _Peer) -> int:
    return peer.queue_bytes + peer.stream.sealed_bytes


def _held_bytes(peers: Collection[_Peer]) -> int:
    sizes: dict[int, int] = {}
    held = 0
    for peer in peers:
        held += peer.stream.sealed_bytes
        for _, frames in peer.queue:
            for frame in frames:
                # Views of the same buffer are made anew for each message.
                sizes[id(frame.obj if isinstance(frame, memoryview) else frame)] = len(frame) + FRAME_OVERHEAD_BYTES
    return held + sum(sizes.values())
