"""Tasks whose threads send them themselves, before the owner of the client's state has taken their steps.

A thread of the application changes nothing but one entry in a dictionary, and sends by one operation, which nothing interrupts,
in the same expression as it looks whether it still may. The owner's thread, which takes the step sooner or later, finds here
whether the task has left.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from scaler.core.tasks import Task
from scaler.serialization.functions import Pickled
from scaler_protocol.transport.dealer import Ahead
from scaler_protocol.wire import messages as m

Submission = tuple[int, Pickled, Task]
"""One task on its way from the thread that submits it to the core: its number, its function, and what the core keeps of it."""


class SentAhead:
    """One task that has left before its step was taken, or is about to, with the message it leaves in."""

    __slots__ = ("ahead", "message", "position", "submission")

    def __init__(self, submission: Submission, message: m.TaskBatch, ahead: Ahead, position: int = 0) -> None:
        self.submission = submission
        self.message = message
        self.ahead = ahead
        self.position = position
        """How many such tasks are before it in the queue."""


class SentAheads:
    """Those whose steps were not taken, by number."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, SentAhead] = {}

    def __len__(self) -> int:
        return len(self._entries)

    # --- from any thread

    def add(self, entry: SentAhead) -> None:
        """Before it is sent."""
        self._entries[entry.submission[0]] = entry

    def remove(self, entry: SentAhead) -> None:
        """It was not sent, and will not be."""
        self._entries.pop(entry.submission[0], None)

    # --- the owner's

    def take(self, submission: Submission) -> SentAhead | None:
        """Return what there is of a submission that was taken out of the queue: no attempt begins any more."""
        return self._entries.pop(submission[0], None)

    def forget_stale(self, queue: deque[Any]) -> None:
        """Drop those that an interrupt kept their threads from removing. With the lock held, where no attempt begins."""
        waiting = {id(step) for step in queue.copy()}
        for number, entry in list(self._entries.items()):
            if id(entry.submission) not in waiting:
                self._entries.pop(number, None)
