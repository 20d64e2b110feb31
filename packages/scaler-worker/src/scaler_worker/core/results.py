"""Outcomes on their way to the scheduler: columns per client, sent as one batch each."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import ABSENT, REPORTED, GrowingColumn, Reported
from scaler_protocol.wire.columns import Column, Packed
from scaler_protocol.wire.messages import NO_SLOT

BATCH_BYTES_MAX = 8 * 1024 * 1024
"""Payload bytes after which a client's results go out as a further batch."""


class _Columns:
    """Growing columns of one client's batch."""

    __slots__ = (
        "attempts",
        "lengths",
        "numbers",
        "object_positions",
        "objects",
        "payload_bytes",
        "payloads",
        "reported",
        "slots",
    )

    def __init__(self) -> None:
        self.numbers: array[int] = array("Q")
        self.attempts: array[int] = array("H")
        self.lengths: array[int] = array("I")
        self.reported = [GrowingColumn(spec.typecode, absent) for spec, absent in zip(REPORTED, ABSENT, strict=True)]
        self.object_positions: array[int] = array("I")
        self.objects: list[bytes] = []
        self.slots: array[int] = array("H")
        self.payloads: list[bytes | memoryview] = []
        self.payload_bytes = 0

    def add(self, some: _Rows) -> None:
        before, rows = len(self.numbers), len(some.numbers)
        self.numbers.extend(some.numbers)
        self.attempts.extend(some.attempts)
        self.lengths.extend(some.lengths)
        for column, values in zip(self.reported, some.reported, strict=True):
            column.extend(before, rows, values)
        self.slots.extend(array("H", [some.slot]) * rows)
        self.payloads.append(some.payloads)
        self.payload_bytes += len(some.payloads)


class _Rows(NamedTuple):
    """Results of one client that arrived in one event. Mostly they leave alone, and no columns are built."""

    numbers: Column
    attempts: Column
    lengths: Column
    payloads: bytes | memoryview
    reported: Reported
    slot: int


class ResultCollector:
    """Results that wait to be sent to the scheduler. `rows` is how many."""

    __slots__ = ("_by_client", "_full", "_unjoined", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._unjoined: dict[bytes, _Rows] = {}
        """By client: rows that no others have joined, so that there are no columns for them."""
        self._by_client: dict[bytes, _Columns] = {}
        self._full: list[tuple[bytes, _Columns]] = []

    def add(
        self,
        client: bytes,
        numbers: Column,
        attempts: Column,
        lengths: Column,
        payloads: bytes | memoryview,
        reported: Reported,
        slot: int = NO_SLOT,
    ) -> None:
        """Add the outcomes of some tasks of one client, as columns; all of them ran in `slot`."""
        self.rows += len(numbers)
        some = new_tuple(_Rows, (numbers, attempts, lengths, payloads, reported, slot))
        if client in self._by_client or client in self._unjoined:
            self._columns(client).add(some)
        else:
            self._unjoined[client] = some

    def add_object(
        self,
        client: bytes,
        number: int,
        attempt: int,
        payload: bytes,
        object_id: bytes,
        reported: Reported,
        slot: int = NO_SLOT,
    ) -> None:
        """Add one outcome whose value, or exception, is an object in storage."""
        self.add(client, [number], [attempt], [len(payload)], payload, reported, slot)
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
        reported = Reported(statuses=[int(status)] * rows, durations=[duration] * rows)
        self.add(client, numbers, attempts, [len(payload)] * rows, payload * rows, reported, slot)

    def drop_client(self, client: bytes) -> None:
        """Forget the results of a client that has ended."""
        self._unjoined.pop(client, None)
        self._by_client.pop(client, None)
        self._full = [entry for entry in self._full if entry[0] != client]
        self.rows = len(self.task_keys())

    def clients(self) -> set[bytes]:
        """Return the clients whose results wait."""
        return {*self._unjoined, *self._by_client}

    def task_keys(self) -> list[tuple[bytes, int]]:
        """Return (client, number) of every result that waits, for invariants."""
        return [(client, number) for client, numbers, _ in self.tasks() for number in numbers]

    def tasks(self) -> list[tuple[bytes, Column, Column]]:
        """Return client, numbers and attempts of the tasks whose results wait."""
        entries: list[tuple[bytes, _Columns | _Rows]] = [
            *self._full,
            *self._by_client.items(),
            *self._unjoined.items(),
        ]
        return [(client, columns.numbers, columns.attempts) for client, columns in entries]

    def take(self, capacity: int) -> list[m.ResultBatch]:
        """Return everything as batches that carry `capacity`."""
        entries: Sequence[tuple[bytes, _Columns]] = [*self._full, *self._by_client.items()]
        unjoined = self._unjoined
        self._full = []
        self._by_client = {}
        self._unjoined = {}
        self.rows = 0
        batches = [
            # By position, as a task that travels alone waits for this: a test holds the order.
            m.ResultBatch(
                client,
                first.numbers,
                first.attempts,
                Packed(first.lengths, first.payloads),
                *first.reported,
                capacity=capacity,
                slots=[first.slot] * len(first.numbers),
            )
            for client, first in unjoined.items()
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
                object_positions=columns.object_positions,
                objects=tuple(columns.objects),
                capacity=capacity,
                slots=columns.slots,
                **{spec.name: column.values for spec, column in zip(REPORTED, columns.reported, strict=True)},
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
            first = self._unjoined.pop(client, None)
            if first is not None:
                columns.add(first)
        return columns


def _join(parts: list[bytes | memoryview]) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)
