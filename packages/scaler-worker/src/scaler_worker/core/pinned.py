"""Tasks that are for one worker of this host each, as `Client.run` submits them: they go ahead of all others there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from scaler_protocol.capabilities import pinned_slot
from scaler_protocol.wire import messages as m
from scaler_worker.core.slices import TaskSlice, split_out


def slot_of(batch: m.TaskBatch) -> int | None:
    """Return the slot that these tasks are for; None where any will do, as it is for rows of graphs that go on together."""
    if not batch.capabilities or len(batch.chain_ends):
        return None
    return pinned_slot(batch.capabilities)


class PinnedTasks:
    """Slices by slot, in the order in which they came. `count` is the number of tasks in it."""

    __slots__ = ("_by_slot", "count")

    def __init__(self) -> None:
        self._by_slot: dict[int, deque[TaskSlice]] = {}
        self.count = 0

    def __iter__(self) -> Iterator[TaskSlice]:
        for line in self._by_slot.values():
            yield from line

    def __contains__(self, slot: int) -> bool:
        """Whether tasks wait for this slot."""
        return slot in self._by_slot

    def slots(self) -> list[int]:
        """Return the slots for which tasks wait."""
        return list(self._by_slot)

    def depth(self, slot: int) -> int:
        """Return the depth of the task that is next in a slot for which tasks wait."""
        return self._by_slot[slot][0].depth

    def add(self, slot: int, tasks: TaskSlice) -> None:
        """Append tasks for a slot."""
        self._by_slot.setdefault(slot, deque()).append(tasks)
        self.count += len(tasks)

    def put_back(self, slot: int, tasks: TaskSlice) -> None:
        """Queue in front, where it came from."""
        if len(tasks):
            self._by_slot.setdefault(slot, deque()).appendleft(tasks)
            self.count += len(tasks)

    def take(self, slot: int) -> TaskSlice:
        """Remove and return the next task for a slot for which tasks wait."""
        line = self._by_slot[slot]
        tasks = line[0].take(1)
        if not len(line[0]):
            line.popleft()
            if not line:
                del self._by_slot[slot]
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
        for slot in self.slots():
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
