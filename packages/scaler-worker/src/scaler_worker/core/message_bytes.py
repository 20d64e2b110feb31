"""How many bytes of messages a task takes: learnt from those that come, used to decide how many to hold."""

from __future__ import annotations

WEIGHT_KEPT = 0.9
"""How much of an estimate is left after one more task; a batch of n leaves the n-th power."""


class MessageBytes:
    """Moving averages over all tasks. What lies in storage or in shared memory is in no message, and does not count."""

    __slots__ = ("_made", "_read", "ended")

    def __init__(self) -> None:
        self._read = self._made = 0.0
        self.ended = 0
        """So many tasks have shown what they take."""

    @property
    def each(self) -> float:
        """What a task takes: its arguments, the results it reads, and its own."""
        return self._read + self._made

    def note_read(self, tasks: int, size_bytes: int) -> None:
        """So many tasks have come, with so many bytes in all."""
        each = size_bytes / tasks
        self._read = each + WEIGHT_KEPT**tasks * (self._read - each)

    def note_made(self, tasks: int, size_bytes: int) -> None:
        """So many tasks have ended, with results of so many bytes in all."""
        self.ended += tasks
        each = size_bytes / tasks
        self._made = each + WEIGHT_KEPT**tasks * (self._made - each)
