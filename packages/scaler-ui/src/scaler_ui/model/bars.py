"""The task stream: one bar per finished task, with place and time. The last hundred thousand are kept, as columns."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from scaler_ui.model.names import NameTable

LANES_MAX = 20_000
FUNCTIONS_MAX = 10_000
CAPABILITIES_MAX = 5_000
CLIENTS_MAX = 20_000
LABELS_MAX = 10_000

SUCCESS, FAILED, CANCELED = 2, 3, 4
"""States of bars, as in `scaler_protocol.wire.messages.TaskEvent`."""


class Lane(NamedTuple):
    """Where a task ran: a worker of an agent. Slot -1: the worker is not known."""

    agent: str
    slot: int


class Bar(NamedTuple):
    """One finished task. Times are Unix times in seconds."""

    start: float
    duration_s: float
    lane: Lane
    function: str
    capabilities: str
    client: bytes
    number: int
    state: int
    label: str = ""


class BarStore:
    """Bars in the order of their arrival. `count` counts all bars ever added; a reader asks for the bars after those it has."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.lanes: NameTable[Lane] = NameTable(LANES_MAX)
        self.functions: NameTable[str] = NameTable(FUNCTIONS_MAX)
        self.capabilities: NameTable[str] = NameTable(CAPABILITIES_MAX)
        self.clients: NameTable[bytes] = NameTable(CLIENTS_MAX)
        self.labels: NameTable[str] = NameTable(LABELS_MAX)
        self._last_ends: dict[Lane, float] = {}
        self._starts = array("d")
        self._durations = array("f")
        self._numbers = array("Q")
        self._states = array("B")
        self._lane = array("H")
        self._function = array("H")
        self._capability = array("H")
        self._client = array("H")
        self._label = array("H")

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def generation(self) -> int:
        """Changes when names get new numbers. A reader must then read all bars again."""
        return sum(table.generation for table, _ in self._tables())

    def last_end(self, lane: Lane) -> float:
        """Return when the last task there ended; 0 if none has."""
        return self._last_ends.get(lane, 0.0)

    def add(self, bar: Bar) -> None:
        """Add one bar. The oldest are dropped when there are too many."""
        for table, column in self._tables():
            if table.full:
                table.compact(column, [column])
        self._starts.append(bar.start)
        self._durations.append(bar.duration_s)
        self._numbers.append(bar.number)
        self._states.append(bar.state)
        self._lane.append(self.lanes.number(bar.lane))
        self._function.append(self.functions.number(bar.function))
        self._capability.append(self.capabilities.number(bar.capabilities))
        self._client.append(self.clients.number(bar.client))
        self._label.append(self.labels.number(bar.label))
        self.count += 1
        if len(self._last_ends) >= 2 * LANES_MAX and bar.lane not in self._last_ends:
            self._last_ends.clear()
        self._last_ends[bar.lane] = max(bar.start + bar.duration_s, self.last_end(bar.lane))
        if len(self._starts) > self.limit + self.limit // 16:
            surplus = len(self._starts) - self.limit
            for column in self._columns():
                del column[:surplus]

    def after(self, seen: int, limit: int) -> tuple[int, dict[str, list[float]]]:
        """Return up to `limit` bars after the first `seen` ones, oldest first, and the reader's new `seen`."""
        missing = self.count - seen
        if not 0 <= missing <= len(self._starts):
            missing = len(self._starts)
        start = len(self._starts) - missing
        stop = min(len(self._starts), start + limit)
        columns: dict[str, array[Any]] = {
            "start": self._starts,
            "duration": self._durations,
            "number": self._numbers,
            "state": self._states,
            "lane": self._lane,
            "function": self._function,
            "capability": self._capability,
            "client": self._client,
            "label": self._label,
        }
        return self.count - (len(self._starts) - stop), {name: list(c[start:stop]) for name, c in columns.items()}

    def bars(self) -> list[Bar]:
        """Return all bars that are kept, oldest first."""
        lanes, functions = self.lanes.names(), self.functions.names()
        capabilities, clients, labels = self.capabilities.names(), self.clients.names(), self.labels.names()
        return [
            Bar(
                start,
                duration,
                lanes[lane],
                functions[function],
                capabilities[capability],
                clients[client],
                number,
                state,
                labels[label],
            )
            for start, duration, lane, function, capability, client, number, state, label in zip(
                self._starts,
                self._durations,
                self._lane,
                self._function,
                self._capability,
                self._client,
                self._numbers,
                self._states,
                self._label,
                strict=True,
            )
        ]

    def _tables(self) -> tuple[tuple[NameTable[Any], array[int]], ...]:
        return (
            (self.lanes, self._lane),
            (self.functions, self._function),
            (self.capabilities, self._capability),
            (self.clients, self._client),
            (self.labels, self._label),
        )

    def _columns(self) -> tuple[array[Any], ...]:
        names = (column for _, column in self._tables())
        return (self._starts, self._durations, self._numbers, self._states, *names)
