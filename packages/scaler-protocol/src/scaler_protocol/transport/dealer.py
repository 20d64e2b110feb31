"""The calling end: one DEALER to one server, connected again whenever the connection is lost, usable from several threads."""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scaler_protocol.errors import RefusedError, WireError
from scaler_protocol.transport.endpoints import begin_connect, is_unknown_host, reason
from scaler_protocol.transport.epoll import IN, OUT, Epoll
from scaler_protocol.transport.stream import Stream
from scaler_protocol.transport.streams import dealer_stream
from scaler_protocol.transport.wakeup import Wakeup
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.05, 2.0
"""Pause before connecting again; doubled each time."""

CLOSED_HANDSHAKES_MAX = 3
"""After so many in a row the address is wrong."""

LONGEST_SLEEP_SECONDS = 60.0

CONNECT_SECONDS_MAX = 10.0
"""How long a connection may take until the handshake is over."""


class DealerLink:
    """Any thread may send. One thread (or event loop) owns the link and receives.

    The owner sleeps in `wait`, or on `fd` if the system has epoll. It calls `receive` when it wakes, and at the latest after
    `retry_seconds`, because only this call connects and sends what the network did not take. Messages sent before there is
    a connection wait for it. Messages in transit when a connection breaks may be lost: a successful send proves nothing.
    """

    def __init__(self, address: str, identity: bytes, security: PeerSecurity | None = None) -> None:
        """Begin to connect. Whether anybody answers is seen later. Raises TransportError if the address is malformed.

        With `security`, the identity must begin with the fingerprint of its own key (`security.keys.pinned_id`).
        """
        self.address = address
        self._identity = identity
        self._security = security
        self._lock = threading.Lock()
        self._closed = False
        self._queue: deque[Sequence[Frame]] = deque()
        """Messages that were not sent; of the first one, a part may have been sent."""
        self._received: deque[list[Frame]] = deque()
        self._stream: Stream | None = None
        self._under_way = False
        """Whether the stream is sending the first message of the queue."""
        self._retry_at = 0.0
        self._pause = RETRY_SECONDS_MIN
        self._connect_deadline = math.inf
        self.trouble = ""
        """Why there is no connection, if that is known."""
        self.nobody_listens = False
        """Whether the host was there at the last attempt and refused the connection: no process listens at the address."""
        self.misdirected = False
        """Whether the address is wrong: there is no such host, or another kind of server answers."""
        self.refusal: RefusedError | None = None
        """Why the other end or this one refuses the connection, if it does: it will again, as long as keys stay the same."""
        self._closed_on_us = 0
        """How often in a row the other end has closed the connection once it knew our key and what our socket is."""
        self.on_refused: Callable[[RefusedError], None] | None = None
        """Called by `receive` for each connection that is refused. Not to use the link: its lock is held."""
        self.has_answered = False
        """Whether anybody answered at a wrong address. If not, its host name may become known later."""
        self._epoll: Epoll | None = None
        self._sleeper = _Sleeper()
        with self._lock:
            self._connect()

    # --- sending

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send, or queue in order if it cannot leave now. Returns whether the owner must be woken for it."""
        with self._lock:
            if self._closed:
                return False
            stream = self._stream
            if stream is not None and stream.ready and not self._queue and not stream.pending:
                try:
                    if stream.send(frames):
                        return False
                except OSError:
                    # The receiver finds the end of the connection after the last message.
                    self._queue.append(frames)
                    return True
                self._under_way = True
            self._queue.append(frames)
            if self._epoll is not None:
                self._watch()
            return True

    def flush(self) -> None:
        """Send queued messages, as far as the network takes them."""
        with self._lock:
            if not self._closed:
                self._attend()

    @property
    def has_queued(self) -> bool:
        """Whether messages are queued because the network did not take them."""
        return bool(self._queue)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known, and its handshake is over."""
        stream = self._stream
        return stream is not None and stream.ready

    # --- receiving

    def receive(self, limit: int) -> list[list[Frame]]:
        """Return up to `limit` waiting messages. Also connects, and sends queued messages."""
        received = self._received
        with self._lock:
            if self._closed:
                return []
            if not received:
                stream = self._stream
                if stream is None or not stream.ready or stream.pending or self._queue:
                    self._attend()
                    stream = self._stream
                if stream is not None:
                    messages = self._read(stream)
                    if len(messages) <= limit:
                        return messages
                    received.extend(messages)
            return [received.popleft() for _ in range(min(limit, len(received)))]

    @property
    def has_received(self) -> bool:
        """Whether `receive` would return more messages at once, although nothing arrives."""
        stream = self._stream
        return bool(self._received) or (stream is not None and not stream.drained)

    def readable(self) -> bool:
        """Whether `receive` has something to do now."""
        return not self._closed and (self.has_received or self.wait(0))

    def retry_seconds(self) -> float:
        """After how many seconds to call `receive` although nothing has woken the owner; infinity for never."""
        deadline = self._retry_at if self._stream is None else self._connect_deadline
        return max(0.0, deadline - time.monotonic())

    # --- sleeping

    @property
    def fd(self) -> int:
        """A descriptor that is readable if `receive` has something to do. It stays the same as long as the link exists.

        Level-triggered. Only on systems with epoll.
        """
        if self._epoll is None:
            with self._lock:
                self._epoll = Epoll()
                if self._stream is not None:
                    self._epoll.register(self._stream.fd, self._events())
        return self._epoll.fileno()

    def wait(
        self, seconds: float, wakeup: Wakeup | None = None, before_sleep: Callable[[], None] | None = None
    ) -> bool:
        """Sleep until `receive` has something to do, `wakeup` is set, or the time is over. Returns whether `receive` has.

        A wake-up that was set is cleared before the return. `before_sleep` is called immediately before sleeping. If it
        sends something that is queued, it must set `wakeup`.
        """
        with self._lock:
            stream = self._stream
            if stream is not None and stream.ready and not (self._closed or self._queue or stream.pending):
                fd, writing, connecting = stream.fd, False, False
            else:
                fd = stream.fd if stream is not None and not self._closed else -1
                writing = self._wants_to_write()
                connecting = stream is None or not stream.ready
        if connecting:
            seconds = min(seconds, self.retry_seconds())
        if self._sleeper.sleep(seconds, fd, writing, wakeup, before_sleep):
            return True
        return connecting and not self.retry_seconds()

    # --- the end

    def redirect(self, address: str) -> None:
        """Connect to another address instead, to which queued messages go. For the link's owner.

        Raises TransportError if the address is wrong.
        """
        self._redirect(address, drops_queued=False)

    def move(self, address: str) -> None:
        """Connect to another address instead, and drop what is queued: it was for the server before. For the link's owner.

        Raises TransportError if the address is wrong.
        """
        self._redirect(address, drops_queued=True)

    def _redirect(self, address: str, *, drops_queued: bool) -> None:
        with self._lock:
            if self._closed or address == self.address:
                return
            self.address = address
            self.misdirected = self.has_answered = False
            if drops_queued:
                self._queue.clear()
            self._pause = RETRY_SECONDS_MIN
            if self._stream is not None:
                self._drop(self._stream)
            self._connect()

    def close(self, linger_seconds: float = 0.5) -> None:
        """Close, after queued messages have had `linger_seconds` to leave. Idempotent."""
        deadline = time.monotonic() + linger_seconds
        while self._queue and self._stream is not None and time.monotonic() < deadline:
            self.wait(min(0.05, linger_seconds))
            self.receive(0)
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._stream is not None:
                self._drop(self._stream)
            if self._epoll is not None:
                self._epoll.close()

    # --- inside; all with the lock held

    def _connect(self) -> None:
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, RETRY_SECONDS_MAX)
        try:
            connecting = begin_connect(self.address)
        except socket.gaierror as error:
            self.trouble = f"the host cannot be found: {reason(error)}"
            self.misdirected = is_unknown_host(error)
            return
        except OSError as error:
            self.trouble, self.misdirected, self.refusal = reason(error), False, None
            self.nobody_listens = isinstance(error, ConnectionRefusedError)
            return
        self._connect_deadline = time.monotonic() + CONNECT_SECONDS_MAX
        self._stream = stream = dealer_stream(connecting, self._identity, self._security)
        if self._epoll is not None:
            self._epoll.register(stream.fd, self._events())

    def _attend(self) -> None:
        """Connect if there is no connection; send queued messages."""
        stream = self._stream
        if stream is None:
            if time.monotonic() >= self._retry_at:
                self._connect()
            return
        if not stream.ready and time.monotonic() >= self._connect_deadline:
            self.trouble, self.misdirected = "what listens there does not answer", False
            self.nobody_listens = False
            self._drop(stream)
            return
        if not stream.pending and not self._queue:
            return
        try:
            self._send_waiting(stream)
        except OSError as error:
            if not stream.ready:
                if not self.misdirected:
                    # What an earlier connection found at a wrong address says more.
                    self.trouble = reason(error)
                self.nobody_listens = isinstance(error, ConnectionRefusedError)
                self._drop(stream)
            return
        if self._epoll is not None:
            self._watch()

    def _send_waiting(self, stream: Stream) -> None:
        if stream.pending and not stream.flush():
            return
        queue = self._queue
        if self._under_way:
            self._under_way = False
            queue.popleft()
        while queue and stream.ready:
            if not stream.send(queue[0]):
                self._under_way = True
                return
            queue.popleft()

    def _read(self, stream: Stream) -> list[list[Frame]]:
        was_ready = stream.ready
        try:
            messages = stream.receive()
        except (OSError, WireError) as error:
            # Malformed bytes close the connection. The next one may be better.
            self.trouble = reason(error)
            self.nobody_listens = not was_ready and isinstance(error, ConnectionRefusedError)
            self.misdirected = self.has_answered = not was_ready and isinstance(error, WireError)
            self.refusal = error if isinstance(error, RefusedError) else None
            if not was_ready and isinstance(error, OSError) and stream.introduced:
                self._on_closed_handshake()
            self._drop(stream)
            if self.refusal is not None and self.on_refused is not None:
                self.on_refused(self.refusal)
            return []
        if stream.pending or not was_ready:
            if stream.ready and not was_ready:
                self.trouble, self.misdirected, self.refusal = "", False, None
                self.nobody_listens = False
                self._closed_on_us = 0
                self._pause = RETRY_SECONDS_MIN
                self._connect_deadline = math.inf
            self._attend()
        return messages

    def _on_closed_handshake(self) -> None:
        """Scaler's servers say why they refuse a key. ZeroMQ's publishers close the connection of what is no subscriber.

        A server that is being stopped may close one, too, but not several in a row.
        """
        self._closed_on_us += 1
        if self._closed_on_us >= CLOSED_HANDSHAKES_MAX:
            self.misdirected = self.has_answered = True
            self.trouble = "what answers there ends the connection without a word, as does what publishes to monitors"

    def _drop(self, stream: Stream) -> None:
        if self._epoll is not None:
            self._epoll.unregister(stream.fd)
        stream.close()
        self._stream = None
        # The next connection sends it from its beginning.
        self._under_way = False
        self._connect_deadline = math.inf
        self._retry_at = time.monotonic() + self._pause

    def _wants_to_write(self) -> bool:
        stream = self._stream
        return stream is not None and (bool(stream.pending) or (stream.ready and bool(self._queue)))

    def _events(self) -> int:
        return IN | OUT if self._wants_to_write() else IN

    def _watch(self) -> None:
        if self._epoll is not None and self._stream is not None:
            self._epoll.modify(self._stream.fd, self._events())


