"""How long tasks take: learnt from results, used to decide how many to hold and to hand over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scaler_protocol.wire import messages as m
from scaler_worker.core.slices import TaskSlice

WEIGHT_KEPT = 0.8
"""How much of an estimate is left after one more result; a batch of n results leaves the n-th power."""

OVERHEAD_MICROSECONDS = 5.0
"""What a task costs a processor besides its function: the least an estimate can be."""

SAMPLED_ROWS = 64
"""Rows of a slice that are looked at to estimate how long its tasks take."""

_MAP_PREFIX = b"map:"


class DurationEstimates:
    """Moving averages in microseconds, by function and over all tasks."""

    __slots__ = ("_microseconds", "mean_microseconds")

    def __init__(self) -> None:
        self._microseconds: dict[bytes, float] = {}
        """By `_key`."""
        self.mean_microseconds: float | None = None
        """The estimate over all tasks, None before the first result."""

    def observe(self, tasks: TaskSlice, microseconds: Sequence[int]) -> None:
        """Take in how long each of these tasks took."""
        batch = tasks.batch
        if not batch.function_indexes:
            self._observe(_key(batch, 0), microseconds)
            return
        by_index: dict[int, list[int]] = {}
        for index, duration in zip(tasks.function_indexes, microseconds, strict=True):
            by_index.setdefault(index, []).append(duration)
        for index, values in by_index.items():
            self._observe(_key(batch, index), values)

    def observe_running(self, tasks: TaskSlice, microseconds: float) -> None:
        """Note that the first of these tasks has been running for so long and has not ended."""
        indexes = tasks.function_indexes
        key = _key(tasks.batch, indexes[0] if len(indexes) else 0)
        known = self._microseconds.get(key)
        if known is None or known < microseconds:
            self._microseconds[key] = microseconds

    def of(self, tasks: TaskSlice) -> float | None:
        """Return how long one of these tasks takes, in microseconds; None where that is not known.

        For tasks of different functions, the estimate of the slowest one: None if any is not known.
        """
        indexes = tasks.function_indexes
        if not len(indexes):
            return self._microseconds.get(_key(tasks.batch, 0))
        estimates = [self._microseconds.get(_key(tasks.batch, index)) for index in set(indexes[:SAMPLED_ROWS])]
        return None if None in estimates else max(value for value in estimates if value is not None)

    def forget(self, functions: Iterable[bytes]) -> None:
        """Forget functions that no client defines any longer."""
        for function in functions:
            self._microseconds.pop(function, None)
            self._microseconds.pop(_MAP_PREFIX + function, None)

    def _observe(self, key: bytes, microseconds: Sequence[int]) -> None:
        count = len(microseconds)
        average = sum(microseconds) / count + OVERHEAD_MICROSECONDS
        kept = WEIGHT_KEPT**count
        known, mean = self._microseconds.get(key), self.mean_microseconds
        self._microseconds[key] = average if known is None else average + kept * (known - average)
        self.mean_microseconds = average if mean is None else average + kept * (mean - average)


def _key(batch: m.TaskBatch, function_index: int) -> bytes:
    """Return what tasks are estimated by: a chunk of many calls takes longer than one call of the same function."""
    function = batch.functions[function_index]
    return _MAP_PREFIX + function if batch.kind == m.TaskKind.MAP_CHUNK else function
