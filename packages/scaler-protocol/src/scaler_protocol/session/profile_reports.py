"""Profiles of what tasks run, at an agent: who runs tasks is told to sample, and the scheduler is told the sum once a second."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from scaler_protocol.monitoring.profile_tree import PROFILE_SECONDS_MAX, RATE_MAX, CallTable, ProfileTree
from scaler_protocol.session.connection import Connection
from scaler_protocol.wire import messages as m

REPORT_SECONDS = 1.0

LATE_SECONDS = 0.5
"""How long after its end samplers may send the rest of a profile."""

NODES_MIN, NODES_MAX = 50, 2_000
"""Nodes of one report."""

SUM_MAX = 2**63
"""What a message has room for, and no sampler reaches: but tasks can write anything in the name of their processor."""


class ProfileReports:
    """While the scheduler asks for them. `due_at` is never while it does not."""

    def __init__(self, connection: Connection, sample: Callable[[float, int], None]) -> None:
        """`sample` has tasks sampled for so many seconds from now, so often a second; 0 seconds: no more."""
        self._connection = connection
        self._sample = sample
        self._until = -inf
        self._nodes_max = NODES_MIN
        self._tree = ProfileTree()
        self._samples = 0
        self._cost = 0
        self._costs: dict[int | str, int] = {}
        """By process that runs tasks, what its sampler had used when it last said so."""
        self._heard: set[int | str] = set()
        """Such processes that have sent samples, or that there are none, since the last report."""
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
        self._sample(seconds, min(max(request.rate, 1), RATE_MAX))

    def add(self, process: int | str, samples: int, cost_microseconds: int, calls: CallTable) -> None:
        """Add what a process has sampled; its cost is the sum so far. Unasked, it is dropped."""
        if self.due_at == inf:
            return
        self._tree.add(calls)
        self._samples += samples
        before = self._costs.get(process, 0)
        # Another sampler of the same process begins again.
        self._cost += cost_microseconds - (before if cost_microseconds >= before else 0)
        self._costs[process] = cost_microseconds
        self._heard.add(process)

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
