"""The tasks an agent holds, and how far each has come.

queue ──room──▶ fetching ──objects──▶ running ──result──▶ (storing ──▶) answered
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from scaler_adapters.symphony.task_runner import RemoteResult
from scaler_protocol.runtime.core import require
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried, carried_rows
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions, asked_of


@dataclass(slots=True, eq=False)
class Task:
    """One task of a batch."""

    key: int
    client: bytes
    number: int
    attempt: int
    function: bytes
    payload: bytes
    inputs: tuple[bytes, ...]
    objects: tuple[bytes, ...]
    batch: m.TaskBatch
    carried: Carried = ()
    asked: CallOptions = NO_OPTIONS
    since: float = 0.0
    """When it was sent to Symphony; 0 before."""
    answered: bool = False
    """Nobody waits for it any more. If it is running, it goes on in Symphony and keeps its place there."""
    missing: set[bytes] = field(default_factory=set)
    """Objects that have been asked for, and are not here yet."""
    result: RemoteResult | None = None

    @property
    def depth(self) -> int:
        """How deeply the task is nested."""
        return self.batch.depth

    def timeout(self, of_all: float) -> float:
        """Return how many seconds it may run, where this is the limit of all tasks; 0: no limit."""
        own = self.asked.timeout_seconds
        return min(own, of_all) if own and of_all else own or of_all


class TaskTable:
    """All tasks here. Each is in one place; whoever moves one does so by these fields."""

    def __init__(self, base_concurrency: int) -> None:
        self._base = base_concurrency
        self._next_key = 0
        self.queue: list[Task] = []
        self.fetching: dict[int, Task] = {}
        """By key: they have a place in Symphony, and wait for objects."""
        self.running: dict[int, Task] = {}
        """By key: they are in Symphony."""
        self.storing: dict[bytes, Task] = {}
        """By the id of the object: they have ended, and their result is on its way into object storage."""

    def tasks_of(self, batch: m.TaskBatch) -> Iterator[Task]:
        """Yield the tasks of a batch. They are in no place yet."""
        rows = len(batch.numbers)
        attempts = batch.attempts if len(batch.attempts) else [1] * rows
        indexes = batch.function_indexes if len(batch.function_indexes) else [0] * rows
        objects = _by_row(zip(batch.object_positions, batch.objects, strict=True))
        inputs = _by_row(zip(batch.input_positions, batch.inputs.split(), strict=True))
        carried = carried_rows(batch, rows)
        asked = asked_of(batch.options)
        for row, (number, attempt, index, payload) in enumerate(
            zip(batch.numbers, attempts, indexes, batch.payloads.split(), strict=True)
        ):
            self._next_key += 1
            yield Task(
                self._next_key,
                batch.client,
                number,
                attempt,
                batch.functions[index],
                payload,
                tuple(inputs.get(row, ())),
                tuple(objects.get(row, ())),
                batch,
                carried[row],
                asked,
            )

    def unanswered(self) -> list[Task]:
        """Return the tasks that the scheduler has no answer to."""
        return [task for task in self._all() if not task.answered]

    def has_unanswered(self) -> bool:
        """Return whether there are such tasks."""
        return any(not task.answered for task in self._all())

    def abandoned_count(self) -> int:
        """How many tasks run on although nobody waits for them: they have a place here and none in the scheduler's count."""
        return sum(task.answered for task in self.running.values())

    def next_timeout(self, of_all: float) -> float:
        """When the next task has run for too long, where `of_all` is the limit of all tasks; inf for never."""
        return min(
            (
                task.since + limit
                for task in self.running.values()
                if not task.answered and (limit := task.timeout(of_all))
            ),
            default=inf,
        )

    def timed_out(self, of_all: float, now: float) -> list[tuple[Task, float]]:
        """Return the tasks that have run for too long, with their limits."""
        found = []
        for task in self.running.values():
            limit = task.timeout(of_all)
            if limit and not task.answered and now >= task.since + limit:
                found.append((task, limit))
        return found

    def may_start(self, task: Task) -> bool:
        """Whether there is a place for it, or it is deeper than all that run: its parent is among them and waits for it."""
        busy = [*self.running.values(), *self.fetching.values()]
        return len(busy) < self._base or task.depth > max(running.depth for running in busy)

    def take_startable(self) -> Task | None:
        """Take the deepest task out of the queue, if it may start."""
        if not self.queue:
            return None
        task = max(self.queue, key=lambda task: task.depth)
        if not self.may_start(task):
            return None
        self.queue.remove(task)
        return task

    def take_unstartable(self) -> list[Task]:
        """Take all tasks out of the queue that may not start."""
        taken = [task for task in self.queue if not self.may_start(task)]
        self.queue = [task for task in self.queue if self.may_start(task)]
        return taken

    def take_last(self, count: int) -> list[Task]:
        """Take so many tasks out of the queue, at its end."""
        keep = max(0, len(self.queue) - count)
        taken, self.queue = self.queue[keep:], self.queue[:keep]
        return taken

    def take_unstarted(self) -> list[Task]:
        """Take all tasks that are not in Symphony yet and that somebody waits for."""
        taken = [task for task in [*self.queue, *self.fetching.values()] if not task.answered]
        self.queue, self.fetching = [], {}
        return taken

    def abandon(self, task: Task) -> None:
        """Nobody waits for it any more. What runs in Symphony runs to its end there and keeps its place until then."""
        task.answered = True
        if task in self.queue:
            self.queue.remove(task)
        self.fetching.pop(task.key, None)
        for object_id in [object_id for object_id, storing in self.storing.items() if storing is task]:
            del self.storing[object_id]

    def check_invariants(self) -> None:
        """Raises InvariantError."""
        keys = [task.key for task in self._all()]
        require(len(keys) == len(set(keys)), "a task is in two places")
        require(not any(task.answered for task in self.queue), "an answered task is queued")
        require(all(task.missing for task in self.fetching.values()), "a task waits for no object")
        require(not any(task.missing for task in self.running.values()), "a task runs without all its objects")
        require(all(task.result for task in self.storing.values()), "a result is stored that is none")
        excess = len(self.running) + len(self.fetching) - self._base
        depths = {task.depth for task in [*self.running.values(), *self.fetching.values()]}
        require(excess < len(depths) or excess <= 0, "more tasks run than there are places and depths")

    def _all(self) -> list[Task]:
        return [*self.queue, *self.fetching.values(), *self.running.values(), *self.storing.values()]


def _by_row(cells: Iterable[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    rows: dict[int, list[bytes]] = {}
    for row, cell in cells:
        rows.setdefault(row, []).append(cell)
    return rows
