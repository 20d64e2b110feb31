"""Cuts messages that name many tasks into portions, so that none keeps whoever gets it busy for long. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from scaler_protocol.wire import messages as m

TaskList = TypeVar("TaskList", m.TaskCancel, m.Inventory)

PORTION_ROWS = 256
"""Most tasks in one portion. To cancel a queued task, the most costly of what is asked for, takes the scheduler about 9 µs."""


def portions_of(message: TaskList) -> Iterator[TaskList]:
    """Yield the message, or messages of at most `PORTION_ROWS` tasks that say the same in the same order.

    A row means the same in whichever portion it is, and whoever gets them keeps nothing from one to the next. This is not so
    for `TaskReturn`, whose tasks are queued again in their order, chains together: what an agent holds bounds it.
    """
    rows = len(message.numbers)
    if rows <= PORTION_ROWS:
        yield message
        return
    for start in range(0, rows, PORTION_ROWS):
        stop = start + PORTION_ROWS
        # Clients say nothing of attempts.
        columns: dict[str, Any] = {"numbers": message.numbers[start:stop], "attempts": message.attempts[start:stop]}
        if isinstance(message, m.Inventory):
            columns["states"] = message.states[start:stop]
        yield replace(message, **columns)
