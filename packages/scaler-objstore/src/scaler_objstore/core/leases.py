"""How long the objects of a client are kept of which nobody says that it lives.

A scheduler says when a client has ended. But a client may vanish while there is no scheduler, or its scheduler before it, or may
never have reached one. So each owner has a lease. The client itself renews it with the hello that it repeats, and so does
everybody who stores or deletes for it. A scheduler's repeated hello renews the leases of the clients that it knows, which it has
named: it will tell when they end.
"""

from __future__ import annotations

from collections.abc import Iterable

SWEEPS = 4
"""Parts of a lease's length after which is looked which leases have ended."""

SCHEDULERS_MAX = 100
"""Schedulers that are known at once. Of more of them, the one that was silent longest is forgotten."""


class _Scheduler:
    """What one scheduler has said."""

    __slots__ = ("heard", "known", "knows_everybody")

    def __init__(self) -> None:
        self.heard = 0.0
        self.known: frozenset[bytes] = frozenset()
        """The clients whose end it will tell."""
        self.knows_everybody = False
        """Whether it will tell that of all others too."""


class Leases:
    """When each owner was last heard of, and each scheduler."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._heard: dict[bytes, float] = {}
        """Owners with objects, and others that were heard of lately."""
        self._schedulers: dict[bytes, _Scheduler] = {}
        """By incarnation. The one that was heard last is last."""
        self._sweep_at = float("inf")

    def renew(self, owner: bytes, now: float) -> None:
        """This client lives, or somebody does something for it."""
        self._heard[owner] = now
        if self._sweep_at == float("inf"):
            self._sweep_at = now + self._seconds / SWEEPS

    def on_scheduler(self, incarnation: bytes, now: float) -> None:
        """A scheduler lives."""
        scheduler = self._schedulers.pop(incarnation) if incarnation in self._schedulers else _Scheduler()
        self._schedulers[incarnation] = scheduler
        scheduler.heard = now
        if len(self._schedulers) > SCHEDULERS_MAX:
            del self._schedulers[next(iter(self._schedulers))]

    def on_known(self, incarnation: bytes, clients: Iterable[bytes], now: float, *, everybody: bool) -> None:
        """A scheduler knows these clients, and all others or none of them."""
        self.on_scheduler(incarnation, now)
        scheduler = self._schedulers[incarnation]
        scheduler.known, scheduler.knows_everybody = frozenset(clients), everybody

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
            if now - self._renewed_at(owner, heard) >= self._seconds:
                ended.append(owner)
            else:
                kept[owner] = heard
        self._heard = kept
        self._schedulers = {
            incarnation: one for incarnation, one in self._schedulers.items() if now - one.heard < self._seconds
        }
        self._sweep_at = now + self._seconds / SWEEPS if kept else float("inf")
        return ended

    def _renewed_at(self, owner: bytes, heard: float) -> float:
        schedulers = self._schedulers.values()
        return max([heard, *[one.heard for one in schedulers if one.knows_everybody or owner in one.known]])

    def __len__(self) -> int:
        return len(self._heard)
