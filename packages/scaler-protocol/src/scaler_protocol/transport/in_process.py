"""A connection between two services of one thread: messages are passed on as they are, without a socket."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scaler_protocol.transport.router import RouterListener
from scaler_protocol.wire.envelope import Frame


class InProcessLink:
    """The calling end of a connection to a `RouterListener` of the same thread, with the sending methods of `DealerLink`.

    It has no method to receive: the other end, when it sends, calls `take` with each message. `take` must not send.
    """

    def __init__(self, router: RouterListener, identity: bytes, take: Callable[[Sequence[Frame]], None]) -> None:
        self._router = router
        self._identity = identity
        self._take = take
        self._closed = False
        self.flush()

    def send(self, frames: list[Frame]) -> bool:
        """Send. Messages to a closed listener are lost. Returns False, because nobody must be woken."""
        if not self._closed:
            self._router.take(self._identity, self._take, frames)
        return False

    @property
    def has_queued(self) -> bool:
        """Whether messages are queued: never, because the listener takes them at once."""
        return False

    def flush(self) -> None:
        """Connect again if the other end has closed the connection."""
        if not self._closed:
            self._router.admit(self._identity, self._take)

    def retry_seconds(self) -> float:
        """After how many seconds to call `flush`; nobody waits for it."""
        return math.inf

    def close(self) -> None:
        """End the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._router.dismiss(self._identity, self._take)
