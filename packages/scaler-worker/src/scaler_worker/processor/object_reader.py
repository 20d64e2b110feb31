"""Objects that tasks need: read from the host's cache, into which the agent fetches them."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.payloads.values import ObjectUnavailableError
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.channel import Channel
from scaler_worker.processor.host_objects import HostObjects, PlaceGoneError
from scaler_worker.processor.inbox import Inbox
from scaler_worker.processor.records import Kind, object_wanted_parts, read_object_answer
from scaler_worker.processor.result_buffer import ResultBuffer
from scaler_worker.processor.running_task import RunningTask

OBJECT_TRIES = 3


class ObjectReader:
    """Waits for objects that are not here yet. On the main thread, which takes in tasks meanwhile."""

    def __init__(
        self, objects: HostObjects, channel: Channel, running: RunningTask, inbox: Inbox, results: ResultBuffer
    ) -> None:
        self._objects = objects
        self._channel = channel
        self._running = running
        self._inbox = inbox
        self._results = results

    def fetch(self, object_id: bytes) -> Sequence[memoryview]:
        """Return an object's buffers, mapped. Raises ObjectUnavailableError."""
        for _ in range(OBJECT_TRIES):
            place_gone = False
            try:
                buffers = self._objects.read(object_id)
                if buffers is not None:
                    return buffers
            except PlaceGoneError:
                place_gone = True
            was_in_code = self._running.leave_code()
            try:
                self._results.flush()
                self._channel.send(Kind.OBJECT_WANTED, object_wanted_parts(object_id, place_gone))
            finally:
                self._running.return_to_code(was_in_code)
            self._wait_for(object_id)
        raise ObjectUnavailableError(
            Status.STORAGE_FAILED, f"object {object_id.hex()} does not stay in this host's cache: it is too small"
        )

    def _wait_for(self, object_id: bytes) -> None:
        while True:
            # Here a cancelled task may end: nothing has been read yet.
            self._channel.wait()
            was_in_code = self._running.leave_code()
            try:
                kind, body = self._channel.receive()
                taken_in = self._inbox.take_in(kind, body)
            finally:
                self._running.return_to_code(was_in_code)
            if taken_in:
                continue
            answered, status, text = read_object_answer(body)
            if answered == object_id:
                if status != Status.SUCCESS:
                    raise ObjectUnavailableError(status, text)
                return
