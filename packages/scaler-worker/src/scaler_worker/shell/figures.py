"""What processes of this host use, read from /proc: enough for heartbeats, and nothing to import for it."""

from __future__ import annotations

import os
import time

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessMeter:
    """CPU and memory of one process. CPU is that since the last reading."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_seconds = 0.0
        self._read_at = 0.0

    def read(self) -> tuple[float, int]:
        """Return (percent of one core, resident bytes); zeros for a process that is gone."""
        try:
            with open(f"/proc/{self._pid}/stat", "rb") as stat:
                # The name in parentheses may hold anything, blanks and parentheses included.
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            return 0.0, 0
        now = time.monotonic()
        cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        elapsed = now - self._read_at
        percent = 100.0 * (cpu_seconds - self._cpu_seconds) / elapsed if self._read_at and elapsed > 0 else 0.0
        self._cpu_seconds, self._read_at = cpu_seconds, now
        return max(percent, 0.0), int(fields[21]) * _PAGE_BYTES


def free_bytes() -> int:
    """Return the memory this host has left for new work, 0 where it cannot be told."""
    try:
        with open("/proc/meminfo", "rb") as meminfo:
            for line in meminfo:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
