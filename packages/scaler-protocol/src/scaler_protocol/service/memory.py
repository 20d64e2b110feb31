"""Memory of this process: how much it uses, and returning free memory to the system."""

from __future__ import annotations

import ctypes
import gc
import resource

# By name: tasks can replace what modules have.
from os import O_CLOEXEC, O_RDONLY, close, read
from os import open as open_descriptor

_PAGE_BYTES = resource.getpagesize()


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    # Half the time that a file object takes: processors ask for each profiled task.
    descriptor = open_descriptor("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    try:
        return int(read(descriptor, 256).split()[1]) * _PAGE_BYTES
    finally:
        close(descriptor)


def look_at_new_objects() -> None:
    """Collect what of the objects made since the last call is garbage in cycles; the others are never looked at again.

    For services that keep many objects for long: the automatic collector looks at all that have come, together, and nothing
    else happens for hundreds of milliseconds. This takes a fraction of one, if it is called often. What it has seen alive
    must end without cycles.
    """
    gc.collect(0)
    gc.freeze()


UNUSED_BYTES = 32 * 1024 * 1024
"""Free memory that a process may keep for what comes next."""

UNUSED_LOOKS = 6
"""So many looks in a row must find more than that."""


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "blocks", "fast", "maps", "mapped", "most", "fast_bytes", "used", "free", "top")
    ]


class UnusedMemory:
    """Notices that the C library keeps free memory that a busy process does not come to use, and returns it.

    Values of some 100 KB that lived side by side leave holes between others, which the C library never returns by itself.
    """

    def __init__(self) -> None:
        self._ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
        """Only glibc from 2.33 on has it. It takes microseconds."""
        if self._ask is not None:
            self._ask.restype = _Mallinfo
        self._looks = 0
        """So many in a row have found too much."""
        self._left_bytes = 0
        """How much this process used after the last time: what was returned is still counted as free."""

    def look(self) -> bool:
        """Call it some times a second. Returns whether memory was returned: a millisecond for each 15 MiB."""
        if self._ask is None or self._ask().free < UNUSED_BYTES:
            self._looks = 0
            return False
        resident = rss_bytes()
        self._left_bytes = min(self._left_bytes, resident)
        if resident < self._left_bytes + UNUSED_BYTES // 2:
            self._looks = 0
            return False
        self._looks += 1
        if self._looks < UNUSED_LOOKS:
            return False
        self._looks = 0
        trim()
        self._left_bytes = rss_bytes()
        return True


def give_back_free_memory() -> None:
    """Collect garbage and return free pages to the system. Call it in quiet moments, because it takes milliseconds."""
    gc.collect()
    trim()


def trim() -> None:
    """Return free pages to the system, without collecting garbage before."""
    # As `runtime.freed_memory.give_back_freed_memory`, which imports late and so may fail where a task has replaced `__import__`.
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    # C libraries other than glibc have no such function and need none.
    if malloc_trim is not None:
        malloc_trim(0)
