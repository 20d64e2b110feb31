"""When tasks that wait for their next attempt may go on, and when deadlines of tasks are over: two heaps.

Entries of tasks that have ended stay until their time, or until they are more than the others.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from scaler_protocol.runtime.core import require
from scaler_scheduler.core.records import Task

PORTION = 256
"""So many numbers at most are named at once, so that others need not wait for very many."""

FEW = 1000
"""So many entries may stay, whatever they are of."""

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
        self._by_client: Counter[bytes] = Counter()
        """How many entries of `_deadlines` there were at most for each client that is here."""
        self._ended = 0
        """As many of clients that are gone."""
        self._looked_through_above = FEW
        """How many entries of `_deadlines` are worth a look."""

    def delay(self, task: Task, due: float) -> None:
        """Have a task wait until it is `due`."""
        self.delayed[task] = due
        heappush(self._retries, (due, next(self._entries), task))

    def set_deadline(self, client_id: bytes, numbers: Iterable[int], due: float) -> None:
        """These tasks of a client are to end when it is `due`."""
        heappush(self._deadlines, (due, next(self._entries), client_id, array("Q", numbers)))
        self._by_client[client_id] += 1

    def drop_client(self, client_id: bytes) -> None:
        """A client is gone: nothing is left of its tasks."""
        self._ended += self._by_client.pop(client_id, 0)

    def forget_ended(self, is_open: Callable[[bytes, Sequence[int]], bool], unfinished: Callable[[], int]) -> None:
        """Drop the deadlines of tasks that have ended, if these are many.

        `is_open`: whether some of a client's tasks have not ended. `unfinished`: how many there are in all.
        """
        entries = len(self._deadlines)
        # Looked through where that drops half of them, or where they have doubled.
        is_due = 2 * self._ended > entries or entries > self._looked_through_above
        if entries <= FEW or not is_due or entries <= 2 * unfinished() + FEW:
            return
        self._deadlines = [entry for entry in self._deadlines if is_open(entry[2], entry[3])]
        heapify(self._deadlines)
        self._by_client = Counter(client_id for _, _, client_id, _ in self._deadlines)
        self._ended = 0
        self._looked_through_above = 2 * len(self._deadlines) + FEW

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

    def next_overdue(self) -> float:
        """When the next deadline is over; inf for never."""
        return self._deadlines[0][0] if self._deadlines else inf

    def next_deadline(self) -> float:
        """When there is something to take; inf for never."""
        heap = self._retries
        if len(heap) > 2 * len(self.delayed) + FEW:
            heap = self._retries = [(due, next(self._entries), task) for task, due in self.delayed.items()]
            heapify(heap)
        while heap and self.delayed.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return min(heap[0][0] if heap else inf, self.next_overdue())

    def with_deadline(self) -> dict[bytes, set[int]]:
        """Return by client the numbers of which a deadline has still to come. For checks."""
        found: dict[bytes, set[int]] = {}
        for _, _, client_id, numbers in self._deadlines:
            found.setdefault(client_id, set()).update(numbers)
        return found

    def check_invariants(self) -> None:
        """Raise InvariantError unless each task that waits is found when its time has come."""
        entries = {(task, due) for due, _, task in self._retries}
        require(entries >= set(self.delayed.items()), "a task waits for a time that nobody watches")
        counted = Counter(client_id for _, _, client_id, _ in self._deadlines)
        require(counted.total() <= self._by_client.total() + self._ended, "deadlines are counted wrongly")
