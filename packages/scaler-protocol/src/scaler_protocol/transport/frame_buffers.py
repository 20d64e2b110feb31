"""Memory for large frames that arrive, used again when nothing refers to the frame before.

The system clears each page of fresh memory and maps it when it is first written to, which takes as long as to receive the bytes
that go there. So some buffers are kept for the frames that follow.
"""

from __future__ import annotations

import mmap
import sys
from collections import deque

KEPT_MAX = 3
KEPT_BYTES_MAX = 6 * 1024 * 1024
"""A process keeps so many buffers, of so many bytes each, at most: batches of tasks and results have some 4 MiB."""

STEP_BYTES = 256 * 1024
"""Buffers have a whole number of these, so that frames of similar size can use the same one."""

WASTE = 2
"""A buffer is used only for frames of at least half of its size."""


class FrameBuffers:
    """The kept buffers of one process. Any thread may take one: each step takes from or adds to the queue at once."""

    def __init__(self) -> None:
        self._kept: deque[mmap.mmap] = deque()

    def take(self, size: int) -> memoryview:
        """Return a writable buffer of `size` bytes, with any content. It is used again when no reference to it is left."""
        kept = self._kept
        for _ in range(len(kept)):
            try:
                pages = kept.popleft()
            except IndexError:
                break
            if sys.getrefcount(pages) == _UNUSED and size <= len(pages) <= WASTE * size:
                view = memoryview(pages)[:size]
                kept.append(pages)
                return view
            kept.append(pages)
        pages = _pages(-(-size // STEP_BYTES) * STEP_BYTES)
        view = memoryview(pages)[:size]
        if len(pages) <= KEPT_BYTES_MAX:
            kept.append(pages)
            if len(kept) > KEPT_MAX:
                kept.popleft()
        return view


def _pages(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size)
    if sys.platform == "linux":
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _references_of_unused() -> int:
    """Return how many references the only variable that names a buffer makes, as this interpreter counts."""
    pages = _pages(1)
    return sys.getrefcount(pages)


_UNUSED = _references_of_unused()
FRAME_BUFFERS = FrameBuffers()
"""Those of this process."""
