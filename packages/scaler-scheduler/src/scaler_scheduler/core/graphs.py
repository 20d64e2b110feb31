"""Graphs: rows that wait for other rows, held as a few arrays instead of a million objects.

A row is WAITING until its last predecessor is done, then RELEASED (a `Task` exists for it), then DONE or FAILED. A result
stays until its last reader is done: readers are the dependent rows, and the client where it wants the row.

A row may be RELEASED before that, behind the predecessors it still lacks: when it is the one row that a predecessor sets
free, they go to an agent together as a chain. Should it come back without them, it is WAITING again.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.messages import GraphSubmit
from scaler_scheduler.core.tasks import Task, TaskOptions, TaskState

if TYPE_CHECKING:
    from scaler_scheduler.core.agents import AgentRecord

CHAIN_ROWS_MAX = 128
CHAIN_BYTES_MAX = 1024 * 1024
"""Payload bytes of a chain."""

CHAIN_MICROSECONDS = 20_000.0
"""Work in a chain, as far as known: it can be neither balanced nor overtaken, and a trip costs a twentieth of this."""

DURATION_WEIGHT_KEPT = 0.9


class RowState(IntEnum):
    WAITING = 0
    RELEASED = 1
    DONE = 2
    FAILED = 3


# Plain numbers, for comparing with what is in `Graph.states`: looking an enum's member up costs more than the comparison.
_WAITING, _RELEASED, _DONE = int(RowState.WAITING), int(RowState.RELEASED), int(RowState.DONE)


class RowResult(NamedTuple):
    """A finished row's result: payload bytes, the objects they name, and what its processor reported."""

    payload: bytes
    objects: tuple[bytes, ...]
    reported: Reported
    """Columns of this one row."""
    attempt: int


