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
from types import CodeType, FrameType
from typing import Any

import scaler_protocol
import scaler_worker
from scaler_protocol.monitoring.profile_tree import OTHER
from scaler_protocol.runtime import coroutines
from scaler_worker.processor.channel import AgentGoneError
from scaler_worker.processor.profile_records import SampledTree, profile_parts
from scaler_worker.processor.records import Bytes, Kind
from scaler_worker.processor.running_task import RunningTask

PERIOD_SECONDS = 1.0
"""How often the agent is sent what was sampled since."""

SHARE_MAX = 0.01
"""The largest part of a core that the thread takes, on average."""

NODES_MAX = 1_500
"""Most calls in one tree, under their callers."""

FRAMES_MAX = 100
"""Most frames of a stack that are kept: those that are called first."""

WALK_MAX = 2_000
"""Longest stack that is followed to its beginning."""

THREADS_MAX = 32
"""Most threads of a task that are looked at each time, besides its main one."""

SWITCH_SECONDS = 1e-6 * 100
"""As `getswitchinterval` says it; set as `SHORT_SWITCH_SECONDS`, because that cuts off what is left of a microsecond."""

SHORT_SWITCH_SECONDS = 1e-4
"""How soon the thread is given the interpreter's lock, instead of the usual 5 ms: a shorter task would never be seen, because the
lock is free between two tasks. Not where a task has threads of its own, which would take turns all the time."""

USUAL_SWITCH_SECONDS = 0.005

_OTHER = OTHER[0]
_SHORT = "(short tasks)"
"""A root: the time in which tasks came and went, and none was seen."""
_DEEPER = "(deeper calls)"
_MACHINERY_ONLY = "(arguments and results)"
_EVENT_LOOP = "(event loop)"

_LIBRARY = os.path.dirname(os.__file__) + "/"
_PACKAGES = tuple(
    os.path.dirname(module.__file__) + "/" for module in (scaler_protocol, scaler_worker) if module.__file__
)
_CLIENT = find_spec("scaler")
_CLIENT_FOLDERS = (_CLIENT.submodule_search_locations if _CLIENT is not None else None) or ()
_THREADS_OF_SCALER = (*_PACKAGES, *(folder + "/" for folder in _CLIENT_FOLDERS))
"""Where threads of clients inside tasks begin."""
_AWAITING_FILE = coroutines.__file__
_EVENT_LOOP_FILES = (_LIBRARY + "asyncio/", _LIBRARY + "selectors.py")
_THREADING_FILES = (_LIBRARY + "threading.py", _LIBRARY + "concurrent/futures/thread.py")
_IMPORT_SYSTEM = "<frozen importlib"
"""Between the modules that import each other there are half a dozen calls of it, which would hide them."""
_WAITS = frozenset(
    (_LIBRARY + file, name)
    for file, name in (
        ("threading.py", "wait"),
        ("threading.py", "_wait_for_tstate_lock"),
        ("concurrent/futures/thread.py", "_worker"),
        ("queue.py", "get"),
        ("selectors.py", "select"),
    )
)
"""Where threads wait for something to do: (file, function) of the innermost frame."""

_ANYTHING = BaseException
_AGENT_GONE = AgentGoneError


