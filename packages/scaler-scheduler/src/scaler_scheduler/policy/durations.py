"""How long calls of a function take. Recent measurements count more, and a call that still runs sets a lower bound."""

from __future__ import annotations

from collections.abc import Hashable

RECENT = 0.2
"""Weight of the newest measurement."""

OUTLIER = 10.0
"""A running call counts as a measurement once it has taken so many times the mean. Less is ordinary variation."""

KEYS_MAX = 10_000
"""Means that are kept at most."""


class MeanSeconds:
    """Mean durations of calls, in seconds, by a key of the caller's. The mean that was updated longest ago is forgotten first."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._means: dict[Hashable, float] = {}
        self._floors: dict[Hashable, float] = {}
        """How long a call has run, for keys that no call has ended for."""
        self._keys_max = keys_max

    def observe(self, key: Hashable, seconds: float) -> None:
        """Take in how long a call has taken."""
        self._floors.pop(key, None)
        mean = self._means.pop(key, None)
        self._means[key] = seconds if mean is None else mean + RECENT * (seconds - mean)
        if len(self._means) > self._keys_max:
            del self._means[next(iter(self._means))]

    def at_least(self, key: Hashable, seconds: float) -> None:
        """Take in that a call has run for so long and not ended. If the mean is much shorter, this counts as a measurement."""
        mean = self._means.get(key)
        if mean is None:
            self._floors[key] = max(seconds, self._floors.pop(key, 0.0))
            if len(self._floors) > self._keys_max:
                del self._floors[next(iter(self._floors))]
        elif seconds > OUTLIER * mean:
            self.observe(key, seconds)

    def of(self, key: Hashable) -> float | None:
        """Return the mean, or its lower bound if no call has ended, or None if nothing is known."""
        mean = self._means.get(key)
        return self._floors.get(key) if mean is None else mean
