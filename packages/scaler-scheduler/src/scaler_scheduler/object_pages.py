"""Pages of the list of objects: asked of object storage while a monitor subscribes to them."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.monitoring.topics import ObjectsTopic
from scaler_protocol.wire import messages as m

PAGES_AT_ONCE = 4
"""Pages that are asked for; further subscriptions wait until others end."""

AGAIN_SECONDS = 2.0
"""Least time between two questions for one page: object storage looks at many objects for each."""


class ObjectPages:
    """Which pages are wanted, and which answer is for which."""

    def __init__(self) -> None:
        self._due: dict[ObjectsTopic, float] = {}
        self._asked: dict[int, ObjectsTopic] = {}
        self._requests = 0

    def requests(self, wanted: Sequence[ObjectsTopic], now: float) -> list[m.ObjectListRequest]:
        """Return what to ask now."""
        wanted = wanted[:PAGES_AT_ONCE]
        self._due = {topic: self._due.get(topic, now) for topic in wanted}
        self._asked = {number: topic for number, topic in self._asked.items() if topic in self._due}
        made = []
        for topic in wanted:
            if now < self._due[topic]:
                continue
            self._due[topic] = now + AGAIN_SECONDS
            self._requests += 1
            # An answer that is late is dropped: the next one is newer.
            self._asked = {number: other for number, other in self._asked.items() if other != topic}
            self._asked[self._requests] = topic
            made.append(m.ObjectListRequest(self._requests, *topic))
        return made

    def take(self, answer: m.ObjectList) -> ObjectsTopic | None:
        """Return what it answers; None: nobody wants to know any more."""
        return self._asked.pop(answer.request, None)
