"""The serving end: one ROUTER for many peers, none of which can block the others."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from scaler_protocol.errors import WireError
from scaler_protocol.transport.admission import Admission, OnRefused, Origin, RefusalKind, kind_of
from scaler_protocol.transport.endpoints import listen, prepare
from scaler_protocol.transport.epoll import IN, OUT, Epoll
from scaler_protocol.transport.limits import ACCEPT_EVENTS, ListenerLimits
from scaler_protocol.transport.stream import Stream
from scaler_protocol.transport.streams import router_streams
from scaler_protocol.transport.unfinished import UnfinishedMessages, half_of_memory
from scaler_protocol.transport.unread import FRAME_OVERHEAD_BYTES, UnreadMessages
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    import socket

    from scaler_protocol.security.authority import Authority
    from scaler_protocol.security.credentials import ServerSecurity

LIMITS = ListenerLimits()
"""Of a listener that is told no others."""

QUEUE_BYTES_MAX = 1024**3
"""Most bytes of messages that wait for one peer."""

BACKLOG = 4096
"""Connections that the system queues: after a restart, all peers connect at once."""

HANDSHAKE_SECONDS_MAX = 10.0
"""How long a connection may take until it has sent its identity."""

ACCEPT_PAUSE_SECONDS = 1.0
"""Pause after the process has run out of descriptors. During it, connections have no longer for their handshake."""

_ANONYMOUS_BYTES = 4


class SendOutcome(Enum):
    """What happened to a message given to `send`."""

    SENT = "sent"
    QUEUED = "queued"
    """The peer takes nothing now. The message is queued and sent later, in order."""
    GONE = "gone"
    """No connection has this identity. The message was dropped."""
    FULL = "full"
    """The peer's queue is full. The message was dropped. Give the peer up."""


class _Peer:
    """One connection and its queue of messages to send."""

    __slots__ = ("accepted_at", "identity", "origin", "queue", "queue_bytes", "stream", "under_way", "watched")

    def __init__(self, stream: Stream, origin: Origin, accepted_at: float) -> None:
        self.stream = stream
        self.origin = origin
        self.accepted_at = accepted_at
        self.identity = b""
        self.queue: deque[tuple[int, Sequence[Frame]]] = deque()
        self.queue_bytes = 0
        self.under_way = False
        """Whether the stream is sending the first message of the queue."""
        self.watched = IN

    def drop_queue(self) -> None:
        """Forget what was to be sent."""
        self.queue.clear()
        self.queue_bytes = 0
        self.under_way = False

    def watch(self, epoll: Epoll, wanted: int) -> None:
        """Be told of these events of the connection."""
        if wanted != self.watched:
            self.watched = wanted
            epoll.modify(self.stream.fd, wanted)


