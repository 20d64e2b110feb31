"""Memory of this process: how much it has, how much it has had at most, and giving free memory back."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from os import getpid, pread, write
from resource import RUSAGE_SELF, getpagesize, getrusage
from time import monotonic

from scaler_protocol.service.memory import give_back_free_memory, rss_bytes
from scaler_worker.processor.descriptors import Identity, identity, moved_out_of_reach

TRIM_INTERVAL_SECONDS = 1.0


class OwnFile:
    """A file in /proc about this process, kept open: to open and close it takes several times as long as to use it.

    Its number is out of the reach of tasks that close descriptors. Where one has closed it all the same, it is opened again; and
    after a fork, because it is about the other process.
    """

    def __init__(self, name: str, flags: int) -> None:
        self._path = f"/proc/self/{name}"
        self._flags = flags
        self._pid = 0
        self._identity: Identity | None = None
        self.descriptor = -1
        """Its number; any number before `open` and after a task has closed it."""

    def open(self) -> None:
        """Open it, unless it is open. Raises OSError where that is not possible."""
        pid = getpid()
        if pid != self._pid or identity(self.descriptor) != self._identity:
            self._pid, self.descriptor = 0, -1
            self.descriptor = moved_out_of_reach(os.open(self._path, self._flags | os.O_CLOEXEC))
            self._identity = identity(self.descriptor)
            self._pid = pid


_references = OwnFile("clear_refs", os.O_WRONLY)
_sizes = OwnFile("statm", os.O_RDONLY)
_PAGE_BYTES = getpagesize()


def reset_peak() -> None:
    """Let `peak_bytes` count from now, where the kernel allows it."""
    try:
        _sizes.open()
        _references.open()
        write(_references.descriptor, b"5")
    except OSError:
        # Then the peak is that of the process's life.
        return


def peak_bytes() -> int:
    """Return the largest resident memory since `reset_peak`.

    It is what `/proc/self/status` shows, which takes twice as long: the kernel's peak lags behind by what its processors have
    not added up yet, and the present figure does not. In a process that has executed another program since it was forked, the
    peak is that of its life.
    """
    peak = getrusage(RUSAGE_SELF).ru_maxrss * 1024
    try:
        return max(peak, int(pread(_sizes.descriptor, 256, 0).split(None, 2)[1]) * _PAGE_BYTES)
    except (OSError, ValueError, IndexError):
        # The task has closed it, or put another file in its place.
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
