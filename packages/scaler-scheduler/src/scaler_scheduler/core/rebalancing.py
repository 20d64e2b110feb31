"""Waiting tasks from busy agents to idle ones. What has begun is never moved."""

from __future__ import annotations

from collections.abc import Set

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.records import AgentRecord, Names
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.policy.balancing import Load, tasks_to_recall


class Rebalancing:
    """Looks at how evenly tasks are spread, and recalls some where that is uneven several looks in a row."""

    def __init__(self, state: SchedulerState, now: float) -> None:
        self._config = state.config
        self._agents = state.agents
        self._ready = state.ready
        self._outbox = state.outbox
        self._uneven_looks = 0
        self._look_at = now + self._config.load_balance_seconds

    def next_deadline(self) -> float:
        """Return when to look again."""
        return self._look_at

    def look(self, now: float) -> None:
        """Recall tasks that have not started, where a look is due and the ones before found the same."""
        if now < self._look_at:
            return
        self._look_at = now + self._config.load_balance_seconds
        agents = [agent for agent in self._agents.by_peer.values() if not agent.draining]
        recalls = self._recalls(agents)
        self._uneven_looks = self._uneven_looks + 1 if any(recalls) else 0
        if self._uneven_looks < self._config.load_balance_trigger_times:
            return
        self._uneven_looks = 0
        for agent, count in zip(agents, recalls, strict=True):
            if count:
                self._outbox.send(agent, m.TaskRecall(count))

    def _recalls(self, agents: list[AgentRecord]) -> list[int]:
        """Return how many tasks each is to give back; nothing if nobody is to give any."""
        if not any(len(agent.tasks) > agent.slots for agent in agents):
            # Most looks end here, also where thousands of agents have nothing to do.
            return []
        idle = {agent.capability_names for agent in agents if agent.units < agent.slots}
        if not idle:
            return []
        if any(queue.signature <= names for queue in self._ready.uncounted() if not queue.is_held for names in idle):
            # Idle agents get what is ready first, where they can run it.
            return []
        some_named = self._agents.has_views
        return tasks_to_recall([Load(agent.units, agent.slots, _movable(agent, idle, some_named)) for agent in agents])


def _movable(agent: AgentRecord, idle: Set[Names], some_named: bool) -> int:
    """Return how many of a busy agent's tasks an idle agent has the capabilities for; `idle` holds the names these offer.

    `some_named`: some tasks may be for a certain worker or host, whose names nobody offers.

    Recalling other tasks would be in vain: they would come back to agents like this one.
    """
    if agent.units <= agent.slots:
        return 0
    if not some_named and all(agent.capability_names <= names for names in idle):
        return len(agent.tasks)
    return sum(1 for task in agent.tasks if any(task.options.signature <= names for names in idle))
