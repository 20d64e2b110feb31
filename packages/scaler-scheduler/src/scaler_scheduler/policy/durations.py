"""How long calls of a function take, from what was measured: recent calls count more, and a running one sets a floor."""

from __future__ import annotations

from collections.abc import Hashable

RECENT = 0.2
"""Weight of the newest measurement."""

KEYS_MAX = 10_000


class Durations:
    """Means in seconds, by whatever tells calls apart. The functions measured longest ago are forgotten first."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._means: dict[Hashable, float] = {}
        self._keys_max = keys_max

    def observe(self, key: Hashable, seconds: float) -> None:
        mean = self._means.pop(key, None)
        self._means[key] = seconds if mean is None else mean + RECENT * (seconds - mean)
        if len(self._means) > self._keys_max:
            del self._means[next(iter(self._means))]

    def at_least(self, key: Hashable, seconds: float) -> None:
        """A call has run for so long and not ended."""
        if self._means.get(key, 0.0) < seconds:
            self._means.pop(key, None)
            self.observe(key, seconds)

    def of(self, key: Hashable) -> float | None:
        """Return the mean duration, or None where nothing was measured."""
        return self._means.get(key)
