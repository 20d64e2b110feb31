"""Reads the kept output of tasks, and logs of agents, while somebody looks at them: subscribing is asking."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from scaler_protocol.address import Address
from scaler_protocol.errors import WireError
from scaler_protocol.monitoring.kept_output import read_parts
from scaler_protocol.monitoring.topics import OutputTopic, output_topic, topic_of
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.messages import MonitorOutput

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

KEPT_SECONDS = 10.0
"""A subscription ends when nobody has looked for so long."""

WANTED_MAX = 16
"""As many as a scheduler answers at once."""

_POLL_SECONDS = 0.1

_CLOSE_SECONDS = 10.0
"""Many times what its thread takes to end."""


class OutputFeed:
    """A connection of its own, which is there while somebody looks. From any thread. Use it as a context manager."""

    def __init__(
        self,
        monitor_address: Address,
        *,
        security: PeerSecurity | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monitor_address = monitor_address
        self._security = security
        self._clock = clock
        self._guard = threading.Lock()
        self._wanted: dict[OutputTopic, float] = {}
        """When somebody has looked last."""
        self._answers: dict[OutputTopic, MonitorOutput] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> OutputFeed:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        with self._guard:
            # It may just be ending by itself.
            thread = self._thread
        if thread is not None:
            thread.join(_CLOSE_SECONDS)

    def look(self, topic: OutputTopic) -> MonitorOutput | None:
        """Return the last answer; None until there is one. Asks for it, and goes on asking for a while."""
        with self._guard:
            if topic not in self._wanted and len(self._wanted) >= WANTED_MAX:
                self._forget(min(self._wanted, key=self._wanted.__getitem__))
            self._wanted[topic] = self._clock()
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._receive, name="outputs of tasks", daemon=True)
                self._thread.start()
            return self._answers.get(topic)

    def _forget(self, topic: OutputTopic) -> None:
        del self._wanted[topic]
        self._answers.pop(topic, None)

    def _receive(self) -> None:
        try:
            self._receive_while_wanted()
        finally:
            with self._guard:
                # Also after an error: otherwise nobody would ever ask again.
                if self._thread is threading.current_thread():
                    self._thread = None

    def _receive_while_wanted(self) -> None:
        subscriber = Subscriber(str(self.monitor_address), (), security=self._security)
        subscribed: set[OutputTopic] = set()
        try:
            while not self._closing.is_set():
                with self._guard:
                    now = self._clock()
                    for topic in [topic for topic, at in self._wanted.items() if now >= at + KEPT_SECONDS]:
                        self._forget(topic)
                    if not self._wanted:
                        # The next look starts another one. Said here, where nobody can look in between.
                        self._thread = None
                        return
                    wanted = set(self._wanted)
                for topic in wanted - subscribed:
                    subscriber.subscribe(topic_of(topic))
                for topic in subscribed - wanted:
                    subscriber.unsubscribe(topic_of(topic))
                subscribed = wanted
                frames = subscriber.receive(_POLL_SECONDS)
                if frames is not None:
                    self._take(bytes(frames[0]), frames[1:])
        finally:
            subscriber.close()

    def _take(self, topic_frame: bytes, frames: list[Any]) -> None:
        topic = output_topic(topic_frame)
        try:
            message = decode(frames)
        except WireError:
            return
        if topic is not None and isinstance(message, MonitorOutput):
            with self._guard:
                if topic in self._wanted:
                    self._answers[topic] = message


NO_ANSWER: dict[str, Any] = {"at": None, "parts": None, "asked": 0, "silent": [], "unreadable": [], "omitted": 0}


def output_data(message: MonitorOutput) -> dict[str, Any]:
    """Return an answer as plain data that JSON knows."""
    parts: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for agent, payload in zip(message.agents, message.payloads.split(), strict=True):
        try:
            told = read_parts(payload)
        except ValueError:
            unreadable.append(agent)
            continue
        parts += [
            {
                "agent": agent,
                "worker": part.worker,
                "pid": part.pid,
                "ended": part.ended,
                "dropped": part.dropped,
                "pieces": [[piece.stream, piece.at, piece.text] for piece in part.pieces],
            }
            for part in told
        ]
    parts.sort(key=_first_time)
    return {
        "at": message.time_seconds,
        "parts": parts,
        "asked": message.asked,
        "silent": list(message.silent),
        "unreadable": unreadable,
        "omitted": message.omitted,
    }


def _first_time(part: dict[str, Any]) -> float:
    pieces: Iterable[list[Any]] = part["pieces"]
    return min((piece[1] for piece in pieces), default=0.0)
