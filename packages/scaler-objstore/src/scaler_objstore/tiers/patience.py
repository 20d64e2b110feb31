"""Asking a remote store again: after pauses that grow, with jitter, until a deadline."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from scaler_objstore.tiers.port import TierUnavailableError
from scaler_objstore.tiers.values import RejectedError

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0


class Patience:
    """Repeats requests that failed for reasons that pass. `close` ends all pauses."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: for how long a request is repeated. The last one may take its own time limit longer."""
        self._seconds = seconds
        self._closed = threading.Event()

    def deadline(self) -> float:
        """Return when an operation that begins now stops repeating its requests."""
        return time.monotonic() + self._seconds

    def ask(self, request: Callable[[], T], deadline: float) -> T:
        """Return the request's answer. Raises its last error, or `TierUnavailableError` once closed."""
        longest_pause = FIRST_PAUSE_SECONDS
        while True:
            if self._closed.is_set():
                raise TierUnavailableError("it was closed")
            try:
                return request()
            except RejectedError:
                raise
            except TierUnavailableError:
                # Random pauses, so that those who lost a store at the same moment do not come back at the same one.
                pause = random.uniform(longest_pause / 2, longest_pause)
                if time.monotonic() + pause >= deadline or self._closed.wait(pause):
                    raise
                longest_pause = min(2 * longest_pause, LONGEST_PAUSE_SECONDS)

    def close(self) -> None:
        """Let no request begin any more."""
        self._closed.set()
