"""How fast each client's tasks end, and how long those take that are left. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from scaler_protocol.wire.messages import MonitorSnapshot

WINDOW_SECONDS = 30.0
"""Rates are means over so long: shorter ones jump, longer ones come late."""


@dataclass(slots=True)
class _Client:
    ended: deque[tuple[float, int]] = field(default_factory=deque)
    unfinished: int = 0


class ClientSpeeds:
    """Fed with each snapshot. Clients that have left are forgotten."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        self._sequence: tuple[bytes, int] | None = None

    def note(self, snapshot: MonitorSnapshot) -> None:
        """Take in a snapshot; one that was noted before changes nothing."""
        if self._sequence == (snapshot.incarnation, snapshot.sequence):
            return
        if self._sequence is not None and self._sequence[0] != snapshot.incarnation:
            # A new scheduler counts from 0.
            self._clients.clear()
        self._sequence = snapshot.incarnation, snapshot.sequence
        kept: dict[str, _Client] = {}
        for status in snapshot.clients:
            key = status.incarnation.hex()
            client = kept[key] = self._clients.get(key) or _Client()
            client.unfinished = status.waiting + status.running
            client.ended.append((snapshot.time_seconds, status.finished + status.failed))
            while len(client.ended) > 2 and client.ended[1][0] <= snapshot.time_seconds - WINDOW_SECONDS:
                client.ended.popleft()
        self._clients = kept

    def tasks_per_second(self, client: str) -> float:
        """Return how many tasks end in a second; 0 for a client that is not known for long enough."""
        known = self._clients.get(client)
        if known is None or len(known.ended) < 2:
            return 0.0
        (since, before), (now, after) = known.ended[0], known.ended[-1]
        return max(0, after - before) / (now - since) if now > since else 0.0

    def seconds_left(self, client: str) -> float | None:
        """Return how long the unfinished tasks take at this rate; None if there are none, or none ends."""
        rate = self.tasks_per_second(client)
        known = self._clients.get(client)
        return known.unfinished / rate if known is not None and known.unfinished and rate else None


def time_text(seconds: float) -> str:
    """Return a time in its two largest units: `9 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    for unit, size, next_unit, next_size in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // next_size} {next_unit}"
    return f"{whole} s"
