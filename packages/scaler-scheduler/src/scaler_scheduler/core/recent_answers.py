"""The last small answers a client was sent: it may name their tasks as if they were unanswered.

While a client submits one task after another that needs the one before, answers are on their way to it all the time. Without
this, each of them that meets a submit would cost a round trip, and so would all tasks that need that one.
"""

from __future__ import annotations

from collections import deque

from scaler_protocol.wire.batch_rows import NOTHING_REPORTED
from scaler_protocol.wire.messages import ResultBatch, Status
from scaler_scheduler.core.graphs import RowResult

ANSWERS_MAX = 128
"""Batches that are kept."""
ANSWER_BYTES_MAX = 8 * 1024
"""Payload bytes of a batch that is kept."""


class RecentAnswers:
    """See the module. Of one client."""

    def __init__(self) -> None:
        self._batches: deque[ResultBatch] = deque(maxlen=ANSWERS_MAX)

    def note(self, batch: ResultBatch) -> None:
        """The client is sent this."""
        if len(batch.payloads.data) <= ANSWER_BYTES_MAX:
            self._batches.append(batch)

    def find(self, number: int) -> RowResult | None:
        """Return a task's result, if it was answered with success, recently, and without an object: that is the client's."""
        for batch in reversed(self._batches):
            if number not in batch.numbers:
                continue
            row = list(batch.numbers).index(number)
            if (len(batch.statuses) and batch.statuses[row] != Status.SUCCESS) or row in batch.object_positions:
                return None
            return RowResult(batch.payloads.split()[row], (), NOTHING_REPORTED, 0)
        return None
