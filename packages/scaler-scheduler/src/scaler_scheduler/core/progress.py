"""How far running tasks say that they are: for monitors, which show it beside the tasks.

Nothing is forgotten when a task ends, so that this costs other tasks nothing: what has ended is left out when somebody looks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.functions import FunctionRegistry
from scaler_scheduler.core.records import ClientRecord

TASKS_MAX = 1_000
"""Tasks of which it is known: those that spoke last."""


class ProgressTable:
    """See the module."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[bytes, int], tuple[m.TaskProgress, int, float]] = OrderedDict()

    def note(self, progress: m.TaskProgress, attempt: int, now: float) -> None:
        """A running task is so far, in this attempt."""
        key = (progress.client, progress.number)
        self._said[key] = (progress, attempt, now)
        self._said.move_to_end(key)
        if len(self._said) > TASKS_MAX:
            self._said.popitem(last=False)

    def statuses(
        self, clients: Mapping[bytes, ClientRecord], functions: FunctionRegistry, now: float
    ) -> tuple[m.ProgressStatus, ...]:
        """Return what is known of tasks that run, and forget the others."""
        found = []
        for key, (said, attempt, at) in list(self._said.items()):
            client = clients.get(said.client)
            task = client.tasks.get(said.number) if client is not None else None
            if task is None or task.agent is None or task.attempt != attempt:
                del self._said[key]
                continue
            found.append(
                m.ProgressStatus(
                    said.client,
                    said.number,
                    said.done,
                    said.total,
                    said.note,
                    max(0.0, now - at),
                    functions.name(task.function),
                    task.agent.name,
                )
            )
        return tuple(found)
