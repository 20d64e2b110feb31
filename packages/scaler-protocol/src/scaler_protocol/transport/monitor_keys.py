"""Who may read what is published, where keys are used: libzmq's own CURVE, and its questions about keys (ZAP) answered.

Source: https://rfc.zeromq.org/spec/27. The questions come from libzmq's threads and are answered by a thread of pyzmq's.
"""

from __future__ import annotations

from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.errors import KeyTextError
from scaler_protocol.security.keys import from_text, to_text

READERS = frozenset({KeyRole.MONITOR, KeyRole.OPERATOR})

_DOMAIN = "monitors"


class Readers:
    """Answers which keys may read, for all sockets of one context of ZeroMQ."""

    def __init__(self, context: zmq.Context[Any], security: ServerSecurity) -> None:
        self._security = security
        self._let_in: set[bytes] = set()
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(_DOMAIN, self)

    def prepare(self, socket: zmq.Socket[Any]) -> None:
        """Let only these readers connect to a socket that is not bound yet."""
        own = self._security.own
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt_string(zmq.CURVE_PUBLICKEY, to_text(own.public))
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, to_text(own.secret))
        socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        # If nobody answers the questions about keys, nobody is let in.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def callback(self, _domain: str, key: bytes) -> bool:
        """Return whether the owner of this key may read. pyzmq asks, in its own thread."""
        try:
            public = from_text(key.decode("ascii", "replace"))
        except KeyTextError:
            return False
        if not self._may_read(public):
            return False
        self._let_in.add(public)
        return True

    def take_revoked(self) -> bool:
        """Whether a key that was let in may not read any more. Says so once for each."""
        revoked = {public for public in self._let_in.copy() if not self._may_read(public)}
        self._let_in -= revoked
        return bool(revoked)

    def close(self) -> None:
        """End the thread. Before the context is terminated."""
        self._authenticator.stop()

    def _may_read(self, public: bytes) -> bool:
        authority = self._security.authority(public)
        return authority is not None and authority.role in READERS


def introduce(socket: zmq.Socket[Any], security: PeerSecurity) -> None:
    """Give a subscriber its keys, and the publisher's. Before it connects."""
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, to_text(security.own.public))
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, to_text(security.own.secret))
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, to_text(security.server))
