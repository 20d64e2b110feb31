"""Keeps peers that are refused from filling the log: anybody who reaches the port can be refused as often as they like."""

from __future__ import annotations

from scaler_scheduler.core.outbox import MessageOutbox

LINES_MAX = 10
"""Most lines a second."""

PERIOD_SECONDS = 1.0


class RefusalLog:
    """Logs the first refusals of each second, and how many more there were."""

    def __init__(self, outbox: MessageOutbox) -> None:
        self._outbox = outbox
        self._began = float("-inf")
        self._count = 0

    def note(self, text: str, now: float) -> None:
        """A peer was refused."""
        self.end_period(now)
        if not self._count:
            self._began = now
        self._count += 1
        if self._count <= LINES_MAX:
            self._outbox.log("warning", text)

    def end_period(self, now: float) -> None:
        """Say how many were left out, if a second has passed. To be called now and then."""
        if self._count and now >= self._began + PERIOD_SECONDS:
            if self._count > LINES_MAX:
                self._outbox.log("warning", f"refused {self._count - LINES_MAX} more peers within a second or two")
            self._count = 0
