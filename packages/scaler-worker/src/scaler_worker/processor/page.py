"""A page of memory an agent shares with one processor: which task it began last, readable after the processor died."""

from __future__ import annotations

import fcntl
import mmap
import os

PAGE_BYTES = 4096


class RunningPage:
    """One 64-bit word: the index of the task that was begun last plus one, 0 before the first.

    It stays when the task has ended: until the agent has the answer, the processor's death is that task's business. It is
    written for every task, so `word[0]` is set directly.
    """

    def __init__(self, descriptor: int) -> None:
        self._mapping = mmap.mmap(descriptor, PAGE_BYTES)
        self.word = memoryview(self._mapping).cast("Q")

    @staticmethod
    def create() -> int:
        """Return the descriptor of a new, zeroed page, which never shrinks: a task could kill the agent, which reads it, so.

        The caller closes it.
        """
        descriptor = os.memfd_create("scaler-processor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Not only its size: a page for which there is no memory later would kill who writes to it.
        os.posix_fallocate(descriptor, 0, PAGE_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor

    @property
    def begun_index(self) -> int | None:
        """Return the index of the task that the processor began last; None before the first."""
        value = self.word[0]
        return value - 1 if value else None

    def close(self) -> None:
        """Unmap the page."""
        self.word.release()
        self._mapping.close()
