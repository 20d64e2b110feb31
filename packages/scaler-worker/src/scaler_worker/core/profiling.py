"""Profiles of what tasks run, which monitors ask for: processors sample, and the scheduler is told the sum once a second."""

from __future__ import annotations

from math import inf

from scaler_protocol.monitoring.profile_tree import PROFILE_SECONDS_MAX, RATE_MAX, ProfileTree
from scaler_protocol.runtime.core import Outbox
from scaler_protocol.session import Connection
from scaler_protocol.wire import messages as m
from scaler_worker.core import effects, events

REPORT_SECONDS = 1.0

LATE_SECONDS = 0.5
"""How long after its end processors may send the rest of a profile."""

NODES_MIN, NODES_MAX = 50, 2_000
"""Nodes of one report."""

SUM_MAX = 2**63
"""What a message has room for, and no sampler reaches: but tasks can write anything in the name of their processor."""


class Profiling:
    """While the scheduler asks for it. `due_at` is never while it does not."""

    def __init__(self, connection: Connection, outbox: Outbox[effects.Effect]) -> None:
        self._connection = connection
        self._outbox = outbox
        self._until = -inf
        self._nodes_max = NODES_MIN
        self._tree = ProfileTree()
        self._samples = 0
        self._cost = 0
        self._costs: dict[int, int] = {}
        """By processor, what its sampler had used when it last said so."""
        self._heard: set[int] = set()
        """Processors that have sent samples, or that there are none, since the last report."""
        self.due_at = inf

    def on_request(self, request: m.ProfileRequest, now: float) -> None:
        """The scheduler wants a profile from now on, another one, or none any more."""
        seconds = min(max(request.seconds, 0.0), PROFILE_SECONDS_MAX)
        if not seconds and self.due_at == inf:
            return
        if seconds:
            self._nodes_max = min(max(request.nodes, NODES_MIN), NODES_MAX)
            self._until = now + seconds
            if self.due_at == inf:
                self.due_at = now + REPORT_SECONDS
        else:
            self._end()
        self._outbox.add(effects.SampleProcessors(seconds, min(max(request.rate, 1), RATE_MAX)))

    def on_samples(self, event: events.ProcessorSamples, now: float) -> None:
        """Add what a processor has sampled. Unasked, it is dropped."""
        if self.due_at == inf:
            return
        self._tree.add(event.calls)
        self._samples += event.samples
        before = self._costs.get(event.processor, 0)
        # Another sampler of the same processor begins again.
        self._cost += event.cost_microseconds - (before if event.cost_microseconds >= before else 0)
        self._costs[event.processor] = event.cost_microseconds
        self._heard.add(event.processor)

    def report(self, now: float) -> None:
        """Send what has come since the last time."""
        if self._connection.established:
            calls = self._tree.table(self._nodes_max)
            self._connection.send_plain(
                m.ProfileSamples(len(self._heard), min(self._samples, SUM_MAX), min(self._cost, SUM_MAX), *calls)
            )
            self._tree = ProfileTree()
            self._samples = self._cost = 0
            self._heard.clear()
        if now >= self._until + LATE_SECONDS:
            self._end()
        else:
            self.due_at = now + REPORT_SECONDS
            if self.due_at > self._until:
                self.due_at = self._until + LATE_SECONDS

    def _end(self) -> None:
        self._until = -inf
        self.due_at = inf
        self._tree = ProfileTree()
        self._samples = self._cost = 0
        self._costs.clear()
        self._heard.clear()
