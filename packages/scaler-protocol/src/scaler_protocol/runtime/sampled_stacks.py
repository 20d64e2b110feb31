"""Stacks of tasks, counted as trees of calls: what a profile is made of, before anything is sent.

Tasks may spoil the built-in functions and every module. So looking at stacks uses neither, but for what is bound here.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

from scaler_protocol.monitoring.profile_tree import OTHER, TEXT_CHARACTERS_MAX, CallTable
from scaler_protocol.runtime import coroutines

NODES_MAX = 1_500
"""Most calls in one tree, under their callers."""

FRAMES_MAX = 100
"""Most frames of a stack that are kept: those that are called first."""

WALK_MAX = 2_000
"""Longest stack that is followed to its beginning."""

_OTHER = OTHER[0]
SHORT_TASKS = "(short tasks)"
"""A root: the time in which tasks came and went, and none was seen."""
_DEEPER = "(deeper calls)"
MACHINERY_ONLY = "(arguments and results)"
_EVENT_LOOP = "(event loop)"

_LIBRARY = os.path.dirname(os.__file__) + "/"
# Not `__file__`: where a module was made from its source alone, there is none.
_AWAITING_FILE = coroutines.is_coroutine.__code__.co_filename
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

SampledTree = list[Any]
"""A node: [seconds in itself, {code, line or text: node}]."""


class SampledStacks:
    """What was sampled since it was last forgotten. Whoever calls sees to it that one thread does at a time."""

    def __init__(self, boundary: CodeType, machinery: tuple[str, ...], threads_of_scaler: tuple[str, ...]) -> None:
        """`boundary` is the code of the function that runs tasks: what is above it is not theirs.

        `machinery` is how the names of Scaler's files begin, whose calls lie between that and the task's own; `threads_of_scaler`
        how those begin in which threads start that are not the task's.
        """
        self._boundary = boundary
        self._machinery = machinery
        self._threads_of_scaler = threads_of_scaler
        self.roots: dict[bytes | str, SampledTree] = {}
        """By the id of the task's function, or SHORT_TASKS."""
        self.samples = 0
        self._count = 0

    def root_of(self, function: bytes | str) -> SampledTree:
        """Return the tree of a function of tasks."""
        root = self.roots.get(function)
        if root is None:
            self._count = self._count + 1
            root = self.roots[function] = [0.0, {}]
        return root

    def take_short(self, seconds: float) -> None:
        """Tasks came and went."""
        self.samples = self.samples + 1
        root = self.root_of(SHORT_TASKS)
        root[0] = root[0] + seconds

    def take_main(self, root: SampledTree, frame: FrameType | None, seconds: float) -> bool:
        """The thread that runs tasks is at `frame`. Return whether that is inside the function that runs one."""
        line = (frame.f_lineno or 0) if frame is not None else 0
        calls, is_inside = _calls(frame, self._boundary)
        if calls is None:
            self.add(root, [], _DEEPER, seconds)
            return True
        if not is_inside:
            return False
        awaits = is_theirs = False
        theirs: list[CodeType] = []
        for code in calls:
            if not is_theirs:
                file = code.co_filename
                if file.startswith(self._machinery):
                    awaits = awaits or file == _AWAITING_FILE
                    continue
                if awaits and file.startswith(_EVENT_LOOP_FILES):
                    continue
                is_theirs = True
            if not code.co_filename.startswith(_IMPORT_SYSTEM):
                theirs.append(code)
        if is_theirs:
            self.add(root, theirs, line, seconds)
        else:
            self.add(root, theirs, _EVENT_LOOP if awaits else MACHINERY_ONLY, seconds)
        return True

    def take_thread(self, root: SampledTree, frame: FrameType | None, seconds: float) -> bool:
        """Another thread is at `frame`. Return whether it is the task's: unless it waits for something to do, or is Scaler's."""
        if frame is None or (frame.f_code.co_filename, frame.f_code.co_name) in _WAITS:
            return False
        line = frame.f_lineno or 0
        calls, _ = _calls(frame, None)
        if calls is None:
            self.add(root, [], _DEEPER, seconds)
            return True
        is_theirs = False
        theirs: list[CodeType] = []
        for code in calls:
            if not is_theirs:
                file = code.co_filename
                if file.startswith(_THREADING_FILES):
                    continue
                if file.startswith(self._threads_of_scaler):
                    return False
                is_theirs = True
            if not code.co_filename.startswith(_IMPORT_SYSTEM):
                theirs.append(code)
        if is_theirs:
            self.add(root, theirs, line, seconds)
        return is_theirs

    def add(self, node: SampledTree, stack: list[CodeType], last: str | int, seconds: float) -> None:
        """Count time at the end of a stack: `last` is a line of the innermost call, or a word of ours."""
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

    def forget(self) -> None:
        """Begin again."""
        self.roots = {}
        self._count = 0
        self.samples = 0


def _calls(frame: FrameType | None, boundary: CodeType | None) -> tuple[list[CodeType] | None, bool]:
    """Return the calls inside `boundary`, the outermost first, and whether it is there; None for a stack of too many."""
    stack: list[CodeType] = []
    count = 0
    while frame is not None:
        if frame.f_code is boundary:
            return stack[::-1], True
        stack.append(frame.f_code)
        frame = frame.f_back
        count = count + 1
        if count > WALK_MAX:
            return None, False
    return stack[::-1], False


def call_table(roots: Mapping[bytes | str, SampledTree], search_path: Sequence[object]) -> CallTable:
    """Return sampled trees as rows. Roots that are ids of functions are written as hex digits.

    Paths of files are told from the entry of `search_path` on that they are in, so that those of several hosts are the same.
    """
    entries = sorted((f"{entry}/" for entry in search_path if isinstance(entry, str) and entry), key=len, reverse=True)
    texts: dict[str, int] = {}
    files: dict[str, str] = {}
    parents, names, paths, lines, times = (array(code) for code in "IIIIQ")
    waiting = [
        (0, (function if isinstance(function, str) else function.hex(), "", 0), node)
        for function, node in roots.items()
    ]
    while waiting:
        parent, (name, file, line), (seconds, children) = waiting.pop()
        if file not in files:
            files[file] = next((file[len(entry) :] for entry in entries if file.startswith(entry)), file)
        parents.append(parent)
        names.append(texts.setdefault(name[:TEXT_CHARACTERS_MAX], len(texts)))
        paths.append(texts.setdefault(files[file][-TEXT_CHARACTERS_MAX:], len(texts)))
        lines.append(line)
        times.append(int(seconds * 1e6))
        place = len(parents)
        waiting.extend((place, _described(key, file), child) for key, child in children.items())
    return CallTable(parents, names, paths, lines, times, tuple(texts))


def _described(key: CodeType | int | str, file: str = "") -> tuple[str, str, int]:
    if isinstance(key, CodeType):
        return key.co_qualname, key.co_filename, key.co_firstlineno
    # A line of the caller, or a word of ours.
    return ("", file, max(key, 0)) if isinstance(key, int) else (key, "", 0)
