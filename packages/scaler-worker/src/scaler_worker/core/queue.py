"""Tasks an agent holds and has not handed to a processor: deeper ones first, first come first served within a depth."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Container, Iterator

from scaler_worker.core.slices import TaskSlice, split_out


class TaskQueue:
    """Slices by depth. `count` is the number of tasks in it."""

    __slots__ = ("_by_depth", "_depths", "count")

    def __init__(self) -> None:
        self._by_depth: dict[int, deque[TaskSlice]] = {}
        self._depths: list[int] = []
        self.count = 0

    def __iter__(self) -> Iterator[TaskSlice]:
        for depth in reversed(self._depths):
            yield from self._by_depth[depth]

    def add(self, tasks: TaskSlice) -> None:
        """Append tasks behind others of their depth."""
        rows = tasks.stop - tasks.start
        if rows:
            self._line(tasks.batch.depth).append(tasks)
            self.count += rows

    def put_back(self, tasks: TaskSlice) -> None:
        """Queue at the front of its depth, where it came from."""
        if len(tasks):
            self._line(tasks.depth).appendleft(tasks)
            self.count += len(tasks)

    def head(self, closed: Container[int] = ()) -> TaskSlice | None:
        """Return the slice whose tasks are next, the deepest that is not of a closed depth; None where there is none."""
        for depth in reversed(self._depths):
            if depth not in closed:
                return self._by_depth[depth][0]
        return None

    def take(self, head: TaskSlice, count: int, payload_bytes_max: int) -> TaskSlice:
        """Remove and return up to `count` tasks of `head`; at least one, then only while their payloads fit."""
        batch, start, rows = head.batch, head.start, head.stop - head.start
        depth = batch.depth
        line = self._by_depth[depth]
        count = min(count, rows)
        if sum(batch.payloads.lengths[start : start + count]) > payload_bytes_max:
            total = 0
            for fitting, length in enumerate(head.payload_lengths):
                total += length
                if total > payload_bytes_max:
                    count = max(1, fitting)
                    break
        if batch.chain_ends:
            count = head.whole(count)
        if count == rows:
            taken = line.popleft()
            if not line:
                self._drop_line(depth)
        else:
            taken = head.take(count)
        self.count -= count
        return taken

    def take_only(self) -> TaskSlice:
        """Remove and return the only task there is."""
        self.count = 0
        return self._by_depth.pop(self._depths.pop()).popleft()

    def count_open(self, closed: Container[int], depth_min: int = 0) -> int:
        """Return how many tasks are of this depth or deeper, and not of a closed one."""
        return sum(
            len(tasks)
            for depth, line in self._by_depth.items()
            if depth >= depth_min and depth not in closed
            for tasks in line
        )

    def recall(self, count: int) -> list[TaskSlice]:
        """Remove and return up to `count` tasks, shallowest first, newest first.

        A chain counts as one task: it needs one processor, and is returned whole.
        """
        recalled: list[TaskSlice] = []
        while count > 0 and self._depths:
            depth = self._depths[0]
            line = self._by_depth[depth]
            tail = line[-1]
            chained = len(tail.batch.chain_ends) > 0
            wanted = tail.last_chain() if chained else count
            if len(tail) <= wanted:
                line.pop()
                if not line:
                    self._drop_line(depth)
            else:
                tail = tail.take_last(wanted)
            count -= 1 if chained else len(tail)
            self.count -= len(tail)
            recalled.append(tail)
        return recalled

    def remove(self, client: bytes, wanted: dict[int, int] | None) -> tuple[list[TaskSlice], list[TaskSlice]]:
        """Remove this client's tasks: the wanted ones (number to attempt, 0 for any), or all for None.

        Returns them, and what lost its predecessors with them, which is removed too.
        """
        removed: list[TaskSlice] = []
        orphaned: list[TaskSlice] = []
        for depth in list(self._depths):
            line = self._by_depth[depth]
            if not any(tasks.client == client for tasks in line):
                continue
            kept: deque[TaskSlice] = deque()
            for tasks in line:
                if tasks.client != client:
                    kept.append(tasks)
                elif wanted is None:
                    removed.append(tasks)
                else:
                    stays, out = split_out(tasks, tasks.find(wanted))
                    removed.extend(out)
                    for piece in stays:
                        continued = piece.continued()
                        if continued:
                            orphaned.append(piece.take(continued))
                        if len(piece):
                            kept.append(piece)
            if kept:
                self._by_depth[depth] = kept
            else:
                self._drop_line(depth)
        self.count -= sum(len(tasks) for tasks in (*removed, *orphaned))
        return removed, orphaned

    def _line(self, depth: int) -> deque[TaskSlice]:
        line = self._by_depth.get(depth)
        if line is None:
            line = self._by_depth[depth] = deque()
            insort(self._depths, depth)
        return line

    def _drop_line(self, depth: int) -> None:
        del self._by_depth[depth]
        self._depths.remove(depth)
