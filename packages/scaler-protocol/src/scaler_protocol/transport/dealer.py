"""The calling end: one DEALER socket to one server, usable from several threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from scaler_protocol.errors import TransportError
from scaler_protocol.transport.sockets import (
    NOBLOCK,
    configure,
    connect,
    descriptor,
    receive_frames,
    send_frames,
    waiting_to_be_received,
)
from scaler_protocol.wire import Frame


class DealerLink:
    """A connected DEALER whose every use is behind a lock, so that the thread that has something may send it.

    A thread sleeps on `fd` (select, poll, or an event loop's reader), never inside ZeroMQ. The descriptor is
    edge-triggered and a *send* can swallow its edge: `send` returns whether something is waiting to be received, and then
    the sender must see to it that the receiver wakes.
    """

    def __init__(
        self,
        address: str,
        identity: bytes,
        *,
        io_threads: int = 1,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self.address = address
        self._owns_context = context is None
        self._context = context if context is not None else zmq.Context(io_threads)
        self._lock = threading.Lock()
        self._closed = False
        self._queue: deque[Sequence[Frame]] = deque()
        self._socket = self._context.socket(zmq.DEALER)
        configure(self._socket, address)
        self._socket.setsockopt(zmq.IDENTITY, identity)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, 5_000)
        try:
            connect(self._socket, address)
        except TransportError:
            self.close()
            raise
        self.fd = descriptor(self._socket)

    @property
    def context(self) -> zmq.Context[Any]:
        return self._context

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send, or queue in order when the socket takes nothing now. Returns whether something waits to be received."""
        with self._lock:
            if self._closed:
                return False
            self._queue.append(frames)
            self._flush_locked()
            return waiting_to_be_received(self._socket)

    def flush(self) -> None:
        """Try again what `send` had to queue."""
        with self._lock:
            if not self._closed:
                self._flush_locked()

    @property
    def has_queued(self) -> bool:
        return bool(self._queue)

    def receive(self, limit: int) -> list[list[Frame]]:
        """Return up to `limit` waiting messages. Fewer than `limit` means that the socket is drained."""
        received: list[list[Frame]] = []
        with self._lock:
            if self._closed:
                return received
            # Looking first is cheaper than the exception that ends every other way of draining.
            while len(received) < limit and waiting_to_be_received(self._socket):
                received.append(receive_frames(self._socket))
        return received

    def readable(self) -> bool:
        with self._lock:
            return not self._closed and waiting_to_be_received(self._socket)

    def close(self, linger_seconds: float = 0.5) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._socket.setsockopt(zmq.LINGER, int(linger_seconds * 1000))
            self._socket.close()
        if self._owns_context:
            self._context.term()

    def _flush_locked(self) -> None:
        queue = self._queue
        while queue:
            try:
                send_frames(self._socket, queue[0], NOBLOCK)
            except zmq.Again:
                return
            queue.popleft()
