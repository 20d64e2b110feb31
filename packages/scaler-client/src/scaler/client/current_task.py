"""`current_task()`: what code inside a task can ask about that task."""

from __future__ import annotations

from scaler.client.task_grants import WithGrants


class CurrentTask(WithGrants):
    """The task that this code runs in, see `current_task`."""

    __slots__ = ()


_TASK = CurrentTask()


def current_task() -> CurrentTask:
    """Return the task that this code runs in. Outside tasks too: so functions can be called everywhere."""
    return _TASK
