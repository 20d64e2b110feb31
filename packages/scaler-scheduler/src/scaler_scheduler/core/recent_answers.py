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
ANSWER_ROWS_MAX = 512
"""Payload bytes and answers of a batch that is kept."""


class RecentAnswers:
    """See the module. Of one client."""

    def __init__(self) -> None:
        self._batches: deque[ResultBatch] = deque()
        self._rows: dict[int, tuple[ResultBatch, int]] = {}
        """By task number: the batch that answers it, and the row there."""

    def note(self, batch: ResultBatch) -> None:
        """The client is sent this."""
        if len(batch.payloads.data) > ANSWER_BYTES_MAX or len(batch.numbers) > ANSWER_ROWS_MAX:
            return
        if len(self._batches) == ANSWERS_MAX:
            for number in self._batches.popleft().numbers:
                self._rows.pop(number, None)
        self._batches.append(batch)
        for row, number in enumerate(batch.numbers):
            self._rows[number] = (batch, row)

    def find(self, number: int) -> RowResult | None:
        """Return a task's result, if it was answered with success, recently, and without an object: that is the client's."""
        found = self._rows.get(number)
        if found is None:
            return None
        batch, row = found
        if (len(batch.statuses) and batch.statuses[row] != Status.SUCCESS) or row in batch.object_positions:
            return None
        start = sum(batch.payloads.lengths[:row])
        payload = bytes(batch.payloads.data[start : start + batch.payloads.lengths[row]])
        return RowResult(payload, (), NOTHING_REPORTED, 0)
