"""Tasks an agent holds and has not handed to a processor: deeper ones first, then fairly by client, then by priority.

Within a depth, slices stand in the order in which their next turns end, in *virtual* microseconds. A client's turns follow one
another, and its first one begins where the turn that was taken last begins. So the slice of a client with little to do goes
ahead of those that others have waiting, a long one makes room for others after each turn, and those of one client stay in order.

A slice that is more urgent than one of its client in the line lies beside the line, and goes at the turn of the first such one.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Container, Iterator, Set

from scaler_worker.core.durations import DurationEstimates
from scaler_worker.core.slices import TaskSlice, split_out

TURN_MICROSECONDS = 4000.0
"""Work of one client that goes before others have their turn."""

UNKNOWN_MICROSECONDS = 1000.0
"""How long tasks take of which nothing is known, if nothing is known of any."""


class _Urgent:
    """Of one client and depth: the slices beside the line, and what is known of those in it."""

    __slots__ = ("beside", "in_line", "lowest")

    def __init__(self) -> None:
        self.in_line = 0
        """How many slices are in the line: each is as urgent as those before it, or less."""
        self.lowest = 0
        """The priority of the last one."""
        self.beside: list[tuple[int, int, TaskSlice]] = []
        """More urgent than that one, by priority, the next one last."""

    def append(self, tasks: TaskSlice) -> None:
        """This slice is now the last one of those in the line."""
        self.in_line += 1
        self.lowest = tasks.asked.priority


class TaskQueue:
    """Slices by depth. `count` is the number of tasks in it."""

    __slots__ = (
        "_added",
        "_by_depth",
        "_clock",
        "_depths",
        "_durations",
        "_ends",
        "_has_priorities",
        "_has_returned",
        "_rows",
        "_urgent",
        "count",
    )

    def __init__(self, durations: DurationEstimates) -> None:
        self._durations = durations
        self._by_depth: dict[int, deque[TaskSlice]] = {}
        self._depths: list[int] = []
        self._rows: dict[bytes, int] = {}
        """How many tasks of each client are in it."""
        self._clock = 0.0
        """Where the turn began that was taken last."""
        self._ends: dict[bytes, float] = {}
        """Where the last turn ends that each client has got since the queue was empty."""
        self._has_priorities = False
        """Whether any tasks had a priority since the queue was empty."""
        self._has_returned = False
        """Whether any tasks were put back since the queue was empty."""
        self._urgent: dict[tuple[int, bytes], _Urgent] = {}
        """Empty while all slices are in the lines, until the next one comes."""
        self._added = 0
        self.count = 0

    def __iter__(self) -> Iterator[TaskSlice]:
        for depth in reversed(self._depths):
            yield from self._merged(depth) if self._urgent else self._by_depth[depth]

    @property
    def is_shared(self) -> bool:
        """Whether tasks of several clients wait."""
        return len(self._rows) > 1

    def has_all(self, clients: Set[bytes]) -> bool:
        """Whether tasks of each of these clients wait."""
        return self._rows.keys() >= clients

    def add(self, tasks: TaskSlice) -> None:
        """Append tasks behind others of their client and depth, and behind those whose turn ends before theirs."""
        rows = tasks.stop - tasks.start
        if not rows:
            return
        client = tasks.batch.client
        if not self.count:
            # Nobody waits, so time begins anew.
            self._clock = 0.0
            self._ends.clear()
            self._has_returned = False
            if self._has_priorities:
                self._has_priorities = False
                self._urgent.clear()
            if rows == 1 and not tasks.batch.options:
                # It has no turn: what latency consists of.
                self._line(tasks.batch.depth).append(tasks)
                self._rows[client] = self.count = 1
                return
        if tasks.batch.options and tasks.asked.priority:
            self._has_priorities = True
        tasks.each = self._durations.of(tasks) or self._durations.mean_microseconds or UNKNOWN_MICROSECONDS
        tasks.begins = max(self._clock, self._ends.get(client, 0.0))
        self._ends[client] = tasks.begins + rows * tasks.each
        if self._has_priorities:
            self._add_by_priority(tasks)
        else:
            self._insert(self._line(tasks.batch.depth), tasks)
        self._count(client, rows)

    def put_back(self, tasks: TaskSlice) -> None:
        """Queue at the front of its depth, where it came from: for one turn, as other clients may have come meanwhile."""
        if len(tasks):
            self._merge()
            self._has_returned = True
            line = self._line(tasks.depth)
            # It may have come back because such tasks take longer than was known.
            tasks.each = self._durations.of(tasks) or self._durations.mean_microseconds or UNKNOWN_MICROSECONDS
            tasks.begins = self._clock
            tasks.ends = min(tasks.ends, line[0].ends) if line else 0.0
            if self._has_priorities:
                self._put_back_by_priority(line, tasks)
            else:
                line.appendleft(tasks)
            self._count(tasks.client, len(tasks))

    def head(self, closed: Container[int] = ()) -> TaskSlice | None:
        """Return the slice whose tasks are next, the deepest that is not of a closed depth; None where there is none."""
        for depth in reversed(self._depths):
            if depth not in closed:
                head = self._by_depth[depth][0]
                return self._more_urgent(head) if self._urgent else head
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
        if head.begins > self._clock:
            self._clock = head.begins
        if self._urgent and head is not line[0]:
            taken = head.take(count)
            if count == rows:
                self._urgent[depth, batch.client].beside.pop()
            # The other one, at whose turn it goes, has its turn later.
            other = line.popleft()
            other.begins += count * head.each
            self._insert_ahead(line, other)
        elif count == rows:
            taken = line.popleft()
            if self._urgent:
                self._leave_line(taken)
            if not line:
                self._drop_line(depth)
        else:
            taken = head.take(count)
            head.begins += count * head.each
            if head.begins >= head.ends and len(line) > 1:
                line.popleft()
                if self._has_priorities:
                    self._insert_ahead(line, head)
                elif self._has_returned:
                    self._insert_with_followers(line, head)
                else:
                    self._insert(line, head)
        self._count(batch.client, -count)
        return taken

    def take_only(self) -> TaskSlice:
        """Remove and return the only task there is."""
        self.count = 0
        self._rows.clear()
        return self._by_depth.pop(self._depths.pop()).popleft()

    def count_open(self, closed: Container[int], depth_min: int = 0) -> int:
        """Return how many tasks are of this depth or deeper, and not of a closed one."""
        return sum(
            len(tasks)
            for depth in self._depths
            if depth >= depth_min and depth not in closed
            for tasks in (self._merged(depth) if self._urgent else self._by_depth[depth])
        )

    def recall(self, count: int) -> list[TaskSlice]:
        """Remove and return up to `count` tasks, shallowest first, newest first.

        A chain counts as one task: it needs one processor, and is returned whole.
        """
        self._merge()
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
            self._count(tail.client, -len(tail))
            recalled.append(tail)
        return recalled

    def remove(self, client: bytes, wanted: dict[int, int] | None) -> tuple[list[TaskSlice], list[TaskSlice]]:
        """Remove this client's tasks: the wanted ones (number to attempt, 0 for any), or all for None.

        Returns them, and what lost its predecessors with them, which is removed too.
        """
        self._merge()
        if wanted is None:
            # It is gone. A queue that is never empty would remember all clients there have ever been.
            self._ends.pop(client, None)
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
        if removed:
            self._count(client, -sum(len(tasks) for tasks in (*removed, *orphaned)))
        return removed, orphaned

    def _insert(self, line: deque[TaskSlice], tasks: TaskSlice) -> None:
        tasks.ends = tasks.begins + min(TURN_MICROSECONDS, len(tasks) * tasks.each)
        if not line or line[-1].ends <= tasks.ends:
            line.append(tasks)
        else:
            line.insert(bisect_right(line, tasks.ends, key=_end_of), tasks)

    def _insert_ahead(self, line: deque[TaskSlice], tasks: TaskSlice) -> None:
        """Queue what was at the front for a later turn, but ahead of others of its client."""
        tasks.ends = tasks.begins + min(TURN_MICROSECONDS, len(tasks) * tasks.each)
        place = 0
        for other in line:
            if other.ends > tasks.ends or other.client == tasks.client:
                tasks.ends = min(tasks.ends, other.ends)
                tasks.begins = min(tasks.begins, tasks.ends)
                break
            place += 1
        line.insert(place, tasks)

    def _insert_with_followers(self, line: deque[TaskSlice], tasks: TaskSlice) -> None:
        """Queue what was put back for a later turn, and no others of its client ahead of it: they wait as long."""
        tasks.ends = tasks.begins + min(TURN_MICROSECONDS, len(tasks) * tasks.each)
        followers = [other for other in line if other.client == tasks.client and other.ends <= tasks.ends]
        for other in followers:
            line.remove(other)
            other.begins, other.ends = max(other.begins, tasks.begins), tasks.ends
        place = bisect_right(line, tasks.ends, key=_end_of)
        for other in (*reversed(followers), tasks):
            line.insert(place, other)

    def _add_by_priority(self, tasks: TaskSlice) -> None:
        if not self._urgent:
            for depth, line in self._by_depth.items():
                for other in line:
                    self._urgent.setdefault((depth, other.client), _Urgent()).append(other)
        depth, priority = tasks.depth, tasks.asked.priority
        urgent = self._urgent.setdefault((depth, tasks.client), _Urgent())
        if urgent.in_line and priority > urgent.lowest:
            self._added += 1
            insort(urgent.beside, (priority, -self._added, tasks))
        else:
            self._insert(self._line(depth), tasks)
            urgent.append(tasks)

    def _more_urgent(self, head: TaskSlice) -> TaskSlice:
        """Return what goes at the turn of this slice, which is the first one of a line."""
        beside = self._urgent[head.depth, head.client].beside
        if not beside or beside[-1][0] <= head.asked.priority:
            return head
        urgent = beside[-1][2]
        urgent.begins = min(urgent.begins, head.begins)
        return urgent

    def _leave_line(self, tasks: TaskSlice) -> None:
        key = tasks.depth, tasks.client
        urgent = self._urgent[key]
        urgent.in_line -= 1
        if not urgent.in_line:
            # None is beside the line any more: the last one in it was less urgent.
            del self._urgent[key]

    def _merged(self, depth: int) -> Iterator[TaskSlice]:
        """Iterate over the slices of a depth in the order of their client's turns and priorities."""
        beside = {client: list(urgent.beside) for (of, client), urgent in self._urgent.items() if of == depth}
        for tasks in self._by_depth[depth]:
            waiting = beside[tasks.client]
            while waiting and waiting[-1][0] > tasks.asked.priority:
                urgent = waiting.pop()[2]
                # It takes the other one's turn, so that other clients wait no longer.
                urgent.begins, urgent.ends = min(urgent.begins, tasks.begins), tasks.ends
                yield urgent
            yield tasks

    def _merge(self) -> None:
        """Put all slices into the lines."""
        if self._urgent:
            for depth in self._depths:
                self._by_depth[depth] = deque(self._merged(depth))
            self._urgent.clear()

    def _put_back_by_priority(self, line: deque[TaskSlice], tasks: TaskSlice) -> None:
        """Queue at the front of a line, but behind tasks of the same client that have a higher priority."""
        place, priority = 0, tasks.asked.priority
        for position, other in enumerate(line):
            if other.client == tasks.client and other.asked.priority > priority:
                place = position + 1
        if place:
            tasks.begins = tasks.ends = line[place - 1].ends
        line.insert(place, tasks)

    def _count(self, client: bytes, rows: int) -> None:
        self.count += rows
        left = self._rows.get(client, 0) + rows
        if left:
            self._rows[client] = left
        else:
            del self._rows[client]

    def _line(self, depth: int) -> deque[TaskSlice]:
        line = self._by_depth.get(depth)
        if line is None:
            line = self._by_depth[depth] = deque()
            insort(self._depths, depth)
        return line

    def _drop_line(self, depth: int) -> None:
        del self._by_depth[depth]
        self._depths.remove(depth)


def _end_of(tasks: TaskSlice) -> float:
    return tasks.ends
