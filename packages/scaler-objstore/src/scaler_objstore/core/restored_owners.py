"""Owners of objects from an earlier process that nobody has named since: they may have ended while no process was there."""

from __future__ import annotations

from collections.abc import Iterable


class RestoredOwners:
    """They have `seconds` to be heard of."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._owners: set[bytes] = set()
        self._deadline = float("inf")

    def expect(self, owners: Iterable[bytes], now: float) -> None:
        """These own what was found."""
        self._owners.update(owners)
        if self._owners:
            self._deadline = now + self._seconds

    def heard(self, owner: bytes) -> None:
        """This one is alive, or has ended in an orderly way."""
        self._owners.discard(owner)

    def take_silent(self, now: float) -> list[bytes]:
        """Return and forget those that were not heard of in time."""
        if now < self._deadline:
            return []
        silent = sorted(self._owners)
        self._owners.clear()
        self._deadline = float("inf")
        return silent

    def next_deadline(self) -> float:
        """When `take_silent` has something to return; inf for never."""
        return self._deadline if self._owners else float("inf")

    def __len__(self) -> int:
        return len(self._owners)
