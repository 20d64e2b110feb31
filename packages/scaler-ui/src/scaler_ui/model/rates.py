"""Rates of counters, and how far the work has come that was begun last."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

SMOOTHING_SECONDS = 20.0

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Rate:
    done: float
    base: float
    """What was done when nothing was left for the last time."""
    counted: float = 0.0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return self.counted / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Work since there was nothing to do for the last time."""

    done: float
    left: float
    per_second: float
    """Over about the last 20 seconds."""

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds until it is done at this rate. None: not known."""
        return self.left / self.per_second if self.left and self.per_second > 1e-6 else None


class ProgressTable(Generic[Key]):
    """Progress by key. Keys that are no longer counted are forgotten."""

    def __init__(self) -> None:
        self._rates: dict[Key, _Rate] = {}
        self._left: dict[Key, float] = {}
        self._time = 0.0

    def update(self, time: float, counts: Mapping[Key, tuple[float, float]]) -> None:
        """Take in (done, left) of every key, at `time` in seconds."""
        elapsed = max(0.0, time - self._time) if self._rates else 0.0
        self._time = time
        kept = math.exp(-elapsed / SMOOTHING_SECONDS)
        rates: dict[Key, _Rate] = {}
        for key, (done, left) in counts.items():
            rate = self._rates.get(key)
            if rate is None or done < rate.done:
                # Also after a restart of the scheduler, which counts from 0 again.
                rate = _Rate(done, done)
            elif elapsed:
                rate.counted = rate.counted * kept + (done - rate.done)
                rate.seconds = rate.seconds * kept + elapsed
                rate.done = done
            if not left:
                rate.base = done
            rates[key] = rate
        self._rates = rates
        self._left = {key: left for key, (_, left) in counts.items()}

    def of(self, key: Key) -> Progress:
        """Return a key's progress. All is 0 if it is unknown."""
        rate = self._rates.get(key)
        if rate is None:
            return Progress(0.0, 0.0, 0.0)
        return Progress(rate.done - rate.base, self._left[key], rate.per_second)
