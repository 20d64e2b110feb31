"""Payloads that lie in segments of clients on this host: tasks are read from there, and their results written there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaler_protocol.objects.segments.batch_place import ITEMS_MAX, BatchPlace, Form, Piece
from scaler_protocol.objects.segments.batch_reading import BatchSegments
from scaler_protocol.payloads.framing import PLACED
from scaler_protocol.payloads.unpickled import UNPICKLED_BYTES_MIN, BufferedPickle, ReadPayload, UnpickledBytes
from scaler_protocol.payloads.values import NotRestoredError, ObjectUnavailableError, Outcome, dump_buffers, outcome_of
from scaler_protocol.wire.status import Status
from scaler_worker.processor.running_task import RunningTask

RESULT_BYTES_MIN = UNPICKLED_BYTES_MIN
"""Smaller results travel inside messages."""


class PlacedPayloads:
    """On the main thread."""

    def __init__(self, running: RunningTask) -> None:
        self._running = running
        self._segments = BatchSegments()
        self.close = self._segments.close
        """Lets go of all segments. Call it when no task waits, as those of clients that have died take memory."""

    def read(self, payload: bytes) -> tuple[ReadPayload, BatchPlace]:
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
        if place.form == Form.PAYLOAD:
            return content[0], place
        if place.form == Form.BUFFERS:
            return BufferedPickle(content), place
        return UnpickledBytes(content, is_chunk=place.form == Form.ITEMS), place

    def read_inputs(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """Return the payloads of a task's inputs, as themselves. Raises as `read`."""
        return [self._input(one) if one[:1] == PLACED else one for one in payloads]

    def _input(self, payload: bytes) -> bytes:
        content, _ = self.read(payload)
        return content if isinstance(content, bytes) else content.as_result()

    def answer_with_bytes(self, place: BatchPlace, result: Any, *, is_chunk: bool) -> Outcome | None:
        """As `answer`, for a result that is `bytes` or a chunk's outcome of nothing else; None for others.

        These are not pickled, and may be larger than what travels inside messages.
        """
        if is_chunk:
            values, failures = result
            if failures or not 0 < len(values) <= ITEMS_MAX or any(type(value) is not bytes for value in values):
                return None
            form = Form.ITEMS
        elif type(result) is bytes:
            values, form = (result,), Form.VALUE
        else:
            return None
        size = sum(map(len, values))
        if not RESULT_BYTES_MIN <= size <= place.room or len(set(map(id, values))) < len(values):
            # A pickle has what occurs twice once.
            return None
        answer = self._write(place, form, values)
        return None if answer is None else Outcome(answer)

    def dump_result(self, place: BatchPlace, value: Any) -> Outcome:
        """Serialize a task's result as without a place, and write it there if that has room. Raises any error of pickling.

        There it may be larger than what travels inside messages.
        """
        buffers = dump_buffers(value)
        if len(buffers) <= ITEMS_MAX and RESULT_BYTES_MIN <= sum(map(len, buffers)) <= place.room:
            answer = self._write(place, Form.BUFFERS if len(buffers) > 1 else Form.PAYLOAD, buffers)
            if answer is not None:
                return Outcome(answer)
        return outcome_of(value, buffers)

    def answer(self, place: BatchPlace, result: bytes) -> bytes:
        """Return what stands for the result of the task that was read at `place`: where it lies now, or itself."""
        if len(result) < RESULT_BYTES_MIN:
            return result
        return self._write(place, Form.PAYLOAD, (result,)) or result

    def _write(self, place: BatchPlace, form: int, values: Sequence[Piece]) -> bytes | None:
        was_in_code = self._running.leave_code()
        try:
            return self._segments.answer(place, form, values)
        finally:
            self._running.return_to_code(was_in_code)
