"""Results of graph rows on their way to their clients: those that one message of an agent brings leave together.

Also what clients are told of tasks that have ended without having run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import ABSENT, REPORTED
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.graphs import RowResult
from scaler_scheduler.core.records import ClientRecord

BATCH_BYTES_MAX = 1024 * 1024
"""Payload bytes after which a message ends. A single result may have more."""

WAITED_FOR_AGENTS = "waited for the workers to be back after a restart of the scheduler; one of them may have begun it"
"""What a task did at its deadline that no agent has said to hold, as long as agents may still say so."""


class RowAnswers:
    """See the module. Nothing may be in here when a turn ends."""

    def __init__(self) -> None:
        self._rows: dict[ClientRecord, list[tuple[int, RowResult]]] = {}

    def add(self, client: ClientRecord, number: int, result: RowResult) -> None:
        """Collect the result of a task."""
        self._rows.setdefault(client, []).append((number, result))

    def take(self) -> Iterable[tuple[ClientRecord, m.ResultBatch]]:
        """Remove and return everything, as messages and whom they are for."""
        if not self._rows:
            return ()
        rows, self._rows = self._rows, {}
        return [(client, batch) for client, of_client in rows.items() for batch in _batches(client.id, of_client)]


def _batches(client_id: bytes, rows: list[tuple[int, RowResult]]) -> Iterable[m.ResultBatch]:
    start = size = 0
    for stop, (_, result) in enumerate(rows, 1):
        size += len(result.payload)
        if size >= BATCH_BYTES_MAX:
            yield batch_of(client_id, rows[start:stop])
            start, size = stop, 0
    if start < len(rows):
        yield batch_of(client_id, rows[start:])


def batch_of(client_id: bytes, rows: list[tuple[int, RowResult]]) -> m.ResultBatch:
    """Return the message for the results of some tasks, which come with their numbers."""
    positions: list[int] = []
    objects: list[bytes] = []
    for position, (_, result) in enumerate(rows):
        positions.extend([position] * len(result.objects))
        objects.extend(result.objects)
    columns: dict[str, Any] = {}
    for place, (spec, absent) in enumerate(zip(REPORTED, ABSENT, strict=True)):
        values = [result.reported[place] for _, result in rows]
        if any(map(len, values)):
            columns[spec.name] = [value[0] if len(value) else absent for value in values]
    return m.ResultBatch(
        client_id,
        [number for number, _ in rows],
        [result.attempt for _, result in rows],
        Packed.of([result.payload for _, result in rows]),
        object_positions=positions,
        objects=tuple(objects),
        **columns,
    )


def overdue_text(described: str, seconds: float, state: str) -> bytes:
    """Return the error of a task that is not done `seconds` after it was submitted, its deadline; `state` says what it did."""
    text = f"{described}: it was not done {seconds:g} s after it was submitted (deadline_seconds); it {state}"
    return text.encode()


def answer_to_all(client_id: bytes, numbers: Sequence[int], status: m.Status, payload: bytes) -> m.ResultBatch:
    """Return the message for tasks that have all ended for one reason."""
    count = len(numbers)
    return m.ResultBatch(client_id, numbers, [0] * count, Packed.of([payload] * count), [status] * count)
