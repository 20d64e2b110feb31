"""The monitor stream: what the core publishes, log lines, dumps, and what the subscribers want."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from scaler_protocol.monitoring.topics import (
    EVENTS,
    FIGURES,
    ObjectsTopic,
    OutputTopic,
    ProfileWanted,
    drawn_graph,
    dump_topic,
    dumped_task,
    graph_topic,
    listed_objects,
    objects_topic,
    output_topic,
    profile_topic,
    profile_wanted,
    topic_of,
)
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_scheduler.core import SchedulerCore

LINES_KEPT = 500
LINE_CHARACTERS_MAX = 2_000
DUMPS_AT_ONCE = 8
"""Largest number of dumps made at once. Each reads every table."""

GRAPHS_AT_ONCE = 4
"""Largest number of graphs whose rows are sent at once."""
GRAPH_ROWS_PER_SECOND = 10_000
"""The larger graphs are, the less often their rows are sent."""

INTERVAL_SECONDS = 1.0

WELCOME_SECONDS = 0.5
"""Least time between two times that new subscriptions get everything there is: that is made for all, and much of it is long."""


class _Line(NamedTuple):
    at: float
    level: int
    text: str


_Kind = TypeVar("_Kind")


def _of_kind(read: Callable[[bytes], _Kind | None], topics: Sequence[bytes]) -> tuple[_Kind, ...]:
    return tuple(found for topic in topics if (found := read(topic)) is not None)


class _Asked(NamedTuple):
    """What monitors have subscribed to, besides figures and events."""

    dumps: tuple[int, ...] = ()
    graphs: tuple[tuple[bytes, int], ...] = ()
    outputs: tuple[OutputTopic, ...] = ()
    profiles: tuple[ProfileWanted, ...] = ()
    objects: tuple[ObjectsTopic, ...] = ()

    @classmethod
    def of(cls, topics: Sequence[bytes]) -> _Asked:
        """Return what the topics stand for."""
        return cls(
            _of_kind(dumped_task, topics),
            _of_kind(drawn_graph, topics),
            _of_kind(output_topic, topics),
            _of_kind(profile_wanted, topics),
            _of_kind(listed_objects, topics),
        )


class RecentLog(logging.Handler):
    """Keeps the last lines that this process logged, and numbers them."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[_Line] = deque(maxlen=LINES_KEPT)
        self._total = 0
        self._reported = 0
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        text = record.getMessage()[:LINE_CHARACTERS_MAX]
        with self._guard:
            self._lines.append(_Line(record.created, min(record.levelno, 255), text))
            self._total += 1

    def take(self, incarnation: bytes, *, all_kept: bool) -> m.MonitorLog | None:
        """Return the lines since the last call, or all that are kept; None if there are none."""
        with self._guard:
            count = len(self._lines) if all_kept else min(self._total - self._reported, len(self._lines))
            self._reported = self._total
            lines = list(islice(self._lines, len(self._lines) - count, None))
            first = self._total - count + 1
        if not lines:
            return None
        return m.MonitorLog(
            incarnation=incarnation,
            first_number=first,
            time_seconds=[line.at for line in lines],
            levels=[line.level for line in lines],
            texts=tuple(line.text for line in lines),
        )


class MonitorFeed:
    """Publishes to monitors what they subscribed to."""

    def __init__(self, publisher: Publisher, log: RecentLog) -> None:
        self._publisher = publisher
        self._log = log
        self._asked = _Asked()
        self._subscriptions_made = 0
        self._welcome_due = 0.0
        """When new subscriptions may count as such."""
        self._due = 0.0
        self._dumps_due = 0.0
        self._graphs_due = 0.0

    def update(self, now: float) -> tuple[int, bool, bool]:
        """Return how many subscriptions there are, whether one wants events, and whether there are new ones.

        New ones soon after others are told a little later: somebody may subscribe and cancel all the time.
        """
        count = self._publisher.update_subscribers()
        self._asked = _Asked.of(self._publisher.topics())
        made = self._publisher.subscriptions_made
        joined = made > self._subscriptions_made and now >= self._welcome_due
        if joined:
            self._subscriptions_made = made
            self._welcome_due = now + WELCOME_SECONDS
        return count, bool(count) and self._publisher.wanted(EVENTS), joined

    def profiles(self) -> tuple[ProfileWanted, ...]:
        """Return the profiles that are subscribed to."""
        return self._asked.profiles

    def publish(self, message: m.Message) -> None:
        """Publish a message of the core."""
        if isinstance(message, m.MonitorOutput):
            topic = topic_of(OutputTopic(message.number, message.subject))
        elif isinstance(message, m.MonitorProfile):
            topic = profile_topic(ProfileWanted(message.token, message.rate, message.seconds))
        else:
            topic = EVENTS if isinstance(message, m.MonitorEvents) else FIGURES
        self._publisher.send([topic, *encode(message)])

    def outputs(self) -> tuple[OutputTopic, ...]:
        """Return what monitors want to read of the output of tasks and the logs of agents."""
        return self._asked.outputs

    def objects(self) -> tuple[ObjectsTopic, ...]:
        """Return the pages of the list of objects that monitors want to see."""
        return self._asked.objects

    def publish_objects(self, topic: ObjectsTopic, message: m.ObjectList) -> None:
        """Publish a page of the list of objects."""
        self._publisher.send([objects_topic(topic), *encode(message)])

    def publish_own(self, core: SchedulerCore, now: float, unix_time: float, *, joined: bool) -> bool:
        """Publish new log lines, and dumps that a monitor waits for. Return whether the interval was over."""
        if now < self._due and not joined:
            return False
        self._due = now + INTERVAL_SECONDS
        lines = self._log.take(core.config.incarnation, all_kept=joined)
        if lines is not None:
            self._publisher.send([FIGURES, *encode(lines)])
        if now >= self._dumps_due:
            self._publish_dumps(core, now, unix_time)
        if now >= self._graphs_due:
            self._publish_graphs(core, now, unix_time)
        return True

    def _publish_graphs(self, core: SchedulerCore, now: float, unix_time: float) -> None:
        rows = 0
        for client, first_number in self._asked.graphs[:GRAPHS_AT_ONCE]:
            view = core.view_graph(client, first_number, unix_time)
            if view is not None:
                rows += len(view.states)
                self._publisher.send([graph_topic(client, first_number), *encode(view)])
        if rows:
            self._graphs_due = now + max(INTERVAL_SECONDS, rows / GRAPH_ROWS_PER_SECOND)

    def _publish_dumps(self, core: SchedulerCore, now: float, unix_time: float) -> None:
        if self._asked.dumps:
            self._dumps_due = now + INTERVAL_SECONDS
        for number in self._asked.dumps[:DUMPS_AT_ONCE]:
            text = json.dumps(core.snapshot(now, number))
            self._publisher.send([dump_topic(number), *encode(m.MonitorDump(unix_time, text))])
