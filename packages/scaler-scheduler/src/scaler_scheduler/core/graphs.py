"""Graphs: rows that wait for other rows, held as a few arrays instead of a million objects.

A row is WAITING until its last predecessor is done, then RELEASED (a `Task` exists for it), then DONE or FAILED. A result
stays until its last reader is done: readers are the dependent rows, and the client where it wants the row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

from scaler_protocol.messages import GraphSubmit
from scaler_scheduler.core.tasks import Task, TaskOptions


class RowState(IntEnum):
    WAITING = 0
    RELEASED = 1
    DONE = 2
    FAILED = 3


class RowResult(NamedTuple):
    """A finished row's result: payload bytes, the objects they name, and how long it took (microseconds)."""

    payload: bytes
    objects: tuple[bytes, ...]
    duration: int
    cpu_time: int
    memory_peak: int
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

    def complete(self, row: int, result: RowResult) -> tuple[list[Task], list[bytes]]:
        """A released row is done. Return tasks for the rows that became ready, and objects nobody reads any more."""
        self.states[row] = RowState.DONE
        self.unfinished -= 1
        freed = self._drop_inputs_of(row)
        if self._readers[row]:
            self.results[row] = result
        else:
            # Everything that would have read it has failed.
            freed.extend(result.objects)
        released = []
        missing, states = self._missing, self.states
        for dependent in self.dependents_of(row):
            missing[dependent] -= 1
            if missing[dependent] == 0 and states[dependent] == RowState.WAITING:
                released.append(self._release(dependent))
        return released, freed

    def fail(self, row: int) -> tuple[list[int], list[bytes]]:
        """A row failed (or was cancelled): so do all that need it. Return these rows, `row` first, and freed objects.

        Only waiting rows and `row` itself can fail: whatever needs it has not been released.
        """
        failed = [row]
        freed: list[bytes] = []
        if self.states[row] == RowState.WAITING:
            self.waiting -= 1
        self.states[row] = RowState.FAILED
        for current in failed:
            self.unfinished -= 1
            for dependent in self.dependents_of(current):
                if self.states[dependent] == RowState.WAITING:
                    self.states[dependent] = RowState.FAILED
                    self.waiting -= 1
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
        return result

    def _release(self, row: int) -> Task:
        self.states[row] = RowState.RELEASED
        self.waiting -= 1
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
                        freed.extend(result.objects)
        return freed
