"""The CPU time that a task may use, by a limit that the kernel holds for the whole process (RLIMIT_CPU).

The soft limit is moved on between tasks, so that each has all of its time. The hard one is never moved, so that no task can
get around it; a processor that comes near to it is replaced.
"""

from __future__ import annotations

from resource import RLIMIT_CPU, setrlimit
from time import process_time

from scaler_worker.fences.plan import CPU_TIME_FACTOR


class CpuTime:
    """The limit of this processor. `renew` is for the main thread, between tasks."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._hard = seconds * CPU_TIME_FACTOR + 1
        self._soft = 0
        self.renew()

    def renew(self) -> str:
        """Give the next task all of its time; return why the process must be replaced, or nothing."""
        # Whole seconds, rounded up.
        soft = int(process_time()) + 1 + self._seconds
        if soft > self._hard:
            return f"it has used {process_time():.0f} s of CPU time, after which a new one takes its place"
        if soft != self._soft:
            setrlimit(RLIMIT_CPU, (soft, self._hard))
            self._soft = soft
        return ""
