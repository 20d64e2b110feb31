"""When tasks that wait for their next attempt may go on, and when deadlines of tasks are over: two heaps.

Entries of tasks that have ended stay until their time. They name tasks by number, so nothing is kept alive by them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf

from scaler_scheduler.core.records import Task

PORTION = 256
"""So many numbers at most are named at once, so that others need not wait for very many."""

Overdue = tuple[bytes, Sequence[int]]
"""A client, and numbers of its tasks, some of which may have ended."""


class TaskTimers:
    """`delayed` has the tasks that wait for their next attempt; only `TaskLifecycle` adds and removes them."""

    def __init__(self) -> None:
        self.delayed: dict[Task, float] = {}
        """Until when each waits."""
        self._retries: list[tuple[float, int, Task]] = []
        self._deadlines: list[tuple[float, int, bytes, Sequence[int]]] = []
        self._entries = count()

    def delay(self, task: Task, due: float) -> None:
        """Have a task wait until it is `due`."""
        self.delayed[task] = due
        heappush(self._retries, (due, next(self._entries), task))

    def set_deadline(self, client_id: bytes, numbers: Iterable[int], due: float) -> None:
        """These tasks of a client are to end when it is `due`."""
        heappush(self._deadlines, (due, next(self._entries), client_id, array("Q", numbers)))

    def take_due(self, now: float) -> list[Task]:
        """Return tasks that wait no longer, the first ones first. They stay in `delayed`. Not all, if they are very many."""
        tasks: list[Task] = []
        heap = self._retries
        while heap and heap[0][0] <= now and len(tasks) < PORTION:
            due, _, task = heappop(heap)
            if self.delayed.get(task) == due:
                tasks.append(task)
        return tasks

    def take_overdue(self, now: float) -> Overdue | None:
        """Return tasks whose deadline is over, if there are any; call it again for more."""
        heap = self._deadlines
        if not heap or heap[0][0] > now:
            return None
        due, entry, client_id, numbers = heappop(heap)
        if len(numbers) > PORTION:
            heappush(heap, (due, entry, client_id, numbers[PORTION:]))
        return client_id, numbers[:PORTION]

    def next_deadline(self) -> float:
        """When there is something to take; inf for never."""
        heap = self._retries
        while heap and self.delayed.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return min(heap[0][0] if heap else inf, self._deadlines[0][0] if self._deadlines else inf)
