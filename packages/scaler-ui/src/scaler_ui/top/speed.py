"""How fast tasks end, by client and by label, and how long those take that are left. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from scaler_protocol.wire.messages import MonitorSnapshot

WINDOW_SECONDS = 30.0
"""Rates are means over so long: shorter ones jump, longer ones come late."""

Key = bytes | str
"""A client by its incarnation, or a label."""


@dataclass(slots=True)
class _Watched:
    ended: deque[tuple[float, int]] = field(default_factory=deque)
    """Times of snapshots, each with the number of tasks that had ended by then."""
    unfinished: int = 0


class Speeds:
    """Fed with each snapshot. Clients that have left are forgotten."""

    def __init__(self) -> None:
        self._watched: dict[Key, _Watched] = {}
        self._last: tuple[bytes, int] = (b"", 0)

    def note(self, snapshot: MonitorSnapshot) -> None:
        """Take in a snapshot; one that was noted before changes nothing."""
        now = (snapshot.incarnation, snapshot.sequence)
        if self._last == now:
            return
        if self._last[0] != snapshot.incarnation:
            # A new scheduler counts from 0.
            self._watched.clear()
        self._last = now
        kept: dict[Key, _Watched] = {}
        for key, unfinished, ended in _counts(snapshot):
            watched = kept[key] = self._watched.get(key) or _Watched()
            watched.unfinished = unfinished
            watched.ended.append((snapshot.time_seconds, ended))
            while len(watched.ended) > 2 and watched.ended[1][0] <= snapshot.time_seconds - WINDOW_SECONDS:
                watched.ended.popleft()
        self._watched = kept

    def tasks_per_second(self, key: Key) -> float:
        """Return how many tasks end in a second; 0 for what is not known for long enough."""
        watched = self._watched.get(key)
        if watched is None:
            return 0.0
        (since, before), (now, after) = watched.ended[0], watched.ended[-1]
        return max(0, after - before) / (now - since) if now > since else 0.0

    def seconds_left(self, key: Key) -> float | None:
        """Return how long the unfinished tasks take at this rate; None if there are none, or none ends."""
        rate = self.tasks_per_second(key)
        unfinished = self._watched[key].unfinished if rate else 0
        return unfinished / rate if unfinished else None

    def shown(self, key: Key) -> tuple[str, str]:
        """Return the rate and the time left, as text; empty where nothing is left, or none ends."""
        left = self.seconds_left(key)
        return f"{self.tasks_per_second(key):,.1f}", "" if left is None else time_text(left)


def _counts(snapshot: MonitorSnapshot) -> Iterable[tuple[Key, int, int]]:
    for client in snapshot.clients:
        yield client.incarnation, client.waiting + client.running, client.finished + client.failed
    for label in snapshot.labels:
        yield label.name, label.unfinished, label.succeeded + label.failed


def time_text(seconds: float) -> str:
    """Return a time in its two largest units: `9 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    for unit, size, next_unit, next_size in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // next_size} {next_unit}"
    return f"{whole} s"
