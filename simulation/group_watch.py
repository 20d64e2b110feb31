"""Watches that no group of clients runs more tasks than it may, and counts what groups are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from scaler_scheduler.core.group_lifecycle import GroupLifecycle
from scaler_scheduler.core.records import AgentRecord, Task, TaskOptions
from simulation.ledger import SimulationError


class GroupWatch:
    """Looks at each assignment of a scheduler. Raises SimulationError where a limit is exceeded.

    What agents have from before a restart is no assignment: a limit may be exceeded by that, and nothing is assigned until it
    is not any more.
    """

    def __init__(self, lifecycle: GroupLifecycle) -> None:
        self._groups = lifecycle._groups
        self.assigned: Counter[str] = Counter()
        """Tasks that each group was given."""
        lifecycle.assign = self._watched(lifecycle.assign)  # type: ignore[method-assign]

    def _watched(self, assign: Any) -> Any:
        def assigned(agent: AgentRecord, tasks: Iterable[Task]) -> dict[TaskOptions, list[Task]]:
            given: dict[TaskOptions, list[Task]] = assign(agent, tasks)
            for options, some in given.items():
                group = self._groups.of[options.client.id]
                self.assigned[group.name] += len(some)
                limit = group.share.max_running
                running = sum(
                    1
                    for client in group.clients
                    for task in client.tasks.values()
                    if task.agent is not None and task.options.depth == options.depth
                )
                if limit and running > limit:
                    raise SimulationError(
                        f"{running} tasks of group {group.name} run at depth {options.depth}, at most {limit} may"
                    )
            return given

        return assigned
