"""The serving end: one ROUTER socket for many peers, none of which can block the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Any

import zmq

from scaler_protocol.errors import TransportError
from scaler_protocol.transport.sockets import (
    HIGH_WATER_MARK_MESSAGES,
    NOBLOCK,
    bind,
    configure,
    descriptor,
    receive_frames,
    send_frames,
    waiting_to_be_received,
)
from scaler_protocol.wire import Frame

QUEUE_MESSAGES_MAX = 100_000
QUEUE_BYTES_MAX = 1024**3


class SendOutcome(Enum):
    SENT = "sent"
    QUEUED = "queued"
    """The peer takes nothing right now; kept, in order, for `flush`."""
    GONE = "gone"
    """No connection by that identity: the message was dropped."""
    FULL = "full"
    """The peer's queue is over its bound: the message was dropped. Give the peer up."""


class _PeerQueue:
    __slots__ = ("messages", "size_bytes")

    def __init__(self) -> None:
        self.messages: deque[tuple[int, Sequence[Frame]]] = deque()
        self.size_bytes = 0


class RouterListener:
    """A bound ROUTER. Not thread-safe: one thread owns it.

    `fd` is edge-triggered: after every receive *or send*, look at `readable()` before sleeping on it.
    `high_water_mark` bounds the messages ZeroMQ itself keeps per peer and direction; lower it where messages are large.
    Raises TransportError when the address cannot be bound.
    """

    def __init__(
        self,
        address: str,
        *,
        io_threads: int = 1,
        context: zmq.Context[Any] | None = None,
        high_water_mark: int = HIGH_WATER_MARK_MESSAGES,
    ) -> None:
        self._owns_context = context is None
        self._context = context if context is not None else zmq.Context(io_threads)
        self._socket = self._context.socket(zmq.ROUTER)
        configure(self._socket, address, high_water_mark)
        # Without MANDATORY messages over the high-water mark vanish without a word.
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # Without HANDOVER a peer that reconnects with its identity is muted for ever.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            self.address = bind(self._socket, address)
        except TransportError:
            self.close()
            raise
        self._queues: dict[bytes, _PeerQueue] = {}

    @property
    def context(self) -> zmq.Context[Any]:
        return self._context

    @property
    def fd(self) -> int:
        return descriptor(self._socket)

    def readable(self) -> bool:
        return waiting_to_be_received(self._socket)

    def receive(self, limit: int) -> list[tuple[bytes, list[Frame]]]:
        """Return up to `limit` waiting messages as (peer identity, frames)."""
        received = []
        # Looking first costs half of an exception.
        while limit > 0 and waiting_to_be_received(self._socket):
            frames = receive_frames(self._socket)
            received.append((bytes(frames[0]), frames[1:]))
            limit -= 1
        return received

    def send(self, peer: bytes, frames: Sequence[Frame]) -> SendOutcome:
        """Send to one peer, in order with what is queued for it."""
        queue = self._queues.get(peer)
        if queue is None:
            outcome = self._try_send(peer, frames)
            if outcome is not None:
                return outcome
            queue = self._queues[peer] = _PeerQueue()
        size = sum(len(frame) for frame in frames)
        if len(queue.messages) >= QUEUE_MESSAGES_MAX or queue.size_bytes + size > QUEUE_BYTES_MAX:
            return SendOutcome.FULL
        queue.messages.append((size, frames))
        queue.size_bytes += size
        return SendOutcome.QUEUED

    def flush(self) -> list[bytes]:
        """Try again what is queued; return the peers that turned out to be gone."""
        gone = []
        for peer in list(self._queues):
            queue = self._queues[peer]
            while queue.messages:
                size, frames = queue.messages[0]
                outcome = self._try_send(peer, frames)
                if outcome is None:
                    break
                if outcome is SendOutcome.GONE:
                    gone.append(peer)
                    queue.messages.clear()
                    break
                queue.messages.popleft()
                queue.size_bytes -= size
            if not queue.messages:
                del self._queues[peer]
        return gone

    @property
    def has_queued(self) -> bool:
        """Whether `flush` has anything to do: call it again within milliseconds."""
        return bool(self._queues)

    def forget(self, peer: bytes) -> None:
        """Drop what is queued for a peer that was given up."""
        self._queues.pop(peer, None)

    def close(self) -> None:
        self._socket.close()
        if self._owns_context:
            self._context.term()

    def _try_send(self, peer: bytes, frames: Sequence[Frame]) -> SendOutcome | None:
        try:
            send_frames(self._socket, (peer, *frames), NOBLOCK)
        except zmq.Again:
            return None
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return SendOutcome.GONE
            raise
        return SendOutcome.SENT
