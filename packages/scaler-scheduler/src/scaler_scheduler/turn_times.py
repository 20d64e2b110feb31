"""How long the scheduler's turns take: everybody's messages wait for the longest of them. Only for the log, at level DEBUG."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

TOLD_AGAIN_SECONDS = 1.0

logger = logging.getLogger(__name__)


def timed(turn: Callable[[], None]) -> Callable[[], None]:
    """Return `turn`, and with it a line a second about how long it takes, if the log has such lines."""
    return _TurnTimes(turn) if logger.isEnabledFor(logging.DEBUG) else turn


class _TurnTimes:
    def __init__(self, turn: Callable[[], None]) -> None:
        self._turn = turn
        self._turns = 0
        self._sum_seconds = 0.0
        self._longest_seconds = 0.0
        self._longest_cpu_seconds = 0.0
        """By the clock, and in processor time: the first also counts what else the machine did meanwhile."""
        self._tell_at = time.monotonic() + TOLD_AGAIN_SECONDS

    def __call__(self) -> None:
        cpu, begun = time.thread_time(), time.monotonic()
        self._turn()
        now = time.monotonic()
        self._turns += 1
        self._sum_seconds += now - begun
        self._longest_seconds = max(self._longest_seconds, now - begun)
        self._longest_cpu_seconds = max(self._longest_cpu_seconds, time.thread_time() - cpu)
        if now >= self._tell_at:
            logger.debug(
                "turns: %d took %.1f ms, the longest %.2f ms, or %.2f ms of processor time",
                self._turns,
                1000 * self._sum_seconds,
                1000 * self._longest_seconds,
                1000 * self._longest_cpu_seconds,
            )
            self._turns, self._sum_seconds, self._longest_seconds, self._longest_cpu_seconds = 0, 0.0, 0.0, 0.0
            self._tell_at = now + TOLD_AGAIN_SECONDS
