"""What is known of each function: how many of its tasks ended, how, and how long they took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from scaler_ui.model.bars import CANCELED, FAILED, SUCCESS
from scaler_ui.model.recent import RecentFigures

FUNCTIONS_MAX = 2_000
OTHER = "(other)"
"""All functions that found no place any more."""

_STEPS = 8
"""Classes of durations for each doubling: a percentile is right to about 5 percent."""

_CLASSES = 40 * _STEPS
"""Up to 2**40 microseconds, which is twelve days."""


class Took(NamedTuple):
    """What one task took, in seconds."""

    duration_s: float
    waited_s: float | None = None
    """From submission to its begin. None: not known."""
    read_s: float = 0.0
    """To fetch and restore its function and arguments, before it."""
    write_s: float = 0.0
    """To serialize and write its result, after it."""


@dataclass(slots=True)
class FunctionFigures:
    """Figures of one function over some time. Counts are estimates where the scheduler leaves tasks out."""

    name: str
    success: float = 0.0
    failed: float = 0.0
    canceled: float = 0.0
    timed: float = 0.0
    """Tasks whose duration is known."""
    seconds: float = 0.0
    """Sum of these durations."""
    longest_s: float = 0.0
    read_seconds: float = 0.0
    """Sum of what workers took to fetch and restore functions and arguments, before their tasks."""
    write_seconds: float = 0.0
    """Sum of what workers took to serialize and write results."""
    waited: float = 0.0
    """Tasks of which submission and begin are known."""
    waited_seconds: float = 0.0
    last_at: float = 0.0
    """Unix time of the last end."""
    classes: dict[int, float] = field(default_factory=dict)

    @property
    def ended(self) -> float:
        """Return how many tasks succeeded or failed."""
        return self.success + self.failed

    @property
    def mean_s(self) -> float | None:
        """Return the mean duration. None: no task has ended."""
        return self.seconds / self.timed if self.timed else None

    @property
    def mean_wait_s(self) -> float | None:
        """Return the mean time from submission to begin. None: not known."""
        return self.waited_seconds / self.waited if self.waited else None

    def percentile_s(self, share: float) -> float | None:
        """Return the duration that `share` of the tasks did not exceed. None: no task has ended."""
        rest = share * self.timed
        for number in sorted(self.classes):
            rest -= self.classes[number]
            if rest <= 1e-9:
                return min(self.longest_s, 2 ** ((number + 0.5) / _STEPS) * 1e-6)
        return self.longest_s if self.timed else None

    @property
    def overhead_share(self) -> float | None:
        """Return which part of the workers' time went into reading and writing, from 0 to 1. None: no task has ended."""
        overheads = self.read_seconds + self.write_seconds
        if not self.timed:
            return None
        return overheads / (self.seconds + overheads) if overheads else 0.0

    def add(self, state: int, at: float, took: Took, weight: float) -> None:
        """Count the end of `weight` tasks of which one is known."""
        duration_s, waited_s = took.duration_s, took.waited_s
        self.last_at = max(self.last_at, at)
        if state == CANCELED:
            self.canceled += weight
            return
        if state == SUCCESS:
            self.success += weight
        elif state == FAILED:
            self.failed += weight
        self.timed += weight
        self.seconds += duration_s * weight
        self.read_seconds += took.read_s * weight
        self.write_seconds += took.write_s * weight
        self.longest_s = max(self.longest_s, duration_s)
        number = min(_CLASSES, int(math.log2(max(1.0, duration_s * 1e6)) * _STEPS))
        self.classes[number] = self.classes.get(number, 0.0) + weight
        if waited_s is not None:
            self.waited += weight
            self.waited_seconds += waited_s * weight

    def merge(self, other: FunctionFigures, /) -> None:
        """Add figures of the same function over another time."""
        self.success += other.success
        self.failed += other.failed
        self.canceled += other.canceled
        self.timed += other.timed
        self.seconds += other.seconds
        self.read_seconds += other.read_seconds
        self.write_seconds += other.write_seconds
        self.longest_s = max(self.longest_s, other.longest_s)
        self.waited += other.waited
        self.waited_seconds += other.waited_seconds
        self.last_at = max(self.last_at, other.last_at)
        for number, count in other.classes.items():
            self.classes[number] = self.classes.get(number, 0.0) + count


class FunctionTable:
    """Figures by function since this monitor started, and of the last hour; bounded."""

    def __init__(self, limit: int = FUNCTIONS_MAX) -> None:
        self.limit = limit
        self._figures: dict[str, FunctionFigures] = {}
        self._recent: RecentFigures[str, FunctionFigures] = RecentFigures(FunctionFigures)

    def __len__(self) -> int:
        return len(self._figures)

    def all(self) -> list[FunctionFigures]:
        """Return the figures of all functions."""
        return list(self._figures.values())

    def find(self, name: str) -> FunctionFigures | None:
        """Return a function's figures, or None."""
        return self._figures.get(name)

    def within(self, seconds: float, now: float) -> tuple[list[FunctionFigures], float]:
        """Return the figures of the last `seconds` until `now`, an hour at most, and since when they count."""
        figures, since = self._recent.within(seconds, now)
        return list(figures.values()), since

    def add(self, name: str, state: int, at: float, took: Took, weight: float = 1.0) -> None:
        """Count the end of one task, or of `weight` tasks of which only this one was published."""
        figures = self._figures.get(name)
        if figures is None:
            if len(self._figures) >= self.limit:
                name = OTHER
            figures = self._figures.setdefault(name, FunctionFigures(name))
        for one in (figures, *self._recent.at(name, at)):
            one.add(state, at, took, weight)
