"""Tasks that not any free processor may run: they go ahead of all others here.

Some are for one worker of this host each, as `Client.run` submits them. Others have counted resources, and may need a processor
that has certain GPUs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from scaler_protocol.capabilities import pinned_slot
from scaler_protocol.runtime.resources import GPU, ONE, Amounts, parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import asked_of
from scaler_worker.core.slices import TaskSlice, split_out


class Granted(NamedTuple):
    """What each of some tasks has of the host's counted resources."""

    amounts: Amounts
    devices: tuple[str, ...]

    @property
    def share(self) -> int:
        """How much it has of each of its devices, in thousandths."""
        return min(dict(self.amounts).get(GPU, 0), ONE)


class CountedLine(NamedTuple):
    """What tasks with counted resources have in common that wait together."""

    shallowness: int
    """Their depth below zero."""
    unimportance: int
    """Their priority below zero."""
    granted: Granted


@lru_cache(maxsize=256)
def _granted(amounts: str, devices: str) -> Granted:
    return Granted(parse_amounts(amounts), tuple(devices.split(",")) if devices else ())


def granted_of(batch: m.TaskBatch) -> Granted | None:
    """Return what the tasks of a batch have of the host; None where they need nothing that is counted.

    Raises ValueError for what cannot be read.
    """
    if not batch.options or not asked_of(batch.options).resources:
        return None
    return _granted(batch.granted, batch.devices)


def slot_of(batch: m.TaskBatch) -> int | None:
    """Return the slot that these tasks are for, or None where any will do."""
    return pinned_slot(batch.capabilities) if batch.capabilities else None


def line_of(batch: m.TaskBatch) -> int | CountedLine | None:
    """Return the slot that these tasks are for, or the line in which they wait; None where any processor may run them."""
    slot = slot_of(batch)
    if slot is not None or not batch.options:
        return slot
    granted = granted_of(batch)
    return None if granted is None else CountedLine(-batch.depth, -asked_of(batch.options).priority, granted)


class PinnedTasks:
    """Slices by slot, or by what their tasks have: the deepest first, and then in the order in which they came.

    `count` is the number of tasks in it.
    """

    __slots__ = ("_by_slot", "count")

    def __init__(self) -> None:
        self._by_slot: dict[int | CountedLine, deque[TaskSlice]] = {}
        self.count = 0

    def __iter__(self) -> Iterator[TaskSlice]:
        for line in self._by_slot.values():
            yield from line

    def __contains__(self, slot: int | CountedLine) -> bool:
        """Whether tasks wait in this line."""
        return slot in self._by_slot

    def slots(self) -> list[int]:
        """Return the slots for which tasks wait."""
        return [line for line in self._by_slot if isinstance(line, int)]

    def counted_lines(self) -> list[CountedLine]:
        """Return the lines of tasks with counted resources, in the order in which they go: deeper ones, more urgent ones, and
        then that which has waited longest since one of its tasks was taken."""
        lines = [line for line in self._by_slot if not isinstance(line, int)]
        return sorted(lines, key=lambda line: (line.shallowness, line.unimportance))

    def counted_tasks(self) -> int:
        """Return how many tasks with counted resources wait here for any processor."""
        return sum(
            len(tasks) for line, slices in self._by_slot.items() if not isinstance(line, int) for tasks in slices
        )

    def head(self, slot: int | CountedLine) -> TaskSlice:
        """Return the tasks that are next in a line."""
        return self._by_slot[slot][0]

    def add(self, slot: int | CountedLine, tasks: TaskSlice) -> None:
        """Append tasks to a line, before those that are less deep: these may have to wait until what they submit is done."""
        line = self._by_slot.setdefault(slot, deque())
        if not line or line[-1].depth >= tasks.depth:
            line.append(tasks)
        else:
            line.insert(next(place for place, other in enumerate(line) if other.depth < tasks.depth), tasks)
        self.count += len(tasks)

    def put_back(self, slot: int | CountedLine, tasks: TaskSlice) -> None:
        """Queue in front of those that are as deep, where it came from."""
        if len(tasks):
            line = self._by_slot.setdefault(slot, deque())
            line.insert(sum(1 for other in line if other.depth > tasks.depth), tasks)
            self.count += len(tasks)

    def take(self, slot: int | CountedLine) -> TaskSlice:
        """Remove and return the next task of a line."""
        line = self._by_slot[slot]
        tasks = line[0].take(1)
        if not len(line[0]):
            line.popleft()
        del self._by_slot[slot]
        if line:
            # Behind the others: they go in turn.
            self._by_slot[slot] = line
        self.count -= 1
        return tasks

    def take_all(self) -> list[TaskSlice]:
        """Remove and return all tasks."""
        taken = list(self)
        self._by_slot.clear()
        self.count = 0
        return taken

    def remove(self, client: bytes, wanted: dict[int, int] | None) -> list[TaskSlice]:
        """Remove and return this client's tasks: the wanted ones (number to attempt, 0 for any), or all for None."""
        removed: list[TaskSlice] = []
        for slot in list(self._by_slot):
            kept: deque[TaskSlice] = deque()
            for tasks in self._by_slot[slot]:
                if tasks.client != client:
                    kept.append(tasks)
                elif wanted is None:
                    removed.append(tasks)
                else:
                    stays, out = split_out(tasks, tasks.find(wanted))
                    kept.extend(stays)
                    removed.extend(out)
            if kept:
                self._by_slot[slot] = kept
            else:
                del self._by_slot[slot]
        self.count -= sum(map(len, removed))
        return removed
