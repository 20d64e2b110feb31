"""One to many, for monitors: a slow subscriber loses messages, and nobody else notices."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import zmq

from scaler_protocol.errors import TransportError
from scaler_protocol.transport.subscription_watch import SubscriptionWatch
from scaler_protocol.transport.zmq_sockets import bind, configure, connect, descriptor, receive_frames, send_frames
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
    from scaler_protocol.transport.monitor_keys import Readers

logger = logging.getLogger(__name__)

SEND_QUEUE_MESSAGES = 32
"""Most messages that wait for one subscriber, besides those in the system's socket buffers; it loses further ones.

The number is small because messages can be large, and ZeroMQ does not count bytes. A scheduler publishes two to four a second
and at most a dozen at once, so this is enough for some ten seconds. A subscriber that does not answer is disconnected within
half a minute, see `zmq_sockets.configure`. Subscribers share waiting messages, so many stopped ones cost no more than one.
"""

RECEIVE_QUEUE_MESSAGES = 1_000
"""Most messages that wait in the subscriber's process until it reads them."""

TRIES_TO_BIND_QUIETLY = 5
"""After so many calls the log says that the address of a socket that was closed is still in use."""

TOPICS_MAX = 1_000
"""Most different topics that are remembered, because anybody may subscribe to anything."""

RECEIVED_BYTES_MAX = 512
"""Largest frame that a subscriber may send: a topic, or what the handshake needs. libzmq keeps some fifty bytes for each byte."""

SUBSCRIPTIONS_MAX = 10_000
"""Subscriptions of all subscribers together. If there are more, all connections are closed, and honest subscribers come back."""

UNREAD_SUBSCRIPTIONS_MAX = 1_000
"""Subscriptions of one subscriber that wait for libzmq. It reads on while it takes them in, so this does not bound a flood."""


class Publisher:
    """A bound XPUB. It knows the subscriptions, so that the owner collects only what somebody wants.

    A topic is the beginning of a message's first frame; the empty one stands for everything.
    """

    def __init__(
        self,
        address: str,
        *,
        io_threads: int = 1,
        queue_messages: int = SEND_QUEUE_MESSAGES,
        security: ServerSecurity | None = None,
    ) -> None:
        """`io_threads` of ZeroMQ send to all subscribers; `queue_messages` may wait for each.

        With `security`, only monitors and operators are let in. Raises TransportError when the address cannot be bound.
        """
        self._context: zmq.Context[Any] = zmq.Context(io_threads)
        self._queue_messages = queue_messages
        self._tries_to_bind = 0
        """How often it was tried to listen again after all connections were closed; 0: it listens."""
        self._readers: Readers | None = None
        if security is not None:
            # Imported late: it needs PyNaCl.
            from scaler_protocol.transport.monitor_keys import Readers

            self._readers = Readers(self._context, security)
        self._socket = self._open(address)
        try:
            self.address = bind(self._socket, address)
        except TransportError:
            self.close()
            raise
        self._topics: Counter[bytes] = Counter()
        self._subscriptions = 0
        """How many there are, also to topics that are not remembered."""

    def _open(self, address: str) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self._context.socket(zmq.XPUB)
        configure(socket, address)
        socket.setsockopt(zmq.SNDHWM, self._queue_messages)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, RECEIVED_BYTES_MAX)
        socket.setsockopt(zmq.RCVHWM, UNREAD_SUBSCRIPTIONS_MAX)
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        if self._readers is not None:
            self._readers.prepare(socket)
        return socket

    def refresh_authorities(self) -> None:
        """Disconnect subscribers whose keys are not let in any more. To be called several times a second."""
        if self._readers is not None and self._readers.take_revoked():
            self._disconnect_all()
        if self._tries_to_bind:
            self._listen_again()

    def _disconnect_all(self) -> None:
        """libzmq cannot close the connection of one subscriber. So all are closed, and who is let in connects again by itself."""
        self._socket.close(linger=0)
        self._topics.clear()
        self._subscriptions = 0
        self._socket = self._open(self.address)
        self._tries_to_bind = 1

    def _listen_again(self) -> None:
        try:
            bind(self._socket, self.address)
            self._tries_to_bind = 0
        except TransportError as error:
            # libzmq closes sockets in a thread of its own, so the address may still be in use. The next call tries again.
            self._tries_to_bind += 1
            if self._tries_to_bind == TRIES_TO_BIND_QUIETLY:
                logger.error("monitors cannot connect again yet: %s", error)

    def update_subscribers(self) -> int:
        """Read new subscriptions and cancellations; return how many subscriptions there are to topics that are remembered."""
        if self._tries_to_bind:
            self._listen_again()
        while True:
            try:
                event = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return self._topics.total()
            kind, topic = event[:1], event[1:]
            self._subscriptions += 1 if kind == b"\1" else -1 if kind == b"\0" else 0
            if self._subscriptions > SUBSCRIPTIONS_MAX:
                logger.error("somebody subscribes more than %d times: monitors are disconnected", SUBSCRIPTIONS_MAX)
                self._disconnect_all()
                return 0
            if kind == b"\1" and (topic in self._topics or len(self._topics) < TOPICS_MAX):
                self._topics[topic] += 1
            elif kind == b"\0" and topic in self._topics:
                self._topics[topic] -= 1
                if not self._topics[topic]:
                    del self._topics[topic]

    def topics(self) -> list[bytes]:
        """Return the topics with a subscription, each once."""
        return list(self._topics)

    def wanted(self, first_frame: bytes) -> bool:
        """Whether anybody has subscribed to messages that begin with this frame."""
        return any(first_frame.startswith(topic) for topic in self._topics)

    def send(self, frames: Sequence[Frame]) -> None:
        """Publish. A subscriber whose queue is full does not get the message."""
        with contextlib.suppress(zmq.Again):
            send_frames(self._socket, frames, zmq.NOBLOCK)

    def close(self) -> None:
        """Close the socket. Messages that have not been sent are lost."""
        self._socket.close()
        if self._readers is not None:
            self._readers.close()
        self._context.term()


class Subscriber:
    """A connected SUB that takes everything, or only messages whose first frame begins with one of `topics`."""

    def __init__(self, address: str, topics: Sequence[bytes] = (b"",), *, security: PeerSecurity | None = None) -> None:
        self._context: zmq.Context[Any] = zmq.Context(1)
        self._socket = self._context.socket(zmq.SUB)
        configure(self._socket, address)
        if security is not None:
            # Imported late: it needs PyNaCl.
            from scaler_protocol.transport.monitor_keys import introduce

            introduce(self._socket, security)
        self._socket.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        for topic in topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self.watch = SubscriptionWatch(self._socket, address, keyed=security is not None)
        """Whether there is a connection, and why not; `receive` keeps it up to date."""
        try:
            connect(self._socket, address)
        except TransportError:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable when messages may have arrived."""
        return descriptor(self._socket)

    def receive(self, timeout_seconds: float) -> list[Frame] | None:
        """Return the next message, or None when none came in time."""
        came = self._socket.poll(int(timeout_seconds * 1000))
        self.watch.look()
        if not came:
            return None
        return receive_frames(self._socket)

    def close(self) -> None:
        """Close the socket."""
        self.watch.close()
        self._socket.close(linger=0)
        self._context.term()
