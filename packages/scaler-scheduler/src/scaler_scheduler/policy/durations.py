"""How long calls of a function take, from what was measured: recent calls count more, and a running one sets a floor."""

from __future__ import annotations

from collections.abc import Hashable

RECENT = 0.2
"""Weight of the newest measurement."""

OUTLIER = 10.0
"""A running call is news once it has taken so many times the mean; less is ordinary variation."""

KEYS_MAX = 10_000


class Durations:
    """Means in seconds, by whatever tells calls apart. What was measured longest ago is forgotten first."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._means: dict[Hashable, float] = {}
        self._floors: dict[Hashable, float] = {}
        """Where no call has ended yet: how long one has run."""
        self._keys_max = keys_max

    def observe(self, key: Hashable, seconds: float) -> None:
        """A call has taken so long."""
        self._floors.pop(key, None)
        mean = self._means.pop(key, None)
        self._means[key] = seconds if mean is None else mean + RECENT * (seconds - mean)
        if len(self._means) > self._keys_max:
            del self._means[next(iter(self._means))]

    def at_least(self, key: Hashable, seconds: float) -> None:
        """A call has run for so long and not ended. Where much shorter ones were measured, that counts as one of them."""
        mean = self._means.get(key)
        if mean is None:
            self._floors[key] = max(seconds, self._floors.pop(key, 0.0))
            if len(self._floors) > self._keys_max:
                del self._floors[next(iter(self._floors))]
        elif seconds > OUTLIER * mean:
            self.observe(key, seconds)

    def of(self, key: Hashable) -> float | None:
        """Return the mean duration, or at least what is known of it; None where nothing is."""
        mean = self._means.get(key)
        return self._floors.get(key) if mean is None else mean
