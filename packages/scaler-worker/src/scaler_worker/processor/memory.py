"""Memory of this process: how much it has, how much it has had at most, and giving free memory back."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from os import close
from resource import RUSAGE_SELF, getrusage
from time import monotonic

from scaler_protocol.service.memory import give_back_free_memory, rss_bytes

TRIM_INTERVAL_SECONDS = 1.0


def reset_peak() -> None:
    """Let `peak_bytes` count from now, where the kernel allows it."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(descriptor, b"5")
    except OSError:
        # Then the peak is that of the process's life.
        pass
    finally:
        close(descriptor)


def peak_bytes() -> int:
    """Return the largest resident memory since `reset_peak`.

    It is what `/proc/self/status` shows, which takes twice as long: the kernel's peak lags behind by what its processors have
    not added up yet, and the present figure does not. In a process that has executed another program since it was forked, the
    peak is that of its life.
    """
    peak = getrusage(RUSAGE_SELF).ru_maxrss * 1024
    try:
        return max(peak, rss_bytes())
    except OSError:
        # The task may open nothing any more.
        return peak


class Housekeeping:
    """Garbage collection and trimming, between tasks."""

    def __init__(
        self, collect_interval_seconds: float, trim_threshold_bytes: int, give_back_idle: Callable[[], None]
    ) -> None:
        """`give_back_idle` returns the memory of the channel that is not used."""
        self._give_back_idle = give_back_idle
        self._collect_interval = collect_interval_seconds
        self._trim_threshold = trim_threshold_bytes
        now = monotonic()
        self._collect_at = now + collect_interval_seconds
        self._trim_at = now + TRIM_INTERVAL_SECONDS

    def run(self) -> None:
        """Do what is due. Cheap when nothing is."""
        now = monotonic()
        if now >= self._collect_at:
            gc.collect()
            self._collect_at = monotonic() + self._collect_interval
        if now >= self._trim_at:
            if rss_bytes() > self._trim_threshold:
                give_back_free_memory()
            self._give_back_idle()
            self._trim_at = monotonic() + TRIM_INTERVAL_SECONDS
