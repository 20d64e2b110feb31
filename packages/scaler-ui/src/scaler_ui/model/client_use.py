"""What each client uses of the cluster: workers now, and core seconds, ended and failed tasks over time.

Clients inside tasks count with the client that they work for, as long as that is connected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scaler_protocol.wire.messages import ClientStatus, MonitorSnapshot
from scaler_ui.model.recent import RecentFigures

CLIENTS_MAX = 2_000
"""Clients whose totals are kept. Of those that have left, the ones that used something last stay."""


@dataclass(slots=True)
class UseFigures:
    """What one client used over some time."""

    core_seconds: float = 0.0
    succeeded: int = 0
    failed: int = 0

    def add(self, core_seconds: float, succeeded: int, failed: int) -> None:
        """Count more."""
        self.core_seconds += core_seconds
        self.succeeded += succeeded
        self.failed += failed

    def merge(self, other: UseFigures, /) -> None:
        """Add what the same client used at another time."""
        self.add(other.core_seconds, other.succeeded, other.failed)


class _Last(NamedTuple):
    """What the last snapshot said of a client. Its counts only grow."""

    owner: bytes
    used_seconds: float
    succeeded: int
    failed: int


class ClientUse:
    """What clients have used since this monitor started, and in the last hour."""

    def __init__(self) -> None:
        self._incarnation = b""
        self._last: dict[bytes, _Last] = {}
        self._totals: dict[bytes, UseFigures] = {}
        self._recent: RecentFigures[bytes, UseFigures] = RecentFigures(lambda _: UseFigures())
        self._slot_seconds: RecentFigures[None, UseFigures] = RecentFigures(lambda _: UseFigures())
        self._all_slot_seconds = 0.0
        self._time = 0.0

    def accept(self, snapshot: MonitorSnapshot) -> None:
        """Take in one snapshot."""
        owners = owners_of(snapshot.clients)
        now = {
            client.incarnation: _Last(owners[client.incarnation], client.used_seconds, client.finished, client.failed)
            for client in snapshot.clients
        }
        begins = snapshot.incarnation != self._incarnation
        # Another scheduler counts from 0 again, or has counted for long before anybody listened here.
        last = now if begins else self._last
        self._incarnation, self._last = snapshot.incarnation, now
        used: dict[bytes, UseFigures] = {}
        for client, one in now.items():
            before = last.get(client, _Last(one.owner, 0.0, 0, 0))
            figures = used.setdefault(one.owner, UseFigures())
            figures.add(
                one.used_seconds - before.used_seconds,
                max(0, one.succeeded - before.succeeded),
                max(0, one.failed - before.failed),
            )
        for client, before in last.items():
            if client not in now and before.owner in used and before.owner != client:
                # What it used is among the figures of its owner from now on, and was counted before.
                used[before.owner].core_seconds -= before.used_seconds
        for owner, figures in used.items():
            # Time of a task that was running is taken back where its process died.
            figures.core_seconds = max(0.0, figures.core_seconds)
            if figures == UseFigures():
                continue
            total = self._totals.pop(owner, None) or UseFigures()
            self._totals[owner] = total
            for one_of in (total, *self._recent.at(owner, snapshot.time_seconds)):
                one_of.merge(figures)
        self._note_slots(snapshot, 0.0 if begins else max(0.0, snapshot.time_seconds - self._time))
        self._time = snapshot.time_seconds
        for owner in list(self._totals)[: max(0, len(self._totals) - CLIENTS_MAX)]:
            del self._totals[owner]

    def _note_slots(self, snapshot: MonitorSnapshot, elapsed: float) -> None:
        seconds = len(snapshot.workers) * elapsed
        self._all_slot_seconds += seconds
        for one in self._slot_seconds.at(None, snapshot.time_seconds):
            one.core_seconds += seconds

    def within(self, seconds: float, now: float) -> tuple[Mapping[bytes, UseFigures], float, float]:
        """Return what clients used in the last `seconds` (0: since this monitor started), by id.

        Then what all workers together could have given, in core seconds, and since when all of it counts.
        """
        if not seconds:
            return self._totals, self._all_slot_seconds, 0.0
        figures, since = self._recent.within(seconds, now)
        slots, _ = self._slot_seconds.within(seconds, now)
        return figures, slots[None].core_seconds if None in slots else 0.0, since


def owners_of(clients: tuple[ClientStatus, ...]) -> dict[bytes, bytes]:
    """Return for each client the one that it counts with: itself, unless it is inside a task of one that is connected."""
    present = {client.incarnation for client in clients}
    return {
        client.incarnation: client.parent if client.nested and client.parent in present else client.incarnation
        for client in clients
    }
