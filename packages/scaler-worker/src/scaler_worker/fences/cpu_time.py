"""The CPU time that a task may use, by a limit that the kernel holds for the whole process (RLIMIT_CPU).

The soft limit is moved on between tasks, so that each has all of its time. The hard one is never moved, so that no task can
get around it; a processor that comes near to it is replaced.
"""

from __future__ import annotations

from resource import RLIM_INFINITY, RLIMIT_CPU, getrlimit, setrlimit
from time import process_time

CPU_TIME_FACTOR = 10
"""The hard limit of a processor, in limits of a task."""


class CpuTime:
    """The limit of this processor. For the main thread, between tasks."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._soft = self._hard = 0

    def begin(self) -> None:
        """From now on there is a limit: what was used until now, by the preload, is nobody's."""
        _, hard = getrlimit(RLIMIT_CPU)
        ours = self._seconds_used() + self._seconds * CPU_TIME_FACTOR
        self._hard = ours if hard == RLIM_INFINITY else min(ours, hard)
        self._soft = min(self._seconds_used() + self._seconds, self._hard)
        setrlimit(RLIMIT_CPU, (self._soft, self._hard))

    def renew(self) -> str:
        """Give the next task all of its time; return why the process must be replaced, or nothing."""
        used = self._seconds_used()
        soft = used + self._seconds
        if soft > self._hard:
            return f"it has used {used} s of CPU time, after which another takes its place"
        if soft != self._soft:
            setrlimit(RLIMIT_CPU, (soft, self._hard))
            self._soft = soft
        return ""

    @staticmethod
    def _seconds_used() -> int:
        # The kernel counts whole seconds.
        return int(process_time()) + 1
