"""How long tasks take: learnt from results, used to decide how many to hold and to hand over."""

from __future__ import annotations

from collections.abc import Sequence

WEIGHT_KEPT = 0.8
"""How much of an estimate is left after one more result; a batch of n results leaves the n-th power."""

OVERHEAD_MICROSECONDS = 5.0
"""What a task costs a processor besides its function: the least an estimate can be."""


class Durations:
    """Moving averages in microseconds, by function and over all tasks."""

    __slots__ = ("_by_function", "mean")

    def __init__(self) -> None:
        self._by_function: dict[bytes, float] = {}
        self.mean: float | None = None
        """The estimate over all tasks, None before the first result."""

    def observe(self, function: bytes, durations: Sequence[int]) -> None:
        """Take in the measured durations of some tasks of one function."""
        count = len(durations)
        average = sum(durations) / count + OVERHEAD_MICROSECONDS
        kept = WEIGHT_KEPT**count
        known, mean = self._by_function.get(function), self.mean
        self._by_function[function] = average if known is None else average + kept * (known - average)
        self.mean = average if mean is None else average + kept * (mean - average)

    def at_least(self, function: bytes, duration: float) -> None:
        """A task of this function has been running for so long and has not ended."""
        known = self._by_function.get(function)
        if known is None or known < duration:
            self._by_function[function] = duration

    def of(self, function: bytes) -> float | None:
        """Return the estimate for a function, or None before its first result."""
        return self._by_function.get(function)

    def forget(self, function: bytes) -> None:
        self._by_function.pop(function, None)