class Sampler:
    """`ask` is for the control thread. `boundary` is the code of the function that runs tasks: what is above it is not theirs."""

    def __init__(self, running: RunningTask, boundary: CodeType, send: Callable[[Kind, Sequence[Bytes]], None]) -> None:
        self._running = running
        self._boundary = boundary
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
        self._roots: dict[bytes | str, SampledTree] = {}
        self._count = 0
        self._samples = 0

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
                        self._forget()
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
        row = self._running.row
        if row is None:
            if has_begun:
                self._take_short(seconds)
            return
        self._samples = self._samples + 1
        frames = _current_frames()
        root = self._root_of(row.function)
        count = 0
        for ident in frames:
            if ident == self._main:
                self._take_main(root, frames[ident], seconds)
            elif ident != own and ident != self._control and count < THREADS_MAX:
                count = count + 1
                self._take_thread(root, frames[ident], seconds)
        self._has_threads = count > 0

    def _root_of(self, function: bytes | str) -> SampledTree:
        root = self._roots.get(function)
        if root is None:
            self._count = self._count + 1
            root = self._roots[function] = [0.0, {}]
        return root

    def _take_short(self, seconds: float) -> None:
        self._samples = self._samples + 1
        root = self._root_of(_SHORT)
        root[0] = root[0] + seconds

    def _take_main(self, root: SampledTree, frame: FrameType | None, seconds: float) -> None:
        boundary = self._boundary
        line = (frame.f_lineno or 0) if frame is not None else 0
        stack: list[CodeType] = []
        count = 0
        while frame is not None and frame.f_code is not boundary:
            stack.append(frame.f_code)
            frame = frame.f_back
            count = count + 1
            if count > WALK_MAX:
                self._add(root, [], _DEEPER, seconds)
                return
        if frame is None:
            self._take_short(seconds)
            return
        awaits = is_theirs = False
        theirs: list[CodeType] = []
        for code in stack[::-1]:
            if not is_theirs:
                file = code.co_filename
                if file.startswith(_PACKAGES):
                    awaits = awaits or file == _AWAITING_FILE
                    continue
                if awaits and file.startswith(_EVENT_LOOP_FILES):
                    continue
                is_theirs = True
            if not code.co_filename.startswith(_IMPORT_SYSTEM):
                theirs.append(code)
        if is_theirs:
            self._add(root, theirs, line, seconds)
        else:
            self._add(root, theirs, _EVENT_LOOP if awaits else _MACHINERY_ONLY, seconds)

    def _take_thread(self, root: SampledTree, frame: FrameType | None, seconds: float) -> None:
        """A thread that the task has started, unless it waits for something to do, or is one of Scaler's."""
        if frame is None or (frame.f_code.co_filename, frame.f_code.co_name) in _WAITS:
            return
        line = frame.f_lineno or 0
        stack: list[CodeType] = []
        count = 0
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back
            count = count + 1
            if count > WALK_MAX:
                self._add(root, [], _DEEPER, seconds)
                return
        is_theirs = False
        theirs: list[CodeType] = []
        for code in stack[::-1]:
            if not is_theirs:
                file = code.co_filename
                if file.startswith(_THREADING_FILES):
                    continue
                if file.startswith(_THREADS_OF_SCALER):
                    return
                is_theirs = True
            if not code.co_filename.startswith(_IMPORT_SYSTEM):
                theirs.append(code)
        if is_theirs:
            self._add(root, theirs, line, seconds)

    def _add(self, node: SampledTree, stack: list[CodeType], last: str | int, seconds: float) -> None:
        depth = 0
        for code in stack:
            depth = depth + 1
            if depth > FRAMES_MAX:
                last = _DEEPER
                break
            found = node[1].get(code)
            if found is None:
                found = self._new(node, code)
                if found is None:
                    last = _OTHER
                    break
            node = found
        found = node[1].get(last)
        if found is None:
            found = self._new(node, last) or self._new(node, _OTHER, always=True)
        found[0] = found[0] + seconds

    def _new(self, node: SampledTree, key: Any, *, always: bool = False) -> Any:
        """Return a new node, or OTHER's; None where there is no place for another one."""
        if self._count >= NODES_MAX and not always and key is not _OTHER:
            return None
        found = node[1].get(key)
        if found is None:
            self._count = self._count + 1
            found = node[1][key] = [0.0, {}]
        return found

    def _forget(self) -> None:
        self._roots = {}
        self._count = 0
        self._samples = 0

    def _report(self) -> None:
        parts = profile_parts(self._roots, self._samples, thread_time(), sys.path)
        self._forget()
        self._send(Kind.PROFILE_SAMPLES, parts)
