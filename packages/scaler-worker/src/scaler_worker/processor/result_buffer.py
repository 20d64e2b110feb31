"""Results that wait to be sent, because a packet costs as much as several tasks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter

from scaler_worker.processor.records import Bytes, Kind
from scaler_worker.processor.result_records import Result, one_result_parts, results_parts

BYTES_MAX = 4 * 1024 * 1024
"""Bytes of results that wait; they are sent with the one that exceeds it."""

LARGE_BYTES_MIN = 16 * 1024
"""Smaller results do not count: their number is limited."""

LATEST_FLUSH_SECONDS = 0.016
"""How long results wait at most, whatever the main thread does."""


class ResultBuffer:
    """The main thread appends to `results`; it and the control thread send them."""

    __slots__ = ("_large_bytes", "_lock", "flushed_at", "results", "send")

    def __init__(self, send: Callable[[Kind, Sequence[Bytes]], None]) -> None:
        self.send = send
        """Sends a record to the agent. Another function is put here while there is something to be told with it."""
        self.results: deque[Result] = deque()
        self.flushed_at = 0.0
        """When results were sent last; 0 where those that wait should be sent at once."""
        self._large_bytes = 0
        self._lock = threading.Lock()

    def note_large(self, size_bytes: int) -> None:
        """A result of so many bytes is about to be added, at least `LARGE_BYTES_MIN`."""
        self._large_bytes += size_bytes
        if self._large_bytes > BYTES_MAX:
            self.flushed_at = 0.0

    def flush(self) -> None:
        """Send all results. From either thread."""
        with self._lock:
            results = self.results
            self._large_bytes = 0
            count = len(results)
            if count == 1 and results[0][3] is None:
                self.send(Kind.ONE_RESULT, one_result_parts(results.popleft()))
            elif count:
                self.send(Kind.RESULTS, results_parts([results.popleft() for _ in range(count)]))
            self.flushed_at = perf_counter()

    def flush_late(self) -> None:
        """Send results that have waited for too long."""
        if perf_counter() - self.flushed_at >= LATEST_FLUSH_SECONDS:
            self.flush()

    def abandon(self) -> None:
        """In a process forked from this one: the results are the other's, and a thread that is not here may hold the lock."""
        self._lock = threading.Lock()
        self.results.clear()
