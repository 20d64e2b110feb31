"""A connection between two services of one thread: messages change hands as they are, without a socket."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scaler_protocol.transport.router import RouterListener
from scaler_protocol.wire.envelope import Frame


class InProcessLink:
    """The calling end of a connection to a `RouterListener` of the same thread, with the face of `DealerLink` for sending.

    There is nothing to wait for, and nothing to receive: `take` is called with each message while the other end sends it. It
    must not send anything itself.
    """

    def __init__(self, router: RouterListener, identity: bytes, take: Callable[[Sequence[Frame]], None]) -> None:
        self._router = router
        self._identity = identity
        self._take = take
        self._closed = False
        self.flush()

    def send(self, frames: list[Frame]) -> bool:
        """Send; what a listener that is closed is sent is lost. Returns False: nobody must be woken to see to it."""
        if not self._closed:
            self._router.take(self._identity, self._take, frames)
        return False

    def flush(self) -> None:
        """Connect again, where the other end has ended the connection."""
        if not self._closed:
            self._router.admit(self._identity, self._take)

    def retry_seconds(self) -> float:
        """After how long `flush` is to be called: nobody waits for it."""
        return math.inf

    def close(self) -> None:
        """End the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._router.dismiss(self._identity, self._take)
