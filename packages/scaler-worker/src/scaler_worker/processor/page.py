"""A page of memory an agent shares with one processor: which task it began last, readable after the processor died.

Behind it, in the same file, are the boxes for long records (`record_boxes`), and what tasks have written (`kept_output`).
"""

from __future__ import annotations

import fcntl
import mmap
import os

from scaler_worker.processor.record_boxes import (
    ALL_BYTES,
    HEAD_BYTES,
    RecordBoxes,
    boxes_for_agent,
    boxes_for_processor,
)

PAGE_BYTES = 4096
BOXES_AT = 64 * 1024
"""Where the system can map them, whatever its pages are."""

KEPT_AT = BOXES_AT + ALL_BYTES
"""Where the output of tasks is kept."""


class RunningPage:
    """A 64-bit word: the index of the task that was begun last plus one, 0 before the first.

    It stays when the task has ended: until the agent has the answer, the processor's death is that task's business. It is
    written for every task, so `word[0]` is set directly. Two further words are written for tasks whose memory is watched:
    `word[1]` is the index of such a task plus one, `word[2]` the bytes of memory that the process had when it began.
    """

    def __init__(self, descriptor: int) -> None:
        self._mapping = mmap.mmap(descriptor, PAGE_BYTES)
        self.word = memoryview(self._mapping).cast("Q")

    @staticmethod
    def create(kept_bytes: int = 0) -> int:
        """Return the descriptor of a new, zeroed page, which never shrinks: a task could kill the agent, which reads it, so.

        `kept_bytes` are for the output of tasks. The caller closes it.
        """
        descriptor = os.memfd_create("scaler-processor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, KEPT_AT + kept_bytes)
        # Not only their size: a page for which there is no memory later would kill who writes to it.
        os.posix_fallocate(descriptor, 0, BOXES_AT + HEAD_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor

    @staticmethod
    def boxes_for_agent(descriptor: int) -> RecordBoxes:
        """Open the boxes that are behind a page, for its agent."""
        return boxes_for_agent(descriptor, BOXES_AT)

    @staticmethod
    def boxes_for_processor(descriptor: int) -> RecordBoxes:
        """Map the boxes that are behind a page, for its processor."""
        return boxes_for_processor(descriptor, BOXES_AT)

    @property
    def begun_index(self) -> int | None:
        """Return the index of the task that the processor began last; None before the first."""
        value = self.word[0]
        return value - 1 if value else None

    def note_memory(self, index: int, base_bytes: int) -> None:
        """A task begins whose memory is watched, in a process that has so much already."""
        self.word[1] = 0
        self.word[2] = base_bytes
        self.word[1] = index + 1

    def memory_at_begin(self, index: int) -> int | None:
        """Return the bytes of memory that the process had when this task began; None before that."""
        return self.word[2] if self.word[1] == index + 1 else None

    def close(self) -> None:
        """Unmap the page."""
        self.word.release()
        self._mapping.close()
