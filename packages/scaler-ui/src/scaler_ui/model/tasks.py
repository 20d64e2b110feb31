"""Single tasks: what became of the last ones that the monitor was told of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STATES = ("submitted", "assigned", "success", "failed", "canceled", "returned")
"""By the number of `TaskEvent`."""

FINISHED = frozenset({"success", "failed", "canceled"})


@dataclass(slots=True, eq=False)
class TaskRow:
    """One task. Times are Unix times, 0 where the moment was not seen."""

    client: bytes
    number: int
    function: str
    capabilities: str = ""
    state: str = "submitted"
    agent: str = ""
    slot: int = -1
    submitted_at: float = 0.0
    assigned_at: float = 0.0
    ended_at: float = 0.0
    duration_s: float = 0.0
    attempts: int = 0
    """How often it was given to an agent, without the times it came back before it began."""


class TaskTable:
    """Tasks in the order in which they were first seen, the oldest leaving first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.unfinished: dict[TaskRow, None] = {}
        """The rows whose state is none of `FINISHED`."""
        # Ordered: a plain dictionary looks past the places of all that were deleted to find its first entry.
        self._rows: OrderedDict[tuple[bytes, int], TaskRow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, client: bytes, number: int) -> TaskRow | None:
        """Return a task, or None where nothing is known of it (any more)."""
        return self._rows.get((client, number))

    def row(self, client: bytes, number: int, function: str, capabilities: str) -> TaskRow:
        """Return a task's row, a new one where there is none."""
        key = (client, number)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = TaskRow(client, number, function, capabilities)
            self.unfinished[row] = None
            if len(self._rows) > self.limit:
                _, oldest = self._rows.popitem(last=False)
                self.unfinished.pop(oldest, None)
        return row

    def enter(self, row: TaskRow, state: str) -> None:
        """Change a row's state."""
        row.state = state
        if state in FINISHED:
            self.unfinished.pop(row, None)
        else:
            self.unfinished[row] = None

    def newest_first(self) -> Iterator[TaskRow]:
        """Return all tasks, the last one first."""
        return reversed(self._rows.values())

    def forget(self, rows: Iterable[TaskRow]) -> None:
        """Drop tasks."""
        for row in rows:
            self._rows.pop((row.client, row.number), None)
            self.unfinished.pop(row, None)

    def clear(self) -> None:
        """Drop all."""
        self._rows.clear()
        self.unfinished.clear()
