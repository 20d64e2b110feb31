"""The scheduler's monitor stream, received in a thread: the last snapshot, how old it is, and what was missed."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from scaler_protocol.address import Address
from scaler_protocol.codec import decode
from scaler_protocol.errors import WireError
from scaler_protocol.messages import MonitorEvents, MonitorSnapshot
from scaler_protocol.transport import Subscriber

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class FeedState:
    """What is known of the scheduler now. `age_s` counts from the start of the feed while there is no snapshot."""

    snapshot: MonitorSnapshot | None
    age_s: float
    missed_messages: int


class SnapshotFeed:
    """Receives until closed. Use it as a context manager; `state()` may be called from any thread."""

    def __init__(self, monitor_address: Address) -> None:
        self._lock = threading.Lock()
        self._snapshot: MonitorSnapshot | None = None
        self._received_at = time.monotonic()
        self._last: tuple[bytes, int] | None = None
        self._missed = 0
        self._closing = threading.Event()
        self._subscriber = Subscriber(str(monitor_address))
        self._thread = threading.Thread(target=self._receive, name="monitor feed", daemon=True)

    def __enter__(self) -> SnapshotFeed:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        self._thread.join()

    def state(self) -> FeedState:
        """The latest snapshot and how far it can be trusted."""
        with self._lock:
            return FeedState(self._snapshot, time.monotonic() - self._received_at, self._missed)

    def _receive(self) -> None:
        # The socket belongs to this thread, so it is closed here too.
        try:
            while not self._closing.is_set():
                frames = self._subscriber.receive(_POLL_SECONDS)
                if frames is None:
                    continue
                try:
                    message = decode(frames)
                except WireError as error:
                    logger.warning("a message that is not of this protocol was ignored: %s", error)
                    continue
                if isinstance(message, MonitorSnapshot | MonitorEvents):
                    self._accept(message)
        finally:
            self._subscriber.close()

    def _accept(self, message: MonitorSnapshot | MonitorEvents) -> None:
        with self._lock:
            if isinstance(message, MonitorSnapshot):
                self._snapshot = message
                self._received_at = time.monotonic()
            incarnation = self._snapshot.incarnation if self._snapshot is not None else b""
            # A scheduler that was started again counts from the beginning: that is no gap.
            if self._last is not None and self._last[0] == incarnation:
                self._missed += max(0, message.sequence - self._last[1] - 1)
            self._last = (incarnation, message.sequence)
