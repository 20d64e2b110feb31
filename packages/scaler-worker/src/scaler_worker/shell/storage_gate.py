"""Carries large values between object storage and clients inside tasks whose processors may not read the worker's key.

    client in a task ──local socket, no keys──▶ StorageGate ──one DealerLink for each, with the worker's key──▶ object storage

It has a thread of its own, so encrypting large values does not delay the agent. Each local connection has a link of its own, so
answers find their way without a table. A client that does not take its answers stops only its own link. It is not read while that
link has something to send, so nothing is queued here but what was read in one turn. Together they hold at most
`HELD_BYTES_MAX`, or one message where that is larger, and what is read of each in one turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaler_protocol.errors import TransportError, WireError
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.security.carried_requests import CarriedRequests
from scaler_protocol.service.occurrences import Occurrences
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.transport.endpoints import listen, prepare
from scaler_protocol.transport.epoll import IN, OUT, Epoll
from scaler_protocol.transport.stream import Stream
from scaler_protocol.transport.wakeup import Wakeup
from scaler_protocol.transport.zmtp import Decoder, SocketType
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Frame
from scaler_worker.fences.private_folders import let_through, make_own_folder
from scaler_worker.fences.removal import remove_folder
from scaler_worker.shell.peer_processes import processor_of

if TYPE_CHECKING:
    import socket

    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger(__name__)

PREFIX = "scaler-storage"
"""Of the folder that the socket is in."""

CONNECTIONS_MAX = 256
"""Most connections of clients inside tasks. A processor has one, however many clients its tasks make."""

SHARE_MAX = 16
"""Most connections of one processor and what it has started. If there are `CONNECTIONS_MAX`, that with the most loses one to
another that has fewer."""

HELD_BYTES_MAX = 512 * 1024 * 1024
"""Bytes of messages that arrive and of those that wait for object storage, of all connections. While there are more, only one
of the messages that have arrived in part goes on arriving: this memory is the agent's, and no fence of the tasks counts it."""

STALL_SECONDS = 10.0
"""How long that one message may stop: others wait for it."""

BACKLOG = 64
EVENTS_MAX = 64
ANSWERS_MAX = 16
"""Answers taken from a link at once."""

HELLO_SECONDS = 10.0
"""How long a connection may take until it has said whose it is."""

TICK_SECONDS = 0.5
"""How often links are looked after that are lost, or whose connection takes nothing."""

PAUSE_SECONDS_MAX = 30.0
"""The longest pause of the thread after something unexpected. The first is `TICK_SECONDS`; it is doubled each time in a row."""

END_SECONDS = 2.0
"""How long closing waits for the thread."""