class Graph:
    """One submitted graph."""

    def __init__(self, message: GraphSubmit, options: TaskOptions) -> None:
        rows = len(message.payloads)
        self.first_number = message.first_number
        self.row_count = rows
        self.options = options
        self.attempts_before = 0
        """Highest attempt that an earlier scheduler gave to a row; those of this one's tasks follow."""
        self.unfinished = rows
        self.waiting = rows
        """Of the unfinished rows, those that no task exists for yet."""
        self.results: dict[int, RowResult] = {}
        """Results that still have readers."""
        self.holders: dict[int, list[AgentRecord]] = {}
        """Which agents made or read a row's result, where that is an object and has readers."""
        self.returned: dict[int, Task] = {}
        """Tasks of rows that wait again."""
        self._mean_duration: float | None = None
        """Moving average over finished rows, in microseconds."""
        self._functions = message.functions
        self._function_indexes = message.function_indexes
        data = message.payloads.data
        self._payloads = data if isinstance(data, bytes) else bytes(data)
        self._payload_ends = array("Q", accumulate(message.payloads.lengths))
        self._dependencies = array("I", message.dependencies)
        self._dependency_ends = array("Q", accumulate(message.dependency_counts))
        self._objects: dict[int, list[bytes]] = {}
        for row, object_id in zip(message.object_positions, message.objects, strict=True):
            self._objects.setdefault(row, []).append(object_id)
        self.wanted = bytearray(rows)
        for row in message.wanted:
            self.wanted[row] = 1
        self.states = bytearray(rows)
        self._missing = array("I", message.dependency_counts)
        self._dependent_starts, self._dependents = self._index_dependents()
        self._readers = array(
            "I",
            (self._dependent_starts[row + 1] - self._dependent_starts[row] + self.wanted[row] for row in range(rows)),
        )

    def _index_dependents(self) -> tuple[array[int], array[int]]:
        """Turn "row needs these" around into "row is needed by these", by counting sort."""
        rows = self.row_count
        counts = array("Q", bytes(8 * (rows + 1)))
        for dependency in self._dependencies:
            counts[dependency + 1] += 1
        starts = array("Q", accumulate(counts))
        dependents = array("I", bytes(4 * len(self._dependencies)))
        fill = starts[:]
        start = 0
        for row, end in enumerate(self._dependency_ends):
            for dependency in self._dependencies[start:end]:
                dependents[fill[dependency]] = row
                fill[dependency] += 1
            start = end
        return starts, dependents

    # --- looking

    def dependencies_of(self, row: int) -> array[int]:
        start = self._dependency_ends[row - 1] if row else 0
        return self._dependencies[start : self._dependency_ends[row]]

    def dependents_of(self, row: int) -> array[int]:
        return self._dependents[self._dependent_starts[row] : self._dependent_starts[row + 1]]

    def rows_in(self, state: RowState) -> Iterable[int]:
        return (row for row, value in enumerate(self.states) if value == state)

    @property
    def finished(self) -> bool:
        return self.unfinished == 0 and not self.results

    # --- moving

    def release_roots(self) -> list[Task]:
        """Return tasks for all rows without predecessors."""
        return [self._release(row) for row, missing in enumerate(self._missing) if missing == 0]

    def complete(self, row: int, result: RowResult, agent: AgentRecord) -> tuple[list[Task], list[bytes]]:
        """A released row is done. Return tasks for the rows that became ready, and objects nobody reads any more."""
        self.states[row] = _DONE
        self.unfinished -= 1
        known, durations = self._mean_duration, result.reported.durations
        duration = float(durations[0]) if len(durations) else 0.0
        self._mean_duration = (
            duration if known is None else known * DURATION_WEIGHT_KEPT + duration * (1.0 - DURATION_WEIGHT_KEPT)
        )
        freed = self._drop_inputs_of(row)
        if self._readers[row]:
            self.results[row] = result
            if result.objects:
                self.holders[row] = [agent]
        else:
            # Everything that would have read it has failed.
            freed.extend(result.objects)
        released = []
        missing, states = self._missing, self.states
        for dependent in self.dependents_of(row):
            missing[dependent] -= 1
            if missing[dependent] == 0 and states[dependent] == _WAITING:
                released.append(self._release(dependent))
        return released, freed

    def fail(self, row: int) -> tuple[list[int], list[bytes]]:
        """A row failed (or was cancelled): so do all that need it. Return these rows, `row` first, and freed objects.

        What needs it is waiting, was released behind it, or, having been that, is done already and stays so.
        """
        failed = [row]
        freed: list[bytes] = []
        states = self.states
        if states[row] == RowState.WAITING:
            self.waiting -= 1
            self.returned.pop(row, None)
        states[row] = RowState.FAILED
        for current in failed:
            self.unfinished -= 1
            for dependent in self.dependents_of(current):
                state = states[dependent]
                if state == RowState.WAITING:
                    self.waiting -= 1
                    self.returned.pop(dependent, None)
                elif state != RowState.RELEASED:
                    continue
                states[dependent] = RowState.FAILED
                failed.append(dependent)
            freed += self._drop_inputs_of(current)
            self._readers[current] = 0
        return failed, freed

    def read_by_client(self, row: int) -> RowResult | None:
        """Hand a wanted row's result over, once. None where it was handed over or has other readers of its objects.

        An object that goes to the client is the client's to delete; so it goes only when no dependent needs it any more.
        """
        if not self.wanted[row] or self.states[row] != RowState.DONE:
            return None
        result = self.results.get(row)
        if result is None or (result.objects and self._readers[row] > 1):
            return None
        self.wanted[row] = 0
        self._readers[row] -= 1
        if self._readers[row] == 0:
            del self.results[row]
            self.holders.pop(row, None)
        return result

    def inputs_held(self, row: int) -> Counter[AgentRecord]:
        """Return how many of the row's large inputs each agent has that made or read any."""
        return Counter(agent for dependency in self.dependencies_of(row) for agent in self.holders.get(dependency, ()))

    def is_read_at(self, row: int, agent: AgentRecord) -> None:
        """The row is handed to this agent: it will have what the row reads."""
        for dependency in self.dependencies_of(row):
            holders = self.holders.get(dependency)
            if holders is not None and agent not in holders:
                holders.append(agent)

    def release_behind(self, row: int) -> list[Task]:
        """Return tasks for the rows that may go to an agent together with the released `row`, in the order to run them.

        Each is the one row that those before it set free, so nothing could run beside it: only a trip is saved.
        """
        rows_max = CHAIN_ROWS_MAX
        if self._mean_duration is not None:
            rows_max = min(rows_max, int(CHAIN_MICROSECONDS / max(self._mean_duration, 1.0)))
        size_bytes = self._payload_bytes(row)
        states, missing = self.states, self._missing
        lacking: dict[int, int] = {}
        """How many results outside the chain a row still waits for."""
        chain: list[Task] = []
        for _ in range(rows_max - 1):
            following = -1
            dependents = self.dependents_of(row)
            if len(dependents) > CHAIN_ROWS_MAX:
                # Looking at them once, when this row is done, is dear enough.
                return chain
            for dependent in dependents:
                if states[dependent] != _WAITING:
                    continue
                lacks = lacking[dependent] = lacking.get(dependent, missing[dependent]) - 1
                if lacks == 0:
                    if following >= 0:
                        # Two may run side by side.
                        return chain
                    following = dependent
            if following < 0:
                return chain
            size_bytes += self._payload_bytes(following)
            if size_bytes > CHAIN_BYTES_MAX:
                return chain
            chain.append(self._release(following))
            row = following
        return chain

    def is_behind(self, row: int) -> bool:
        """Whether a predecessor is not done yet."""
        return self._missing[row] > 0

    def take_back(self, task: Task) -> bool:
        """A task is assigned no longer. Return whether it waits again, because a predecessor is not done."""
        row = task.number - self.first_number
        if not self._missing[row]:
            return False
        self.states[row] = RowState.WAITING
        self.waiting += 1
        self.returned[row] = task
        task.state = TaskState.WAITING
        return True

    def _payload_bytes(self, row: int) -> int:
        return self._payload_ends[row] - (self._payload_ends[row - 1] if row else 0)

    def _release(self, row: int) -> Task:
        self.states[row] = _RELEASED
        self.waiting -= 1
        task = self.returned.pop(row, None) if self.returned else None
        if task is not None:
            task.state = TaskState.READY
            return task
        start = self._payload_ends[row - 1] if row else 0
        index = self._function_indexes[row] if len(self._function_indexes) else 0
        task = Task(
            self.first_number + row,
            self._functions[index],
            self._payloads[start : self._payload_ends[row]],
            self.options,
        )
        task.graph = self
        task.attempt = self.attempts_before
        objects = self._objects.pop(row, None)
        if objects:
            task.objects = tuple(objects)
        return task

    def _drop_inputs_of(self, row: int) -> list[bytes]:
        freed: list[bytes] = []
        readers = self._readers
        for dependency in self.dependencies_of(row):
            if readers[dependency]:
                readers[dependency] -= 1
                if readers[dependency] == 0:
                    result = self.results.pop(dependency, None)
                    if result is not None:
                        self.holders.pop(dependency, None)
                        freed.extend(result.objects)
        return freed
