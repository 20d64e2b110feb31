"""Profiles that monitors ask for: agents are told to sample, and what they send is added up for each monitor."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from scaler_protocol.monitoring.profile_tree import (
    PROFILE_SECONDS_MAX,
    RATE_DEFAULT,
    RATE_MAX,
    CallTable,
    ProfileTree,
)
from scaler_protocol.monitoring.topics import ProfileWanted
from scaler_protocol.wire import messages as m
from scaler_scheduler.core import effects
from scaler_scheduler.core.records import AgentRecord
from scaler_scheduler.core.sessions import Handler
from scaler_scheduler.core.state import SchedulerState

RUNS_MAX = 4
"""Most profiles at once; others begin when one of these is done. All of them get what the same samplers see."""

PUBLISH_SECONDS = 1.0

LATE_SECONDS = 1.0
"""How long after its end agents may send the rest of a profile."""

REPEAT_SECONDS = 5.0
"""How long a profile that is done is still published: a monitor may have missed it."""

NODES_PER_SECOND = 20_000
"""Nodes that all agents together may send in a second, so that adding them up takes a few percent of it."""

NODES_SHOWN_MAX = 5_000
"""Most nodes that are published."""


class _Run:
    """One profile, for one monitor."""

    __slots__ = (
        "answered",
        "asked",
        "cost",
        "done",
        "ends_at",
        "processors",
        "rate",
        "samples",
        "seconds",
        "started_at",
        "tree",
        "wanted",
    )

    def __init__(self, wanted: ProfileWanted, now: float) -> None:
        self.wanted = wanted
        self.seconds = min(max(wanted.seconds, 1), PROFILE_SECONDS_MAX)
        self.rate = min(wanted.rate or RATE_DEFAULT, RATE_MAX)
        self.started_at = now
        self.ends_at = now + self.seconds
        self.done = False
        self.tree = ProfileTree()
        self.asked: set[bytes] = set()
        self.answered: set[bytes] = set()
        self.processors: dict[bytes, int] = {}
        """By agent: the largest number that has reported at once."""
        self.samples = 0
        self.cost = 0

    def add(self, agent: bytes, message: m.ProfileSamples, calls: CallTable) -> None:
        """Add what an agent has sent."""
        self.tree.add(calls)
        self.answered.add(agent)
        self.processors[agent] = max(self.processors.get(agent, 0), message.processors)
        self.samples += message.samples
        self.cost += message.cost_microseconds

    def message(self, now: float) -> m.MonitorProfile:
        """Return what is published."""
        wanted = self.wanted
        return m.MonitorProfile(
            wanted.token,
            wanted.rate,
            wanted.seconds,
            max(0.0, min(now, self.ends_at) - self.started_at),
            self.done,
            len(self.asked),
            len(self.answered),
            min(sum(self.processors.values()), 0xFFFFFFFF),
            min(self.samples, 2**63),
            min(self.cost, 2**63),
            *self.tree.table(NODES_SHOWN_MAX),
        )


class Profiles:
    """`due_at` is never while no monitor asks for one."""

    def __init__(self, state: SchedulerState) -> None:
        self._agents = state.agents
        self._functions = state.functions
        self._outbox = state.outbox
        self._runs: dict[ProfileWanted, _Run] = {}
        self._ended: set[ProfileWanted] = set()
        """Done, and still subscribed to."""
        self._told: dict[bytes, tuple[float, int]] = {}
        """By agent: until when it was told to sample, and how often."""
        self.due_at = inf
        self.handlers: Mapping[type[Any], Handler[AgentRecord]] = {m.ProfileSamples: self._on_samples}

    def on_tick(self, subscribed: tuple[ProfileWanted, ...], now: float) -> None:
        """Begin what is new, end what nobody wants any more, and publish what is due."""
        if not subscribed and not self._runs:
            self._ended.clear()
            return
        self._ended.intersection_update(subscribed)
        for wanted in self._runs.keys() - set(subscribed):
            del self._runs[wanted]
        for wanted in subscribed:
            if len(self._runs) < RUNS_MAX and wanted not in self._runs and wanted not in self._ended:
                self._runs[wanted] = _Run(wanted, now)
        self._tell_agents(now)
        if self._runs and now >= self.due_at:
            self._publish(now)
        self.due_at = min(self.due_at, now + PUBLISH_SECONDS) if self._runs else inf

    def _tell_agents(self, now: float) -> None:
        active = [run for run in self._runs.values() if now < run.ends_at]
        if not active and not self._told:
            return
        agents = {agent.id: agent for agent in self._agents.by_peer.values()}
        nodes = NODES_PER_SECOND // max(len(agents), 1)
        ends_at = max((run.ends_at for run in active), default=0.0)
        rate = max((run.rate for run in active), default=0)
        for agent_id, agent in agents.items():
            for run in active:
                run.asked.add(agent_id)
            told = self._told.get(agent_id)
            if active and told != (ends_at, rate):
                self._told[agent_id] = (ends_at, rate)
                self._outbox.send(agent, m.ProfileRequest(ends_at - now, rate, nodes))
            elif not active and told is not None and now < told[0]:
                self._outbox.send(agent, m.ProfileRequest(0.0))
        if active:
            for agent_id in self._told.keys() - agents.keys():
                del self._told[agent_id]
        else:
            self._told.clear()

    def _publish(self, now: float) -> None:
        for wanted, run in list(self._runs.items()):
            run.done = now >= run.ends_at + LATE_SECONDS
            self._outbox.add(effects.Publish(run.message(now)))
            if now >= run.ends_at + LATE_SECONDS + REPEAT_SECONDS:
                del self._runs[wanted]
                self._ended.add(wanted)
        self.due_at = now + PUBLISH_SECONDS

    def _on_samples(self, agent: AgentRecord, message: m.ProfileSamples, now: float) -> None:
        runs = [run for run in self._runs.values() if not run.done]
        if not runs:
            return
        # Names once for all runs.
        named = ProfileTree()
        calls = CallTable(
            message.parents, message.names, message.files, message.lines, message.microseconds, message.texts
        )
        named.add(calls, self._name_of)
        table = named.table()
        for run in runs:
            run.add(agent.id, message, table)

    def _name_of(self, text: str) -> str:
        try:
            return self._functions.name(bytes.fromhex(text))
        except ValueError:
            return text
