"""Outcomes on their way to the scheduler: columns per client, sent as one batch each."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from scaler_protocol import messages as m
from scaler_protocol.columns import EMPTY, Column, Packed
from scaler_protocol.values import new_tuple

NO_SLOT = 0xFFFF
"""In the column of slots: no worker ran the task, or none knows which one did."""

BATCH_BYTES_MAX = 64 * 1024 * 1024
"""Payload bytes after which a client's results go out as a further batch."""


class _Columns:
    """Growing columns of one client's batch. The optional ones stay empty until a row needs them."""

    __slots__ = (
        "attempts",
        "cpu_times",
        "durations",
        "lengths",
        "memory_peaks",
        "numbers",
        "object_positions",
        "objects",
        "payload_bytes",
        "payloads",
        "slots",
        "statuses",
    )

    def __init__(self) -> None:
        self.numbers: array[int] = array("Q")
        self.attempts: array[int] = array("H")
        self.lengths: array[int] = array("I")
        self.durations: array[int] = array("I")
        self.statuses: array[int] = array("B")
        self.cpu_times: array[int] = array("I")
        self.memory_peaks: array[int] = array("Q")
        self.object_positions: array[int] = array("I")
        self.objects: list[bytes] = []
        self.slots: array[int] = array("H")
        self.payloads: list[bytes | memoryview] = []
        self.payload_bytes = 0

    def add(self, first: _First) -> None:
        """Begin with these."""
        self.numbers.extend(first.numbers)
        self.attempts.extend(first.attempts)
        self.lengths.extend(first.lengths)
        self.durations.extend(first.durations)
        self.slots.extend(array("H", [first.slot]) * len(first.numbers))
        self.payloads.append(first.payloads)
        self.payload_bytes += len(first.payloads)


def _extend_optional(column: array[int], rows_before: int, rows: int, values: Column) -> None:
    """Append `values` to a column that is empty while all its rows are zero."""
    if len(values):
        if len(column) < rows_before:
            column.extend(bytes(rows_before - len(column)))
        column.extend(values)
    elif len(column):
        column.extend(bytes(rows))


class _First(NamedTuple):
    """A client's first results, plain successes: most often nothing joins them, and no columns need be built."""

    numbers: Column
    attempts: Column
    lengths: Column
    payloads: bytes | memoryview
    durations: Column
    slot: int


