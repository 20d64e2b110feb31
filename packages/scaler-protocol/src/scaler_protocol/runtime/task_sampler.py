"""Samples tasks in a process that nobody can tell anything while it runs one: each task says for how long.

A task comes with the request and goes with what was sampled of it. The thread lives as long as the profile, so tasks that are
shorter than the time between two samples are seen as often as they should be.
"""

from __future__ import annotations

import sys
from _thread import start_new_thread
from sys import _current_frames
from threading import Lock, get_ident
from time import monotonic, sleep, thread_time
from types import CodeType

from scaler_protocol.monitoring.profile_tree import PROFILE_SECONDS_MAX, RATE_MAX, CallTable
from scaler_protocol.runtime.sampled_stacks import MACHINERY_ONLY, SampledStacks, call_table

SHARE_MAX = 0.01
"""The largest part of a core that the thread takes, on average."""

THREADS_MAX = 32
"""Most threads of a task that are looked at each time, besides its main one."""

_ANYTHING = BaseException


class TaskSampler:
    """`begin` and `end` are called on the thread that runs tasks, one task at a time."""

    def __init__(self, boundary: CodeType, machinery: tuple[str, ...]) -> None:
        """`boundary` is the code of the function that runs tasks, `machinery` how the names of Scaler's files begin."""
        self._stacks = SampledStacks(boundary, machinery, machinery)
        self._lock = Lock()
        self._is_alive = False
        self._until = 0.0
        self._interval = 1.0
        self._function: bytes | None = None
        """The id of the running task's function; None between two tasks."""
        self._main = 0
        self._others: frozenset[int] = frozenset()
        """Threads that there were before the task."""
        self._used_seconds = 0.0

    def begin(self, seconds: float, rate: int, function: bytes) -> None:
        """A task of this function begins. Sample for so long from now, `rate` times a second."""
        with self._lock:
            self._until = monotonic() + min(seconds, PROFILE_SECONDS_MAX)
            self._interval = 1.0 / min(max(rate, 1), RATE_MAX)
            self._main = get_ident()
            if not self._is_alive:
                self._is_alive = True
                start_new_thread(self._run, ())
            self._others = frozenset(_current_frames())
            self._function = function

    def end(self) -> tuple[int, int, CallTable]:
        """The task has ended: return samples, microseconds of processor time used for sampling so far, and calls."""
        with self._lock:
            self._function = None
            stacks = self._stacks
            found = stacks.samples, int(self._used_seconds * 1e6), call_table(stacks.roots, sys.path)
            stacks.forget()
        return found

    def _run(self) -> None:
        own = get_ident()
        last = monotonic()
        spent = 0.0
        while True:
            sleep(max(self._interval, spent / SHARE_MAX))
            now = monotonic()
            with self._lock:
                if now >= self._until:
                    self._is_alive = False
                    return
                try:
                    self._look(own, now - last)
                except _ANYTHING:
                    # A task has spoiled what this needs. Nobody gets this time.
                    last = now
                last = now
                used_before, self._used_seconds = self._used_seconds, thread_time()
            spent = 0.9 * spent + 0.1 * (self._used_seconds - used_before)

    def _look(self, own: int, seconds: float) -> None:
        function = self._function
        if function is None:
            return
        stacks = self._stacks
        stacks.samples = stacks.samples + 1
        root = stacks.root_of(function)
        frames = _current_frames()
        if not stacks.take_main(root, frames.get(self._main), seconds):
            # Just before the task or after it.
            stacks.add(root, [], MACHINERY_ONLY, seconds)
        count = 0
        for ident in frames:
            if ident not in self._others and ident != own and count < THREADS_MAX:
                count = count + 1
                stacks.take_thread(root, frames[ident], seconds)


_samplers: list[TaskSampler] = []


def sampler_of_this_process(boundary: CodeType, machinery: tuple[str, ...]) -> TaskSampler:
    """Return the one of this process; the first call makes it."""
    if not _samplers:
        _samplers.append(TaskSampler(boundary, machinery))
    return _samplers[0]