class RouterListener:
    """A bound ROUTER. Not thread-safe: one thread owns it.

    Sleep in `wait`, or on `fd` if the system has epoll, and then call `receive`: it accepts connections, reads, and sends
    queued messages. `fd` is readable if `receive` has something to do. Raises TransportError if the address cannot be bound.
    """

    def __init__(
        self,
        address: str,
        on_taken: Callable[[], None] | None = None,
        *,
        security: ServerSecurity | None = None,
        on_refused: OnRefused | None = None,
        on_connected: Callable[[bytes], None] | None = None,
        on_ended: Callable[[bytes], None] | None = None,
        limits: ListenerLimits = LIMITS,
        new_stream: Callable[[socket.socket], Stream] | None = None,
    ) -> None:
        """`on_taken` is called if a message of an `InProcessLink` waits for `receive`, which `fd` does not show.

        With `security`, peers must have a key that it knows. `on_refused` is called for each connection that is refused or
        closed for what it sent, `on_connected` with the identity of each whose handshake is over, `on_ended` with that of each
        which has ended: the peer may have another one since. `new_stream` makes the streams of connections, if they are not
        those of a ROUTER.
        """
        self._security = security
        self._new_stream = new_stream or router_streams(security)
        self._admission = Admission(limits, on_refused)
        self._on_connected = on_connected
        self._on_ended = on_ended
        self._half_open_max, self._events_max = limits.half_open, limits.events
        self._read_seconds = limits.read_seconds
        self._queue_messages_max = limits.queue_messages
        self._unfinished = UnfinishedMessages[_Peer](limits.unfinished_bytes or half_of_memory(), self._refuse_for)
        listeners, self.address = listen(address, BACKLOG)
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._epoll = Epoll()
        self._watch_listeners()
        self._peers: dict[int, _Peer] = {}
        """By descriptor."""
        self._by_identity: dict[bytes, _Peer] = {}
        self._authorities: dict[bytes, Authority] = {}
        """By identity, with keys only. Also of peers that have gone, until their messages were received and the next turn."""
        self._departed: list[bytes] = []
        self._same_process: dict[bytes, Callable[[Sequence[Frame]], None]] = {}
        """By identity: the functions that take messages for peers in this thread."""
        self._on_taken = on_taken
        self._looked_away = False
        """Whether the last `receive` returned waiting messages without reading the sockets."""
        self._unknown_peers: dict[_Peer, None] = {}
        """Connections that have not sent their identity, oldest first."""
        self._queued: dict[_Peer, None] = {}
        self._unread = UnreadMessages(limits.unread_bytes or half_of_memory(), self._queued, self._refuse)
        self._gone: list[bytes] = []
        self._received: list[tuple[bytes, list[Frame]]] = []
        self._ready: list[tuple[int, int]] = []
        """What `wait` has found."""
        self._accept_again_at: float | None = None
        self._closed = False

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable when `receive` has something to do."""
        return self._epoll.fileno()

    def readable(self) -> bool:
        """Whether `receive` has something to do now."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Sleep until `receive` has something to do or so many seconds; return whether it has."""
        if not self._received and not self._ready:
            self._ready = self._epoll.poll(seconds, self._events_max)
        return bool(self._received) or bool(self._ready)

    @property
    def has_received(self) -> bool:
        """Whether `receive` would return more messages at once, although nothing arrives. `fd` does not show this."""
        return bool(self._received)

    def receive(self, limit: int) -> list[tuple[bytes, list[Frame]]]:
        """Return up to `limit` waiting messages as (peer identity, frames), and do everything else that connections need."""
        received = self._received
        if self._departed and not received:
            self._forget_departed()
        # If peers in this thread send all the time, the sockets are read every other time.
        if received and (len(received) >= limit or not self._looked_away):
            self._looked_away = True
        else:
            self._looked_away = False
            ready = self._ready or self._epoll.poll(0, self._events_max)
            self._ready = []
            until = time.monotonic() + self._read_seconds
            for place, (fd, events) in enumerate(ready):
                if len(received) > limit or (place and time.monotonic() >= until):
                    # These are read next: what one turn has to handle must not grow with the number of peers.
                    self._ready = ready[place:]
                    break
                peer = self._peers.get(fd)
                if peer is None:
                    self._accept(fd, until)
                    continue
                if events & ~OUT:
                    self._read(peer)
                if events & OUT:
                    self._flush(peer)
            if self._unknown_peers or self._accept_again_at is not None:
                self._look_after_unknown_peers()
        if len(received) <= limit:
            self._received = []
            return received
        self._received = received[limit:]
        return received[:limit]

    def take_arriving(self) -> list[bytes]:
        """Return the peers of which a part of a message has come since the last call. What came may be whole by now."""
        return [peer.identity for peer in self._unfinished.take_arriving() if peer.identity]

    def put_back(self, messages: list[tuple[bytes, list[Frame]]]) -> None:
        """Take back what `receive` returned last: these messages are the next ones."""
        self._received = messages + self._received

    def send(self, identity: bytes, frames: Sequence[Frame]) -> SendOutcome:
        """Send to one peer, in order with what is queued for it."""
        peer = self._by_identity.get(identity)
        if peer is None:
            take = self._same_process.get(identity)
            if take is None:
                return SendOutcome.GONE
            take(frames)
            return SendOutcome.SENT
        queue, stream = peer.queue, peer.stream
        if not queue and not stream.pending:
            try:
                if stream.send(frames):
                    return SendOutcome.SENT
            except OSError:
                self._lose(peer)
                return SendOutcome.GONE
            peer.under_way = True
        size = sum(map(len, frames)) + FRAME_OVERHEAD_BYTES * len(frames)
        if queue and (len(queue) >= self._queue_messages_max or peer.queue_bytes + size > QUEUE_BYTES_MAX):
            return SendOutcome.FULL
        queue.append((size, frames))
        peer.queue_bytes += size
        self._queued[peer] = None
        peer.watch(self._epoll, IN | OUT)
        self._unread.note(size)
        return SendOutcome.QUEUED

    def flush(self) -> list[bytes]:
        """Send queued messages; return the peers that are gone although messages were queued for them."""
        for peer in list(self._queued):
            self._flush(peer)
        gone, self._gone = self._gone, []
        return gone

    @property
    def has_queued(self) -> bool:
        """Whether `flush` has anything to send or to return."""
        return bool(self._queued) or bool(self._gone)

    def forget(self, identity: bytes) -> None:
        """Drop the connection and the queue of a peer that was given up."""
        peer = self._by_identity.get(identity)
        if peer is not None and peer.queue:
            self._close(peer)

    def disconnect(self, identity: bytes) -> None:
        """Close the connection of a peer that breaks the protocol, and drop what it has sent. It may connect again."""
        self._same_process.pop(identity, None)
        self._drop_received(identity)
        peer = self._by_identity.get(identity)
        if peer is not None:
            self._close(peer)

    def refuse(self, identity: bytes, kind: RefusalKind, reason: str) -> None:
        """Close the connection of a peer that asks for too much, and say so as of any other that is refused."""
        peer = self._by_identity.get(identity)
        if peer is not None:
            self._drop_queue(peer)
            self._refuse(peer, kind, reason)

    def address_of(self, identity: bytes) -> str:
        """Return where the connection of a peer comes from, for people; empty if there is none."""
        peer = self._by_identity.get(identity)
        if peer is None:
            return "this process" if identity in self._same_process else ""
        return peer.origin.text

    def close(self) -> None:
        """Close all connections. Bytes that the system has taken still arrive. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for peer in list(self._peers.values()):
            self._close(peer)
        self._same_process.clear()
        for listener in self._listeners.values():
            listener.close()
        _remove_socket_file(self.address)
        self._epoll.close()

    # --- keys

    def authority_of(self, identity: bytes) -> Authority | None:
        """Return whose key this peer has proven to have; None without keys, or if there is no such peer.

        A peer that has gone still counts until the call of `receive` after the one that returned its last message.
        """
        return self._authorities.get(identity)

    def refresh_authorities(self) -> None:
        """The keys that are let in have changed: close the connections of those that no longer are, drop what they have sent."""
        security = self._security
        if security is None:
            return
        for identity, before in list(self._authorities.items()):
            now = security.authority(before.public)
            if now is not None:
                self._authorities[identity] = now
                continue
            del self._authorities[identity]
            self._drop_received(identity)
            if (peer := self._by_identity.get(identity)) is not None:
                self._admission.refuse(peer.origin, RefusalKind.REVOKED, f"the key of {before.name!r} was revoked")
                self._close(peer)

    @property
    def refused(self) -> int:
        """How many connections were refused or closed for what they sent."""
        return self._admission.refused

    # --- peers in this thread, see `InProcessLink`

    def admit(self, identity: bytes, take: Callable[[Sequence[Frame]], None]) -> None:
        """Add a peer of this thread; `take` gets the messages to it. An earlier peer with this identity is disconnected."""
        if not self._closed and self._same_process.get(identity) != take:
            self._displace(identity)
            self._same_process[identity] = take

    def take(self, identity: bytes, take: Callable[[Sequence[Frame]], None], frames: list[Frame]) -> None:
        """Take a message of such a peer. If the peer is not connected, the message is dropped."""
        if self._closed or self._same_process.get(identity) != take:
            return
        if not self._received and self._on_taken is not None:
            self._on_taken()
        self._received.append((identity, frames))

    def dismiss(self, identity: bytes, take: Callable[[Sequence[Frame]], None]) -> None:
        """End the connection of such a peer, if it is still connected."""
        if self._same_process.get(identity) == take:
            del self._same_process[identity]

    # --- private

    def _watch_listeners(self) -> None:
        for fd in self._listeners:
            self._epoll.register(fd, IN)

    def _accept(self, fd: int, until: float) -> None:
        listener = self._listeners.get(fd)
        # If there is none, it is a peer that was closed earlier in this turn.
        if listener is None:
            return
        for place in range(self._events_max // ACCEPT_EVENTS):
            if place and time.monotonic() >= until:
                return
            try:
                connected, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    # The connection stays in the system's queue and the descriptor readable, so stop watching it for a while.
                    if self._accept_again_at is None:
                        for each in self._listeners:
                            self._epoll.unregister(each)
                    self._accept_again_at = time.monotonic() + ACCEPT_PAUSE_SECONDS
                    self._admission.note_exhausted(error, len(self._peers))
                    return
                # The peer gave the connection up before it was accepted.
                continue
            origin = Origin(address)
            if not self._admission.enter(origin):
                connected.close()
                continue
            try:
                prepare(connected)
            except OSError:
                self._admission.leave(origin)  # The peer has given up since.
                connected.close()
                continue
            peer = _Peer(self._new_stream(connected), origin, time.monotonic())
            peer.stream.watch_unfinished(partial(self._unfinished.note, peer))
            self._peers[peer.stream.fd] = peer
            self._unknown_peers[peer] = None
            self._epoll.register(peer.stream.fd, IN)
            self._flush(peer)
            if len(self._unknown_peers) > (limit := self._half_open_max):
                reason = f"{limit} other connections are in their handshake"
                self._refuse(next(iter(self._unknown_peers)), RefusalKind.HANDSHAKE_TIME, reason)

    def _read(self, peer: _Peer) -> None:
        stream = peer.stream
        try:
            messages = stream.receive()
        except OSError:
            self._lose(peer)
            self._close(peer)
            return
        except WireError as error:
            # Malformed bytes close only this connection.
            stream.say_goodbye()
            self._refuse_for(peer, error)
            return
        if not peer.identity and stream.ready:
            self._introduce(peer)
            if not peer.identity:
                return
        identity = peer.identity
        for frames in messages:
            self._received.append((identity, frames))
        if stream.pending:
            self._flush(peer)

    def _introduce(self, peer: _Peer) -> None:
        """The peer has sent its identity. An earlier peer with this identity is disconnected."""
        self._unknown_peers.pop(peer, None)
        authority = peer.stream.authority
        if authority is not None:
            before = self._authorities.get(peer.stream.peer_identity)
            if before is not None and before.public != authority.public:
                self._refuse(peer, RefusalKind.IDENTITY, "its identity belongs to a peer with another key")
                return
            self._authorities[peer.stream.peer_identity] = authority
        # Identities that begin with zero are for peers that did not choose one.
        peer.identity = peer.stream.peer_identity or b"\0" + os.urandom(_ANONYMOUS_BYTES)
        self._displace(peer.identity)
        self._by_identity[peer.identity] = peer
        if self._on_connected is not None:
            self._on_connected(peer.identity)

    def _displace(self, identity: bytes) -> None:
        self._same_process.pop(identity, None)
        before = self._by_identity.get(identity)
        if before is not None:
            self._read(before)
            self._close(before)

    def _flush(self, peer: _Peer) -> None:
        stream, queue = peer.stream, peer.queue
        try:
            if not stream.pending or stream.flush():
                if peer.under_way:
                    peer.under_way = False
                    peer.queue_bytes -= queue.popleft()[0]
                while queue:
                    if not stream.send(queue[0][1]):
                        peer.under_way = True
                        break
                    peer.queue_bytes -= queue.popleft()[0]
        except OSError:
            self._lose(peer)
            return
        if not queue:
            self._queued.pop(peer, None)
        peer.watch(self._epoll, IN | OUT if peer.queue or peer.stream.pending else IN)

    def _lose(self, peer: _Peer) -> None:
        """Nothing reaches the peer any more. The messages that it has sent are still read; the end follows them."""
        if peer.queue and self._by_identity.get(peer.identity) is peer:
            self._gone.append(peer.identity)
        self._drop_queue(peer)
        if self._by_identity.get(peer.identity) is peer:
            del self._by_identity[peer.identity]
        if peer.stream.fd in self._peers:
            peer.watch(self._epoll, IN)

    def _drop_queue(self, peer: _Peer) -> None:
        peer.drop_queue()
        self._queued.pop(peer, None)

    def _drop_received(self, identity: bytes) -> None:
        self._received = [message for message in self._received if message[0] != identity]

    def _close(self, peer: _Peer) -> None:
        if self._peers.pop(peer.stream.fd, None) is None:
            return
        self._drop_queue(peer)
        self._unknown_peers.pop(peer, None)
        self._unfinished.forget(peer)
        if self._by_identity.get(peer.identity) is peer:
            del self._by_identity[peer.identity]
        self._epoll.unregister(peer.stream.fd)
        self._admission.leave(peer.origin)
        if peer.identity in self._authorities:
            self._departed.append(peer.identity)
        peer.stream.close()
        if peer.identity and self._on_ended is not None:
            self._on_ended(peer.identity)

    def _refuse_for(self, peer: _Peer, error: WireError) -> None:
        """Close a connection for what it has sent."""
        self._refuse(peer, kind_of(error), str(error))

    def _refuse(self, peer: _Peer, kind: RefusalKind, reason: str) -> None:
        """Close a connection for what it has sent or not sent."""
        self._admission.refuse(peer.origin, kind, reason)
        self._lose(peer)
        self._close(peer)

    def _forget_departed(self) -> None:
        for identity in self._departed:
            if identity not in self._by_identity:
                self._authorities.pop(identity, None)
        self._departed.clear()

    def _look_after_unknown_peers(self) -> None:
        now = time.monotonic()
        seconds = HANDSHAKE_SECONDS_MAX if self._accept_again_at is None else ACCEPT_PAUSE_SECONDS
        for peer in list(self._unknown_peers):
            if now < peer.accepted_at + seconds:
                break
            self._refuse(peer, RefusalKind.HANDSHAKE_TIME, f"its handshake was not over after {seconds:g} seconds")
        if self._accept_again_at is not None and now >= self._accept_again_at:
            self._accept_again_at = None
            self._watch_listeners()


def _remove_socket_file(address: str) -> None:
    if address.startswith("ipc://") and not address.startswith("ipc://@"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address.removeprefix("ipc://"))
