"""What became of tasks that a processor answers, on its way to the results that are told."""

from __future__ import annotations

from scaler_protocol.wire.messages import ProcessorState as State
from scaler_protocol.wire.messages import Status
from scaler_worker.core import events
from scaler_worker.core.lifecycle import ProcessorLifecycle
from scaler_worker.core.slices import TaskSlice
from scaler_worker.core.state import AgentState
from scaler_worker.core.transfers import StoredResult, StoreEnded


class TaskCompletion:
    """Takes results from processors, and from the store those that are objects: they are told once they are stored."""

    def __init__(self, state: AgentState, lifecycle: ProcessorLifecycle) -> None:
        self._processors = state.processors
        self._find = state.processors.by_number.get
        self._results = state.results
        self._durations = state.durations
        self._message_bytes = state.message_bytes
        self._transfers = state.transfers
        self._lifecycle = lifecycle
        self._backoff = lifecycle.backoff

    def on_results(self, event: events.ProcessorResults, now: float) -> None:
        """Take a processor's answers to the tasks at the front of its pipe."""
        processor = self._find(event.processor)
        if processor is None:
            return
        if event.first_index != processor.front_index or event.count > processor.rows:
            self._lifecycle.replace_faulty(processor, "answers tasks it was not given")
            return
        if self._backoff.deaths:
            self._backoff.note_success()
        if event.count:
            self._message_bytes.note_made(event.count, len(event.payloads))
        row = byte = 0
        while row < event.count:
            tasks = processor.pop(event.count - row, now)
            end = row + tasks.stop - tasks.start
            byte = self._collect(event, tasks, row, end, byte, processor.slot)
            row = end
        if processor.endings:
            processor.drop_endings()
        if not processor.rows and processor.state in (State.RUNNING, State.BLOCKED):
            self._processors.set_idle(processor, now)

    def _collect(
        self, event: events.ProcessorResults, tasks: TaskSlice, row: int, end: int, byte: int, slot: int
    ) -> int:
        """Take the outcomes of rows `row` to `end` of an event, which are those of `tasks`; return the next byte."""
        lengths, reported = event.payload_lengths, event.reported
        payloads: bytes | memoryview = event.payloads
        if end - row < event.count:
            lengths, reported = lengths[row:end], reported.cut(row, end)
            payloads = memoryview(payloads)[byte : byte + sum(lengths)]
        if tasks.abandoned:
            # Nothing is learnt either: with its client, its function may be forgotten already.
            return byte + len(payloads)
        if not reported.statuses or Status.SKIPPED not in reported.statuses:
            self._durations.observe(tasks, reported.durations)
        if event.object_positions:
            self._collect_with_objects(event, tasks, row, end, byte, slot)
        else:
            batch, rows = tasks.batch, slice(tasks.start, tasks.stop)
            self._results.add(
                batch.client, batch.numbers[rows], batch.attempts[rows], lengths, payloads, reported, slot
            )
        return byte + len(payloads)

    def _collect_with_objects(
        self, event: events.ProcessorResults, tasks: TaskSlice, row: int, end: int, byte: int, slot: int
    ) -> None:
        """Like `_collect`, one by one: results that are objects are told once they are stored."""
        objects = {
            position: (event.objects[at], event.object_sizes[at]) for at, position in enumerate(event.object_positions)
        }
        for at in range(row, end):
            payload = bytes(event.payloads[byte : byte + event.payload_lengths[at]])
            byte += len(payload)
            number = tasks.batch.numbers[tasks.start + at - row]
            attempt = tasks.batch.attempts[tasks.start + at - row]
            reported = event.reported.cut(at, at + 1)
            if at in objects:
                stored = StoredResult(tasks.client, number, attempt, payload, reported, slot)
                ended = self._transfers.store(*objects[at], stored)
                if ended is not None:
                    self._on_store_ended(ended)
                continue
            self._results.add(tasks.client, [number], [attempt], [len(payload)], payload, reported, slot)

    def on_object_stored(self, event: events.ObjectStored, now: float) -> None:
        """Report a result that waited for its object to be stored, or the failure to store it."""
        ended = self._transfers.on_stored(event)
        if ended is not None:
            self._on_store_ended(ended)

    def _on_store_ended(self, ended: StoreEnded) -> None:
        result = ended.result
        if ended.status == Status.SUCCESS:
            self._results.add_object(
                result.client,
                result.number,
                result.attempt,
                result.payload,
                ended.id,
                result.reported,
                result.slot,
            )
        else:
            self._results.add_ended(
                result.client,
                [result.number],
                [result.attempt],
                ended.status,
                ended.text,
                result.reported.durations[0],
                result.slot,
            )
