"""A statistical profile of what tasks run here, taken by a thread that exists only while the agent asks for one.

The thread wakes up some times a second, looks at the stacks of the threads that run tasks, and counts how long each stack was
there. Tasks run as they always do. The thread needs the interpreter's lock: while native code holds it, the thread comes late,
and gives the whole time to the call that it then finds. It takes at most `SHARE_MAX` of a core, by looking less often.

Tasks may spoil the built-in functions and every module. So looking at stacks uses neither, but for what is bound here.
"""

from __future__ import annotations

import os
import sys
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from sys import _current_frames, getswitchinterval, setswitchinterval
from threading import Lock, get_ident, main_thread
from time import monotonic, sleep, thread_time
from types import CodeType

import scaler_protocol
import scaler_worker
from scaler_protocol.runtime.sampled_stacks import SampledStacks, call_table
from scaler_worker.processor.channel import AgentGoneError
from scaler_worker.processor.profile_records import profile_parts
from scaler_worker.processor.records import Bytes, Kind
from scaler_worker.processor.running_task import RunningTask

PERIOD_SECONDS = 1.0
"""How often the agent is sent what was sampled since."""

SHARE_MAX = 0.01
"""The largest part of a core that the thread takes, on average."""

THREADS_MAX = 32
"""Most threads of a task that are looked at each time, besides its main one."""

SWITCH_SECONDS = 1e-6 * 100
"""As `getswitchinterval` says it; set as `SHORT_SWITCH_SECONDS`, because that cuts off what is left of a microsecond."""

SHORT_SWITCH_SECONDS = 1e-4
"""How soon the thread is given the interpreter's lock, instead of the usual 5 ms: a shorter task would never be seen, because the
lock is free between two tasks. Not where a task has threads of its own, which would take turns all the time."""

USUAL_SWITCH_SECONDS = 0.005

_PACKAGES = tuple(
    os.path.dirname(module.__file__) + "/" for module in (scaler_protocol, scaler_worker) if module.__file__
)
_CLIENT = find_spec("scaler")
_CLIENT_FOLDERS = (_CLIENT.submodule_search_locations if _CLIENT is not None else None) or ()
_THREADS_OF_SCALER = (*_PACKAGES, *(folder + "/" for folder in _CLIENT_FOLDERS))
"""Where threads of clients inside tasks begin."""

_ANYTHING = BaseException
_AGENT_GONE = AgentGoneError


class Sampler:
    """`ask` is for the control thread. `boundary` is the code of the function that runs tasks: what is above it is not theirs."""

    def __init__(self, running: RunningTask, boundary: CodeType, send: Callable[[Kind, Sequence[Bytes]], None]) -> None:
        self._running = running
        self._stacks = SampledStacks(boundary, _PACKAGES, _THREADS_OF_SCALER)
        self._send = send
        self._lock = Lock()
        self._is_alive = False
        self._until = 0.0
        self._interval = 1.0
        self._main = main_thread().ident or 0
        self._control = 0
        """The control thread."""
        self._seen_index = 0
        """Of the task that had begun when the thread last looked."""
        self._has_threads = False
        """Whether the task had threads of its own then."""
        self._usual_switch = USUAL_SWITCH_SECONDS

    def begin(self, usual_switch_seconds: float) -> None:
        """Tasks will run from now on: what the interpreter's switch interval is between them, and when they begin."""
        self._usual_switch = usual_switch_seconds

    def ask(self, seconds: float, rate: int) -> None:
        """Sample for so long from now, `rate` times a second; not any more with 0 seconds."""
        with self._lock:
            self._until = monotonic() + seconds
            self._interval = 1.0 / rate if rate > 0 else 1.0
            if not self._is_alive and seconds > 0:
                self._control = get_ident()
                self._is_alive = True
                start_new_thread(self._run, ())

    # --- the thread

    def _run(self) -> None:
        own = get_ident()
        last = monotonic()
        send_at = last + PERIOD_SECONDS
        used = thread_time()
        spent = 0.0
        due = last
        while True:
            self._switch_soon(not self._has_threads)
            now = monotonic()
            due = due + self._interval
            if due < now + spent / SHARE_MAX:
                # It came late, or what it did last took long.
                due = now + spent / SHARE_MAX
            sleep(due - now)
            now = monotonic()
            # All that this thread uses, waking up and sending included; on average, because it sends once a second only.
            used_before, used = used, thread_time()
            spent = 0.9 * spent + 0.1 * (used - used_before)
            try:
                self._look(own, now - last)
            except _ANYTHING:
                # A task has spoiled what this needs: nobody gets this time.
                last = now
            last = now
            is_over = self._is_over(now)
            if now >= send_at or is_over:
                send_at = now + PERIOD_SECONDS
                try:
                    self._report()
                except _AGENT_GONE:
                    self._switch_soon(False)
                    self._is_alive = False
                    return
                except _ANYTHING:
                    # What was sampled stays, and is sent soon.
                    send_at = now + self._interval
            if is_over:
                with self._lock:
                    if self._until <= now:
                        self._switch_soon(False)
                        self._is_alive = False
                        self._stacks.forget()
                        return

    def _switch_soon(self, soon: bool) -> None:
        current = getswitchinterval()
        # What a task has set for itself stays: it ends with the task.
        # Setting a value may cut off a microsecond of it.
        if soon and -2e-6 < current - self._usual_switch < 2e-6:
            setswitchinterval(SHORT_SWITCH_SECONDS)
        elif not soon and current == SWITCH_SECONDS:
            setswitchinterval(self._usual_switch)

    def _is_over(self, now: float) -> bool:
        return now >= self._until or self._running.is_forked

    def _look(self, own: int, seconds: float) -> None:
        index = self._running.page.word[0]
        has_begun = index != self._seen_index
        self._seen_index = index
        self._has_threads = False
        stacks = self._stacks
        row = self._running.row
        if row is None:
            if has_begun:
                stacks.take_short(seconds)
            return
        stacks.samples = stacks.samples + 1
        frames = _current_frames()
        root = stacks.root_of(row.function)
        count = 0
        for ident in frames:
            if ident == self._main:
                if not stacks.take_main(root, frames[ident], seconds):
                    stacks.take_short(seconds)
            elif ident != own and ident != self._control and count < THREADS_MAX:
                count = count + 1
                # Not those that Scaler has, and keeps: after a task that had a client, for its following ones.
                if stacks.take_thread(root, frames[ident], seconds):
                    self._has_threads = True

    def _report(self) -> None:
        stacks = self._stacks
        parts = profile_parts(call_table(stacks.roots, sys.path), stacks.samples, thread_time())
        stacks.forget()
        self._send(Kind.PROFILE_SAMPLES, parts)