if hasattr(select, "poll"):

    class _Sleeper:
        """Waits with poll, the cheapest call for two descriptors."""

        def __init__(self) -> None:
            self._poll = select.poll()
            self._registered: tuple[int, bool, Wakeup | None] = (-1, False, None)

        def sleep(
            self,
            seconds: float,
            fd: int,
            writing: bool,
            wakeup: Wakeup | None,
            before_sleep: Callable[[], None] | None,
        ) -> bool:
            """Sleep until `fd` can be read (or written) or the wake-up is set; return whether it is `fd`."""
            wanted = (fd, writing, wakeup)
            if wanted != self._registered:
                self._poll = select.poll()
                if fd >= 0:
                    self._poll.register(fd, select.POLLIN | select.POLLOUT if writing else select.POLLIN)
                if wakeup is not None:
                    self._poll.register(wakeup.fileno(), select.POLLIN)
                self._registered = wanted
            found = False
            milliseconds = math.ceil(min(seconds, LONGEST_SLEEP_SECONDS) * 1000)
            if before_sleep is not None:
                before_sleep()
            for ready, _ in self._poll.poll(milliseconds):
                if ready == fd:
                    found = True
                elif wakeup is not None:
                    wakeup.clear()
            return found

else:

    class _Sleeper:  # type: ignore[no-redef]
        """Waits with select, which Windows has. Its exceptional condition is a connection that could not be made."""

        def sleep(
            self,
            seconds: float,
            fd: int,
            writing: bool,
            wakeup: Wakeup | None,
            before_sleep: Callable[[], None] | None,
        ) -> bool:
            readers: list[int] = [fd] if fd >= 0 else []
            writers = readers if writing else []
            if wakeup is not None:
                readers = [*readers, wakeup.fileno()]
            if before_sleep is not None:
                before_sleep()
            if not readers:
                # Windows refuses to select among nothing.
                time.sleep(min(seconds, RETRY_SECONDS_MIN))
                return False
            found = select.select(readers, writers, writers, min(seconds, LONGEST_SLEEP_SECONDS))
            if wakeup is not None and wakeup.fileno() in found[0]:
                wakeup.clear()
            return any(fd in part for part in found)