class ResultCollector:
    """What is to be told to the scheduler with the next flush. `rows` is how many results that are."""

    __slots__ = ("_by_client", "_firsts", "_full", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._firsts: dict[bytes, _First] = {}
        """By client, where there are no columns for it."""
        self._by_client: dict[bytes, _Columns] = {}
        self._full: list[tuple[bytes, _Columns]] = []

    def add(
        self,
        client: bytes,
        numbers: Column,
        attempts: Column,
        lengths: Column,
        payloads: bytes | memoryview,
        durations: Column,
        statuses: Column = EMPTY,
        cpu_times: Column = EMPTY,
        memory_peaks: Column = EMPTY,
        slot: int = NO_SLOT,
    ) -> None:
        """Add the outcomes of some tasks of one client, as columns; all of them ran in `slot`."""
        rows = len(numbers)
        self.rows += rows
        if (
            client not in self._by_client
            and client not in self._firsts
            and not (len(statuses) or len(cpu_times) or len(memory_peaks))
        ):
            first = (numbers, attempts, lengths, payloads, durations, slot)
            self._firsts[client] = new_tuple(_First, first)
            return
        columns = self._columns(client)
        before = len(columns.numbers)
        columns.numbers.extend(numbers)
        columns.attempts.extend(attempts)
        columns.lengths.extend(lengths)
        columns.durations.extend(durations)
        columns.slots.extend(array("H", [slot]) * rows)
        _extend_optional(columns.statuses, before, rows, statuses)
        _extend_optional(columns.cpu_times, before, rows, cpu_times)
        _extend_optional(columns.memory_peaks, before, rows, memory_peaks)
        columns.payloads.append(payloads)
        columns.payload_bytes += len(payloads)

    def add_object(
        self,
        client: bytes,
        number: int,
        attempt: int,
        payload: bytes,
        object_id: bytes,
        duration: int,
        cpu_time: int,
        memory_peak: int,
        slot: int = NO_SLOT,
        status: int = m.Status.SUCCESS,
    ) -> None:
        """Add one outcome whose value, or exception, is an object in storage."""
        optional = ([cpu_time], [memory_peak]) if cpu_time or memory_peak else (EMPTY, EMPTY)
        statuses = [int(status)] if status else EMPTY
        self.add(client, [number], [attempt], [len(payload)], payload, [duration], statuses, *optional, slot=slot)
        columns = self._columns(client)
        columns.object_positions.append(len(columns.numbers) - 1)
        columns.objects.append(object_id)

    def add_ended(
        self,
        client: bytes,
        numbers: Column,
        attempts: Column,
        status: int,
        text: str = "",
        duration: int = 0,
        slot: int = NO_SLOT,
    ) -> None:
        """Add tasks that ended without a value, all in the same way."""
        rows = len(numbers)
        payload = text.encode(errors="replace")
        lengths, durations, statuses = [len(payload)] * rows, [duration] * rows, [int(status)] * rows
        self.add(client, numbers, attempts, lengths, payload * rows, durations, statuses, slot=slot)

    def drop_client(self, client: bytes) -> None:
        self._firsts.pop(client, None)
        self._by_client.pop(client, None)
        self._full = [entry for entry in self._full if entry[0] != client]
        self.rows = len(self.task_keys())

    def task_keys(self) -> list[tuple[bytes, int]]:
        """Return (client, number) of every result that waits, for invariants."""
        entries: list[tuple[bytes, _Columns | _First]] = [
            *self._full,
            *self._by_client.items(),
            *self._firsts.items(),
        ]
        return [(client, number) for client, columns in entries for number in columns.numbers]

    def take(self, capacity: int) -> list[m.ResultBatch]:
        """Return everything as batches that carry `capacity`."""
        entries: Sequence[tuple[bytes, _Columns]] = [*self._full, *self._by_client.items()]
        firsts = self._firsts
        self._full = []
        self._by_client = {}
        self._firsts = {}
        self.rows = 0
        batches = [
            m.ResultBatch(
                client,
                first.numbers,
                first.attempts,
                Packed(first.lengths, first.payloads),
                durations=first.durations,
                capacity=capacity,
                slots=[first.slot] * len(first.numbers),
            )
            for client, first in firsts.items()
        ]
        if entries:
            batches += self._take_columns(entries, capacity)
        return batches

    def _take_columns(self, entries: Sequence[tuple[bytes, _Columns]], capacity: int) -> list[m.ResultBatch]:
        return [
            m.ResultBatch(
                client=client,
                numbers=columns.numbers,
                attempts=columns.attempts,
                payloads=Packed(columns.lengths, _join(columns.payloads)),
                statuses=columns.statuses,
                durations=columns.durations,
                cpu_times=columns.cpu_times,
                memory_peaks=columns.memory_peaks,
                object_positions=columns.object_positions,
                objects=tuple(columns.objects),
                capacity=capacity,
                slots=columns.slots,
            )
            for client, columns in entries
        ]

    def _columns(self, client: bytes) -> _Columns:
        columns = self._by_client.get(client)
        if columns is not None and columns.payload_bytes > BATCH_BYTES_MAX:
            self._full.append((client, columns))
            columns = None
        if columns is None:
            columns = self._by_client[client] = _Columns()
            first = self._firsts.pop(client, None)
            if first is not None:
                columns.add(first)
        return columns


def _join(parts: list[bytes | memoryview]) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)
