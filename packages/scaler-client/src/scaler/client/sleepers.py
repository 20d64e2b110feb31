"""Waiting and waking without a lock that an interrupt could leave taken.

A `threading.Condition` or `Event` is Python code: Ctrl-C between taking its lock and the block that gives it back leaves the lock
taken for ever, and whoever wants to notify hangs. Here every step is one operation of a built-in type, which nothing
interrupts. A thread puts a lock of its own into a deque, looks once more whether what it waits for has happened, and sleeps on
the lock; whoever makes it happen takes the locks out, and releases them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Sleepers:
    """Threads that sleep until something has happened."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: deque[threading.Lock] = deque()

    def sleep(self, done: Callable[[], bool], seconds: float) -> None:
        """Sleep until `wake`, or so many seconds; not at all where `done()`. It may also return early."""
        lock = threading.Lock()
        lock.acquire()
        try:
            self._locks.append(lock)
            # In this order: who makes it true between the two finds the lock.
            if not done():
                lock.acquire(True, max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        finally:
            forget(self._locks, lock)

    def wake(self) -> None:
        """It has happened: wake all."""
        wake(self._locks)

    def __len__(self) -> int:
        return len(self._locks)


def wake(locks: deque[threading.Lock]) -> None:
    """Take all locks out, and release them."""
    while locks:
        try:
            locks.popleft().release()
        except (IndexError, RuntimeError):
            # Another thread wakes them as well.
            return


def forget(locks: deque[threading.Lock], lock: threading.Lock) -> None:
    """Take one lock out, if it is still in there."""
    try:
        locks.remove(lock)
    except (ValueError, IndexError):
        # It was woken, or the deque changed meanwhile: then it stays in there until the next wake, which does no harm.
        return
