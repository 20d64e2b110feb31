"""Tells whether dicts were changed, by whatever code, where nobody sees a difference: neither the dict nor its owner is another.

From Python 3.12 on the interpreter calls a *watcher* when a dict is about to change. Before, each dict has a *version*, which is
another one after each change. Other interpreters have neither.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from itertools import repeat
from operator import truth
from typing import Any

_VERSION_OFFSET = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)
"""In Python 3.11: behind what every object has, and the number of entries."""

_WATCHER = ctypes.CFUNCTYPE(ctypes.c_int)
"""It is called with four arguments, which may be left out: the caller removes them."""

_kept: list[Any] = []


def watch(dicts: Sequence[dict[Any, Any]], owner: object, name: str) -> bool:
    """Set this attribute of `owner` to True when one of these dicts changes. Return False where that is impossible."""
    if sys.implementation.name != "cpython" or sys.version_info < (3, 12):
        return False
    # In C from end to end: no frame that a trace shows, no place where a signal handler runs. `setattr` returns None, so that
    # what the interpreter gets is 0 each time.
    watcher = _WATCHER(map(truth, map(setattr, repeat(owner), repeat(name), repeat(True))).__next__)
    try:
        # One's own: the functions of `ctypes.pythonapi` are everybody's.
        api = ctypes.PyDLL(None)
        number = api.PyDict_AddWatcher(watcher)
        # For good: while the interpreter ends it is called too.
        api.Py_IncRef(ctypes.py_object(watcher))
        example: dict[Any, Any] = {}
        setattr(owner, name, False)
        for watched in (example, *dicts):
            api.PyDict_Watch(number, ctypes.py_object(watched))
        is_quiet = not getattr(owner, name)
        example[0] = 0
        return is_quiet and bool(getattr(owner, name))
    except (AttributeError, RuntimeError):
        return False


def versions(dicts: Sequence[dict[Any, Any]]) -> tuple[memoryview, ...]:
    """Return where the version of each dict stands: its bytes are others after each change. Empty where that is impossible."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11):
        return ()
    example: dict[Any, Any] = {0: 0}
    version = _version(example)
    seen = {bytes(version), bytes(version)}
    example[0] = 1
    seen.add(bytes(version))
    del example[0]
    seen.add(bytes(version))
    if len(seen) != 3:
        return ()
    # They are read as long as the process lives.
    _kept.extend(dicts)
    return tuple(_version(watched) for watched in dicts)


def _version(watched: dict[Any, Any]) -> memoryview:
    return memoryview(ctypes.c_uint64.from_address(id(watched) + _VERSION_OFFSET)).cast("B")
