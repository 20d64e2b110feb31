"""The table of single tasks: the last ones that the scheduler published."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STATES = ("submitted", "assigned", "success", "failed", "canceled", "returned")
"""The names of states, by the number of their `TaskEvent`."""

FINISHED = frozenset({"success", "failed", "canceled"})

WAITING = frozenset({"submitted", "returned"})
"""States of tasks that no agent has."""


@dataclass(slots=True, eq=False)
class TaskRow:
    """One task. Times are Unix times; 0: the moment was not seen."""

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
    read_s: float = 0.0
    """Before it, to fetch and restore its function and arguments; 0 for less than a millisecond."""
    write_s: float = 0.0
    """After it, to serialize and write its result; 0 for less than a millisecond."""
    attempts: int = 0
    """How many times it was assigned to an agent, without the times it came back before it began."""
    label: str = ""
    tags: str = ""
    """As in "desk=rates,run=17"."""
    resources: str = ""
    """The counted resources that it asks for, as in "licence=1,mem=8GiB"."""
    paused_until: float = 0.0
    """Until when it waits since it last failed by itself."""
    sequence: int = 0
    """Tasks are numbered in the order in which they were first seen."""

    def waited_s(self, now: float) -> float | None:
        """Return how long it waited until it was assigned, or has waited until `now`, in seconds. None: not known."""
        if not self.submitted_at:
            return None
        if self.state in WAITING:
            return max(0.0, now - self.submitted_at)
        return self.assigned_at - self.submitted_at if self.assigned_at else None


class TaskTable:
    """Tasks in the order in which they were first seen. The oldest are dropped first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.unfinished: dict[TaskRow, None] = {}
        """The rows whose state is not one of `FINISHED`."""
        # An OrderedDict, because a plain dictionary skips the places of all deleted entries to find its first one.
        self._rows: OrderedDict[tuple[bytes, int], TaskRow] = OrderedDict()
        self._seen = 0

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, client: bytes, number: int) -> TaskRow | None:
        """Return a task, or None if it is unknown or forgotten."""
        return self._rows.get((client, number))

    def row(self, client: bytes, number: int, function: str, capabilities: str) -> TaskRow:
        """Return a task's row; add one if there is none."""
        key = (client, number)
        row = self._rows.get(key)
        if row is None:
            self._seen += 1
            row = self._rows[key] = TaskRow(client, number, function, capabilities, sequence=self._seen)
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
        """Return all tasks, the newest first."""
        return reversed(self._rows.values())

    def forget(self, rows: Iterable[TaskRow]) -> None:
        """Forget these tasks."""
        for row in rows:
            self._rows.pop((row.client, row.number), None)
            self.unfinished.pop(row, None)

    def clear(self) -> None:
        """Forget all tasks."""
        self._rows.clear()
        self.unfinished.clear()