class _Connection:
    """One client inside a task, and its link to object storage. Raises OSError and WireError when the client's end is over."""

    def __init__(self, connected: socket.socket, link: DealerLink, requests: CarriedRequests, processor: int) -> None:
        self._decoder = Decoder(SocketType.ROUTER)
        self.stream = Stream(connected, self._decoder)
        self.link = link
        self.requests = requests
        self.processor = processor
        """Whose share it is of."""
        self.watched = 0
        self.is_link_watched = False
        self.hello_deadline = time.monotonic() + HELLO_SECONDS
        self.read_at = 0.0
        """When something was last read from the client."""
        self._queued_bytes = 0
        self._answers: deque[Sequence[Frame]] = deque()

    @property
    def is_behind(self) -> bool:
        """Whether the client has not taken all answers."""
        return bool(self._answers) or bool(self.stream.pending)

    @property
    def arriving_bytes(self) -> int:
        """Bytes of a message that has arrived in part; 0 if there is none."""
        return self._decoder.arriving_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of what has come from the client and not left for object storage."""
        return self._queued_bytes + self.arriving_bytes

    def answer(self) -> None:
        """Pass on what object storage has sent, as far as the client takes it. Also connects the link and sends what waits."""
        self._flush()
        if self._answers:
            # These wait for the client, and whatever else has come waits in the link.
            self.link.flush()
        else:
            for frames in self.link.receive(ANSWERS_MAX):
                self._answers.append(_for_another_user(frames))
            self._flush()
        if not self.link.has_queued:
            self._queued_bytes = 0

    def take(self) -> str | None:
        """Read what the client has sent, and pass it on. Returns how it breaks the rules, if it does."""
        self.read_at = time.monotonic()
        for frames in self.stream.receive():
            reason = self.requests.violation(decode(frames[1:]))
            if reason is not None:
                return reason
            if self.link.send(frames) and self.link.has_queued:
                self._queued_bytes += sum(map(len, frames))
        self._flush()
        return None

    def _flush(self) -> None:
        stream, answers = self.stream, self._answers
        if stream.pending and not stream.flush():
            return
        while answers:
            if not stream.send(answers.popleft()):
                return

    def close(self) -> None:
        """Close both ends. What the client has sent last, deletions above all, still leaves if the network takes it now."""
        self.stream.close()
        self.link.flush()
        self.link.close(linger_seconds=0.0)


class StorageGate:
    """Listens from the start, at `address`, to processes of one user. Raises OSError and TransportError."""

    def __init__(self, security: PeerSecurity, owner: tuple[int, int], is_processor: Callable[[int], bool]) -> None:
        """`owner`: the (user, group) of the processors. `is_processor`: whether a process id is that of one; from any thread."""
        self._security = security
        self._is_processor = is_processor
        self._folder = make_own_folder(PREFIX, Path(tempfile.gettempdir()))
        path = f"{self._folder}/socket"
        with contextlib.ExitStack() as undo:
            undo.callback(remove_folder, self._folder)
            let_through(self._folder)
            (self._listener,), self.address = listen(f"ipc://{path}", BACKLOG)
            undo.callback(self._listener.close)
            os.chmod(path, 0o600)
            os.chown(path, *owner)
            undo.pop_all()
        self._storage_address = ""
        self._wakeup = Wakeup()
        self._epoll = Epoll()
        self._epoll.register(self._listener.fileno(), IN)
        self._epoll.register(self._wakeup.fileno(), IN)
        self._connections: dict[int, _Connection] = {}
        """By the descriptors of both ends."""
        self._arriving: dict[_Connection, None] = {}
        """Those whose message has arrived in part, in the order in which these began."""
        self._first: _Connection | None = None
        """While too much is held: the only one of these that is read."""
        self._first_at = 0.0
        self._is_listening = True
        self._tick_at = 0.0
        self._refusals = Occurrences(logger, "connections of clients inside tasks were closed; the last")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scaler-storage-gate", daemon=True)
        self._thread.start()

    def follow(self, address: str) -> None:
        """Object storage is at this address now; empty for nowhere. From any thread."""
        self._storage_address = address
        self._wakeup.set()

    def close(self) -> None:
        """Close everything. Idempotent."""
        self._closing.set()
        self._wakeup.set()
        self._thread.join(END_SECONDS)
        remove_folder(self._folder)

    # --- the thread

    def _run(self) -> None:
        pause_seconds = TICK_SECONDS
        try:
            while not self._closing.is_set():
                try:
                    self._turn()
                    pause_seconds = TICK_SECONDS
                except Exception:
                    logger.exception("carrying large values of clients inside tasks has failed; it goes on")
                    self._closing.wait(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
        finally:
            for connection in self._distinct():
                self._close(connection)
            self._listener.close()
            self._epoll.close()
            self._wakeup.close()

    def _turn(self) -> None:
        connections = self._distinct()
        # What a link holds already, no descriptor shows.
        due = [each for each in connections if each.link.has_received and not each.is_behind]
        seconds = 0 if due else TICK_SECONDS if connections or not self._is_listening else -1
        ready = dict(self._epoll.poll(seconds, EVENTS_MAX))
        if ready.pop(self._wakeup.fileno(), 0):
            self._wakeup.clear()
            self._follow(connections)
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick_at = now + TICK_SECONDS
            due = connections
            self._listen(True)
        if ready.pop(self._listener.fileno(), 0):
            self._accept()
        found = (self._connections[fd] for fd in ready if fd in self._connections)
        for connection in dict.fromkeys((*due, *found)):
            if connection.stream.fd in self._connections:
                with self._unexpected_closes(connection):
                    self._work(connection, ready.get(connection.stream.fd, 0))
        self._hold_or_release(now)

    @contextlib.contextmanager
    def _unexpected_closes(self, connection: _Connection) -> Iterator[None]:
        """Close the connection if an error comes that nobody expects, so that it is no other's."""
        try:
            yield
        except Exception as error:
            logger.debug("a connection of a client inside a task has failed", exc_info=True)
            self._refusals.note(f"it cannot be served: {type(error).__name__}: {error}")
            self._close(connection)

    def _work(self, connection: _Connection, found: int) -> None:
        """Do for a connection all that can be done now. `found`: what was seen of its client's end."""
        reason: str | None = ""
        with contextlib.suppress(OSError):
            try:
                connection.answer()
                # The end of a client is seen although nothing is to be read from it now: then it has gone.
                if connection.watched & IN or not found & ~OUT:
                    reason = connection.take() if found & ~OUT else None
            except WireError as error:
                reason = f"sends what cannot be read: {error}"
            if reason is None and not connection.requests.is_introduced:
                reason = "does not say whose it is" if time.monotonic() > connection.hello_deadline else None
        if reason is None:
            if not connection.arriving_bytes:
                self._arriving.pop(connection, None)
            elif connection not in self._arriving:
                self._arriving[connection] = None
            self._watch(connection)
            return
        if reason:
            self._refusals.note(f"it {reason}")
        self._close(connection)

    def _listen(self, is_listening: bool) -> None:
        if is_listening is not self._is_listening:
            self._is_listening = is_listening
            if is_listening:
                self._epoll.register(self._listener.fileno(), IN)
            else:
                self._epoll.unregister(self._listener.fileno())

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Mostly there are no descriptors left: until the next tick, the system keeps who wants to connect.
            self._refusals.note(f"it cannot be accepted: {error}")
            self._listen(False)
            return
        link: DealerLink | None = None
        try:
            if not self._storage_address:
                raise TransportError("there is no object storage server")
            processor = processor_of(connected, self._is_processor)
            self._make_room(processor)
            prepare(connected)
            prefix = self._security.identity_prefix
            link = DealerLink(self._storage_address, new_id(prefix), self._security)
            connection = _Connection(connected, link, CarriedRequests(prefix), processor)
            self._connections[link.fd] = self._connections[connection.stream.fd] = connection
        except (OSError, TransportError) as error:
            self._refusals.note(f"it cannot be served: {error}")
            connected.close()
            if link is not None:
                link.close(0.0)
            return
        with self._unexpected_closes(connection):
            self._epoll.register(connection.stream.fd, 0)
            self._work(connection, 0)

    def _make_room(self, processor: int) -> None:
        """Raise TransportError unless this processor may have one connection more."""
        connections = self._distinct()
        counts = Counter(each.processor for each in connections)
        if counts[processor] >= SHARE_MAX:
            raise TransportError(f"its processor has {SHARE_MAX} others")
        if len(connections) < CONNECTIONS_MAX:
            return
        ((largest, count),) = counts.most_common(1)
        if counts[processor] + 1 >= count:
            raise TransportError(f"there are {CONNECTIONS_MAX} others")
        self._refusals.note("another processor had fewer")
        self._close(next(each for each in reversed(connections) if each.processor == largest))

    def _watch(self, connection: _Connection) -> None:
        """Wait for what can be done next: a full link is not filled further, and a client that is behind gets nothing more."""
        is_behind = connection.is_behind
        is_held = self._first is not None and connection is not self._first and connection in self._arriving
        takes_more = not connection.link.has_queued and not is_held
        watched = (OUT if is_behind else 0) | (IN if takes_more else 0)
        if watched != connection.watched:
            connection.watched = watched
            self._epoll.modify(connection.stream.fd, watched)
        if is_behind is connection.is_link_watched:
            connection.is_link_watched = not is_behind
            if is_behind:
                self._epoll.unregister(connection.link.fd)
            else:
                self._epoll.register(connection.link.fd, IN)

    def _hold_or_release(self, now: float) -> None:
        """While too much is held, let only one of the messages that have arrived in part go on arriving."""
        is_full = sum(each.held_bytes for each in self._distinct()) > HELD_BYTES_MAX
        first = next(iter(self._arriving), None) if is_full else None
        if first is not self._first:
            self._first, self._first_at = first, now
            for connection in list(self._arriving):
                with self._unexpected_closes(connection):
                    self._watch(connection)
        elif first is not None and first.watched & IN and now > max(first.read_at, self._first_at) + STALL_SECONDS:
            self._refusals.note("it stops in the middle of a message")
            self._close(first)

    def _follow(self, connections: Sequence[_Connection]) -> None:
        address = self._storage_address
        for connection in connections:
            with self._unexpected_closes(connection):
                try:
                    if not address:
                        raise TransportError("there is none")
                    connection.link.redirect(address)
                except TransportError as error:
                    self._refusals.note(f"object storage cannot be reached: {error}")
                    self._close(connection)

    def _distinct(self) -> list[_Connection]:
        return list(dict.fromkeys(self._connections.values()))

    def _close(self, connection: _Connection) -> None:
        if self._connections.pop(connection.stream.fd, None) is None:
            return
        del self._connections[connection.link.fd]
        self._arriving.pop(connection, None)
        try:
            # It may have come here before it was watched.
            with contextlib.suppress(OSError):
                self._epoll.unregister(connection.stream.fd)
            if connection.is_link_watched:
                self._epoll.unregister(connection.link.fd)
        finally:
            connection.close()


def _for_another_user(frames: list[Frame]) -> Sequence[Frame]:
    """Take out where the server's memory is: it is not for processes of another user. Raises WireError."""
    message = decode(frames[1:])
    if isinstance(message, m.Welcome) and message.segment_offer:
        message.segment_offer = b""
        return [frames[0], *encode(message)]
    return frames
