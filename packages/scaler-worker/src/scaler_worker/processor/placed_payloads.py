"""Payloads that lie in segments of clients on this host: tasks are read from there, and their results written there."""

from __future__ import annotations

from collections.abc import Sequence
from pickle import dumps
from typing import Any

from scaler_protocol.objects.segments.batch_place import BatchPlace
from scaler_protocol.objects.segments.batch_reading import BatchSegments
from scaler_protocol.payloads.by_value import PROTOCOL
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX, PICKLED, PLACED
from scaler_protocol.payloads.values import NotRestoredError, ObjectUnavailableError, Outcome
from scaler_protocol.wire.status import Status
from scaler_worker.processor.running_task import RunningTask

RESULT_BYTES_MIN = 24 * 1024
"""Smaller results travel inside messages."""


class PlacedPayloads:
    """On the main thread."""

    def __init__(self, running: RunningTask) -> None:
        self._running = running
        self._segments = BatchSegments()
        self.close = self._segments.close
        """Lets go of all segments. Call it when no task waits, as those of clients that have died take memory."""

    def read(self, payload: bytes) -> tuple[bytes, BatchPlace]:
        """Return the payload that lies at a place, and the place. Raises NotRestoredError if it cannot be read."""
        place = BatchPlace.parse(payload)
        was_in_code = self._running.leave_code()
        try:
            content = self._segments.read(place) if place is not None else None
        finally:
            self._running.return_to_code(was_in_code)
        if place is None or content is None:
            text = "the arguments lie where this processor cannot read them"
            raise NotRestoredError("the arguments", ObjectUnavailableError(Status.UNREADABLE, text))
        return content, place

    def read_inputs(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """Return the payloads of a task's inputs, as themselves. Raises as `read`."""
        return [self.read(one)[0] if one[:1] == PLACED else one for one in payloads]

    def answer_with_bytes(self, place: BatchPlace, result: Any) -> Outcome | None:
        """As `answer`, for `bytes`, or the outcome of a chunk of one item, that would be an object elsewhere; None for others."""
        value = result
        if type(result) is tuple and len(result) == 2:
            values, failures = result
            if type(values) is not list or len(values) != 1 or type(failures) is not dict or failures:
                return None
            value = values[0]
        if type(value) is not bytes or not INLINE_BYTES_MAX < len(value) < place.room:
            return None
        payload = PICKLED + dumps(result, PROTOCOL)
        answer = self.answer(place, payload)
        return None if answer is payload else Outcome(answer)

    def answer(self, place: BatchPlace, result: bytes) -> bytes:
        """Return what stands for the result of the task that was read at `place`: where it lies now, or itself."""
        if len(result) < RESULT_BYTES_MIN:
            return result
        was_in_code = self._running.leave_code()
        try:
            return self._segments.answer(place, result) or result
        finally:
            self._running.return_to_code(was_in_code)
