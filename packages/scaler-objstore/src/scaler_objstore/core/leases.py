"""How long the objects of a client are kept of which nobody says that it lives.

A scheduler says when a client has ended. But a client may vanish while there is no scheduler, or its scheduler before it. So each
owner has a lease. The client itself renews it with the hello that it repeats, and so does everybody who stores or deletes for it.
A scheduler's repeated hello renews the leases of all owners that were heard of since that scheduler came: it knows these clients,
and will tell when they end. A scheduler that came later may never have heard of them. And a client whose end was told, and that
speaks again, has to speak for itself from then on: nobody will tell its end a second time.
"""

from __future__ import annotations

from collections.abc import Iterable

SWEEPS = 4
"""Parts of a lease's length after which is looked which leases have ended."""

SCHEDULERS_MAX = 100
"""Schedulers that are known at once. Of more of them, the one that was silent longest is forgotten."""


class Leases:
    """When each owner was last heard of, and each scheduler."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._heard: dict[bytes, float] = {}
        """Owners with objects, and others that were heard of lately."""
        self._came_back: set[bytes] = set()
        """Owners whose end was told before they were heard of again."""
        self._schedulers: dict[bytes, tuple[float, float]] = {}
        """By incarnation: when each came, and when it was last heard of. The latest one is last."""
        self._sweep_at = float("inf")

    def renew(self, owner: bytes, now: float) -> None:
        """This client lives, or somebody does something for it."""
        self._heard[owner] = now
        if self._sweep_at == float("inf"):
            self._sweep_at = now + self._seconds / SWEEPS

    def come_back(self, owner: bytes, now: float) -> None:
        """A client speaks whose end was told: it lives, or said this before its end."""
        self._came_back.add(owner)
        self.renew(owner, now)

    def on_scheduler(self, incarnation: bytes, now: float) -> None:
        """A scheduler lives."""
        came = self._schedulers.pop(incarnation, (now, now))[0]
        self._schedulers[incarnation] = (came, now)
        if len(self._schedulers) > SCHEDULERS_MAX:
            del self._schedulers[next(iter(self._schedulers))]

    def next_deadline(self) -> float:
        """When to call `take_ended`; inf for never."""
        return self._sweep_at

    def take_ended(self, owners: Iterable[bytes], now: float) -> list[bytes]:
        """Return those of the owners of objects whose leases have ended. All others that were heard of are forgotten."""
        if now < self._sweep_at:
            return []
        ended = []
        kept: dict[bytes, float] = {}
        for owner in owners:
            heard = self._heard.get(owner, now)
            renewed_at = heard if owner in self._came_back else self._renewed_at(heard)
            if now - renewed_at >= self._seconds:
                ended.append(owner)
            else:
                kept[owner] = heard
        self._heard = kept
        self._came_back &= kept.keys()
        self._schedulers = {
            incarnation: times for incarnation, times in self._schedulers.items() if now - times[1] < self._seconds
        }
        self._sweep_at = now + self._seconds / SWEEPS if kept else float("inf")
        return ended

    def _renewed_at(self, heard: float) -> float:
        return max([heard, *[last for came, last in self._schedulers.values() if came <= heard]])

    def __len__(self) -> int:
        return len(self._heard)
