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


def give_back_free_memory() -> None:
    """Collect garbage and return free pages to the system. Call it in quiet moments, because it takes milliseconds."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    # C libraries other than glibc have no such function and need none.
    if malloc_trim is not None:
        malloc_trim(0)
