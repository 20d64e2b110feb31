"""The life of tasks where clients are in groups: as `TaskLifecycle`, and each task at an agent is counted to its group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.groups import Groups
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task, TaskOptions
from scaler_scheduler.core.state import SchedulerState


class GroupLifecycle(TaskLifecycle):
    """See the module."""

    def __init__(self, state: SchedulerState, groups: Groups) -> None:
        super().__init__(state)
        self._groups = groups

    def assign(self, agent: AgentRecord, tasks: Iterable[Task]) -> dict[TaskOptions, list[Task]]:
        """See `TaskLifecycle`."""
        assigned = super().assign(agent, tasks)
        for options, some in assigned.items():
            self._groups.of[options.client.id].assign(some, self._groups.now)
        return assigned

    def adopt(self, task: Task, agent: AgentRecord, attempt: int) -> None:
        """See `TaskLifecycle`."""
        super().adopt(task, agent, attempt)
        self._groups.of[task.options.client.id].assign((task,), self._groups.now)

    def unassign(self, task: Task) -> None:
        """See `TaskLifecycle`."""
        super().unassign(task)
        group = self._groups.of[task.options.client.id]
        group.leave((task,))
        if group.share.max_running:
            # Another task of the group may run now, wherever there is room.
            self._marks.placement_due = True

    def finish_successes(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch) -> list[Task] | None:
        """See `TaskLifecycle`."""
        tasks = super().finish_successes(agent, client, batch)
        if tasks is not None:
            self._groups.of[client.id].leave(tasks)
        return tasks

    def drop_all(self, client: ClientRecord) -> None:
        """See `TaskLifecycle`."""
        self._groups.of[client.id].leave(tuple(client.tasks.values()))
        super().drop_all(client)

    def refuse(self, client: ClientRecord, tasks: Sequence[Task], text: bytes, now: float) -> None:
        """New tasks of a client are not taken in; the caller tells it so in the same step."""
        self.enter(client, tasks)
        for task in tasks:
            self.drop(task, m.Status.GROUP_LIMIT, now, text)
        self._groups.of[client.id].note_refused(len(tasks))
