"""A timer that wakes the control thread, for what the main thread puts off for some milliseconds.

Mostly the main thread does it itself before that. So the timer is set and stopped far more often than it fires: each of the
two is one short system call, where waking a thread that then sleeps would cost as much as a small task.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import partial
from os import read

from scaler_worker.processor.descriptors import moved_out_of_reach

_COUNT_BYTES = 8
_NOTHING_THERE = BlockingIOError


class _Time(ctypes.Structure):
    """`struct itimerspec`, for a timer that fires once."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Alarm:
    """`set` and `stop` are the main thread's, `take` is the control thread's."""

    __slots__ = ("_set", "_stop", "descriptor", "is_set")

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long after `set` it fires, less than one second."""
        # One's own: the functions of `ctypes.pythonapi` are everybody's. With the interpreter's lock held, as it never waits.
        library = ctypes.PyDLL(None, use_errno=True)
        descriptor = library.timerfd_create(1, os.O_CLOEXEC | os.O_NONBLOCK)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self.descriptor = moved_out_of_reach(descriptor)
        """Readable when it has fired."""
        self.is_set = False
        times = _Time(0, 0, 0, int(seconds * 1e9)), _Time()
        calls = [partial(library.timerfd_settime, self.descriptor, 0, ctypes.byref(time), None) for time in times]
        self._set: Callable[[], int] = calls[0]
        self._stop: Callable[[], int] = calls[1]

    def set(self) -> None:
        """Have it fire soon, unless it is about to. Call it after there is something to be done."""
        if not self.is_set:
            self.is_set = True
            self._set()

    def stop(self) -> None:
        """There is nothing to be done any more."""
        if self.is_set:
            self.is_set = False
            self._stop()

    def take(self) -> None:
        """It has fired. Call it before doing what there is to do: what comes later sets it again."""
        self.is_set = False
        # It may have been stopped, or set again, since it fired.
        try:
            read(self.descriptor, _COUNT_BYTES)
        except _NOTHING_THERE:
            return
