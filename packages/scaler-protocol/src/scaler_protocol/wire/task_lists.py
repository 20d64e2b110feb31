"""Lists of tasks in messages: cut into portions, so that none keeps whoever gets it busy for long, and in payloads. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import cut_rows

TaskList = TypeVar("TaskList", m.TaskCancel, m.Inventory, m.TaskReturn)

PORTION_ROWS = 256
"""Most tasks in one portion. To cancel a queued task, the most costly of what is asked for, takes the scheduler about 9 µs."""

RESULT_ROWS = 512
"""Most results in one message. Agents rarely collect more. Those of plain tasks take the scheduler 0.7 µs each, failures and
those of graphs ten times as long."""


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Return the payload of a SKIPPED row: the tasks whose values the client is asked for, 8 bytes each, little-endian."""
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def read_numbers(payload: bytes) -> list[int]:
    """Return what `pack_numbers` was given."""
    return [int.from_bytes(payload[at : at + 8], "little") for at in range(0, len(payload), 8)]


def portions_of(message: TaskList) -> Iterator[TaskList]:
    """Yield the message, or messages of at most `PORTION_ROWS` tasks that say the same in the same order.

    A row means the same in whichever portion it is, and whoever gets them keeps nothing from one to the next. Tasks that are
    returned go to the front of the queue, so the last ones come first: in the end they stand in their order. A row behind
    others waits until these are back.
    """
    rows = len(message.numbers)
    if rows <= PORTION_ROWS:
        yield message
        return
    starts = range(0, rows, PORTION_ROWS)
    for start in reversed(starts) if isinstance(message, m.TaskReturn) else starts:
        stop = start + PORTION_ROWS
        # Clients say nothing of attempts.
        columns: dict[str, Any] = {"numbers": message.numbers[start:stop], "attempts": message.attempts[start:stop]}
        if isinstance(message, m.Inventory):
            columns["states"] = message.states[start:stop]
        yield replace(message, **columns)


def result_portions(batch: m.ResultBatch) -> Iterator[m.ResultBatch]:
    """Yield the batch, or batches of at most `RESULT_ROWS` results that say the same in the same order."""
    if len(batch.numbers) <= RESULT_ROWS:
        yield batch
        return
    yield from cut_rows(batch, RESULT_ROWS)
