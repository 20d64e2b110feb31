"""A monitor's end of what is published: libzmq's SUB, which any publisher and any ZeroMQ library can be the other end of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import zmq

from scaler_protocol.errors import TransportError
from scaler_protocol.transport.subscription_watch import SubscriptionWatch
from scaler_protocol.transport.zmq_sockets import configure, connect, descriptor, receive_frames
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

RECEIVE_QUEUE_MESSAGES = 1_000
"""Most messages that wait in the subscriber's process until it reads them."""


class Subscriber:
    """A connected SUB that takes everything, or only messages whose first frame begins with one of `topics`."""

    def __init__(self, address: str, topics: Sequence[bytes] = (b"",), *, security: PeerSecurity | None = None) -> None:
        self._context: zmq.Context[Any] = zmq.Context(1)
        self._socket = self._context.socket(zmq.SUB)
        configure(self._socket, address)
        if security is not None:
            _introduce(self._socket, security)
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

    def subscribe(self, topic: bytes) -> None:
        """Take messages of one topic more."""
        self._socket.setsockopt(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Take messages of this topic no more."""
        self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)

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


def _introduce(socket: zmq.Socket[Any], security: PeerSecurity) -> None:
    """Give a subscriber its keys, and the publisher's. Before it connects."""
    # Imported late: it needs PyNaCl.
    from scaler_protocol.security.keys import to_text

    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, to_text(security.own.public))
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, to_text(security.own.secret))
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, to_text(security.server))
