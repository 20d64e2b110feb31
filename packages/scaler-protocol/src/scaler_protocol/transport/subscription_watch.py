"""What libzmq says about a subscriber's connection: whether there is one, and why the publisher refuses it."""

from __future__ import annotations

import time
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from scaler_protocol.errors import UnknownKeyError, WrongMechanismError, WrongServerKeyError

CLOSED_HANDSHAKES_MAX = 3
"""libzmq ends the handshake of a peer that expects another server key without a word. A publisher that stops may do so once."""

RETRY_SECONDS = 2.0
"""After so long a refused subscriber tries again, which libzmq does not by itself: its key may be let in meanwhile."""

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
_MECHANISM_MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)


class SubscriptionWatch:
    """Made before the socket connects. Used by the socket's thread only."""

    def __init__(self, socket: zmq.Socket[Any], address: str, *, keyed: bool) -> None:
        """`keyed`: the subscriber has keys."""
        self.refusal = ""
        """Why the publisher does not let this subscriber in; empty while it does, or nobody answers."""
        self.connected = False
        """Whether there is a connection whose handshake is over."""
        self.lost_count = 0
        """How often a connection has ended."""
        self._socket = socket
        self._address = address
        self._keyed = keyed
        self._closed_handshakes = 0
        self._retry_at: float | None = None
        self._events: zmq.Socket[Any] = socket.get_monitor_socket(_EVENTS)

    def look(self) -> None:
        """Take in what has happened since, and connect again if that is due. To be called often."""
        while self._events.poll(0):
            told = recv_monitor_message(self._events)
            self._take(zmq.Event(told["event"]), int(told["value"]))
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
            self._socket.disconnect(self._address)
            self._socket.connect(self._address)

    def close(self) -> None:
        """End the watch. Before the socket is closed."""
        self._socket.disable_monitor()
        self._events.close(linger=0)

    def _take(self, event: zmq.Event, value: int) -> None:
        if event is zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.refusal = ""
            self.connected = True
            self._closed_handshakes = 0
        elif event is zmq.EVENT_DISCONNECTED:
            self.lost_count += self.connected
            self.connected = False
        elif event is zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refuse(str(UnknownKeyError()))
        elif event is zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            found = ("NULL", "CURVE") if self._keyed else ("CURVE", "NULL")
            mismatch = value == _MECHANISM_MISMATCH
            self._refuse(
                str(WrongMechanismError(*found)) if mismatch else "what answers there breaks ZeroMQ's protocol"
            )
        elif self._keyed:
            # libzmq itself tries again.
            self._closed_handshakes += 1
            if self._closed_handshakes >= CLOSED_HANDSHAKES_MAX:
                self.refusal = str(WrongServerKeyError())

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self._retry_at = time.monotonic() + RETRY_SECONDS
