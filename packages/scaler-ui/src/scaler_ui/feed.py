"""Receives the scheduler's monitor streams in a thread and keeps them in a model that any thread may read."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from scaler_protocol.address import Address
from scaler_protocol.errors import WireError
from scaler_protocol.monitoring.topics import EVENTS, FIGURES
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.envelope import Frame
from scaler_protocol.wire.messages import (
    MonitorEvents,
    MonitorFailures,
    MonitorGraph,
    MonitorLog,
    MonitorSnapshot,
    ObjectList,
)
from scaler_ui.model import ClusterModel

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_WARN_SECONDS = 60.0
"""Messages that cannot be read are logged at most once in this time."""

WAITING_SECONDS = 10.0
"""While nothing arrives, the log says so again after this time."""
LONG_WAIT_SECONDS = 300.0
"""After so long, only as often as this: a monitor waits without end."""

ASKED_SECONDS = 5.0
"""How long a topic that was asked for stays subscribed to."""
ASKED_MAX = 8
"""Most of them at once; the oldest is given up for another one."""

EVERYTHING = (FIGURES, EVENTS)
FIGURES_ONLY = (FIGURES,)
"""For monitors that show no single tasks. The scheduler then collects no task events for them."""


def refused_error(address: Address, reason: str) -> ConfigurationError:
    """Return what ends a command that the scheduler does not let in."""
    return ConfigurationError(f"MONITOR_ADDRESS: the scheduler at {address} does not let this monitor in: {reason}")


class MonitorFeed:
    """Receives until it is closed, and reconnects by itself. Use it as a context manager."""

    def __init__(
        self,
        monitor_address: Address,
        topics: Sequence[bytes] = EVERYTHING,
        *,
        model: ClusterModel | None = None,
        clock: Callable[[], float] = time.monotonic,
        security: PeerSecurity | None = None,
        warn_after_s: float = float("inf"),
    ) -> None:
        """`warn_after_s`: after how many seconds without a snapshot the log says so; by default it never does."""
        self.monitor_address = monitor_address
        self.started_at = clock()
        self._clock = clock
        self._model = model if model is not None else ClusterModel()
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._unreadable_until = float("-inf")
        self._warn_after_s = warn_after_s
        self._told_silence_at: float | None = None
        """When the log last said that nothing arrives; None while messages do."""
        self.refusal = ""
        """Why the scheduler does not let this monitor in; empty while it does, or nobody answers."""
        self.connected = False
        """Whether there is a connection to a scheduler."""
        self.lost_count = 0
        """How often a connection has ended."""
        self._asked: dict[bytes, float] = {}
        """Topics that are wanted for now, and until when."""
        self._pages: dict[bytes, ObjectList] = {}
        """The last answers to topics of pages of objects."""
        self._subscribed: set[bytes] = set()
        """Those of them that there is a subscription to."""
        self._subscriber = Subscriber(str(monitor_address), topics, security=security)
        self._thread = threading.Thread(target=self._receive, name="monitor feed", daemon=True)

    def __enter__(self) -> MonitorFeed:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Have it end soon, without waiting for it."""
        self._closing.set()

    @property
    def ended(self) -> bool:
        """Return whether it receives no more."""
        return not self._thread.is_alive()

    @contextlib.contextmanager
    def model(self) -> Iterator[ClusterModel]:
        """Return a context with the model. Nothing is received while it lasts."""
        with self._guard:
            yield self._model

    def silent_s(self) -> float:
        """Return how many seconds ago the last snapshot came; the seconds since the start if none has come."""
        with self._guard:
            since = self._model.snapshot_at if self._model.snapshot is not None else self.started_at
        return max(0.0, self._clock() - since)

    def ask(self, topic: bytes) -> None:
        """Subscribe to one topic more for some seconds. Ask again to go on."""
        with self._guard:
            self._asked.pop(topic, None)
            self._asked[topic] = self._clock() + ASKED_SECONDS
            if len(self._asked) > ASKED_MAX:
                del self._asked[next(iter(self._asked))]

    def look(self, topic: bytes) -> ObjectList | None:
        """Return the last answer to a topic of `objects_topic`, None until there is one. Asks for it."""
        self.ask(topic)
        with self._guard:
            return self._pages.get(topic)

    def _follow_asked(self) -> None:
        with self._guard:
            if not self._asked and not self._subscribed:
                return
            now = self._clock()
            self._asked = {topic: until for topic, until in self._asked.items() if until > now}
            wanted = set(self._asked)
            self._pages = {topic: page for topic, page in self._pages.items() if topic in wanted}
        for topic in wanted - self._subscribed:
            self._subscriber.subscribe(topic)
        for topic in self._subscribed - wanted:
            self._subscriber.unsubscribe(topic)
        self._subscribed = wanted

    def _receive(self) -> None:
        # The socket belongs to this thread, which therefore also closes it.
        try:
            while not self._closing.is_set():
                frames = self._subscriber.receive(_POLL_SECONDS)
                self._watch_connection()
                self._watch_silence()
                self._follow_asked()
                if frames is None:
                    continue
                self._take(frames)
        finally:
            self._subscriber.close()

    def _take(self, frames: Sequence[Frame]) -> None:
        try:
            message = decode(frames[1:])
            if isinstance(message, MonitorSnapshot | MonitorEvents | MonitorFailures | MonitorLog | MonitorGraph):
                with self._guard:
                    self._model.accept(message, self._clock())
            elif isinstance(message, ObjectList):
                topic = bytes(frames[0])
                with self._guard:
                    # Whoever subscribes to a topic also gets those that begin with it.
                    if topic in self._asked:
                        self._pages[topic] = message
        except WireError as error:
            self._warn("%s sent a message that is not part of this protocol: %s", error)
        except Exception as error:
            # Without this thread the monitor would show old figures for good, as if they were new.
            self._warn("a message from %s cannot be shown, so it is left out: %r", error, trace=True)

    def require_not_refused(self) -> None:
        """Raise ConfigurationError if the scheduler does not let this monitor in."""
        if self.refusal:
            raise refused_error(self.monitor_address, self.refusal)

    def _watch_connection(self) -> None:
        watch = self._subscriber.watch
        self.connected, self.lost_count = watch.connected, watch.lost_count
        if watch.refusal == self.refusal:
            return
        self.refusal = watch.refusal
        if self.refusal and self._warn_after_s < float("inf"):
            logger.error("the scheduler at %s does not let this monitor in: %s", self.monitor_address, self.refusal)

    def _watch_silence(self) -> None:
        """Say in the log that nothing arrives, again and again, and when it does again."""
        silent_s = self.silent_s()
        if silent_s > self._warn_after_s:
            now = self._clock()
            told_at = self._told_silence_at
            pause_s = WAITING_SECONDS if silent_s < LONG_WAIT_SECONDS else LONG_WAIT_SECONDS
            if told_at is not None and now < told_at + pause_s:
                return
            self._told_silence_at = now
            logger.warning(
                "no message from a scheduler at %s for %.0f s; is it running, and is this the monitor address that it logged?",
                self.monitor_address,
                self._warn_after_s if told_at is None else silent_s,
            )
        elif self._told_silence_at is not None:
            self._told_silence_at = None
            logger.info("messages from the scheduler at %s arrive", self.monitor_address)

    def _warn(self, text: str, error: Exception, *, trace: bool = False) -> None:
        now = self._clock()
        if now >= self._unreadable_until:
            self._unreadable_until = now + _WARN_SECONDS
            logger.warning(text, self.monitor_address, error, exc_info=trace)
