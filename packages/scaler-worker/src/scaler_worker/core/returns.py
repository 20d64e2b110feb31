"""Tasks that go back where they came from without having run: from a processor to the queue, from the queue to the scheduler."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_protocol.wire.task_lists import portions_of
from scaler_worker.core import effects, events
from scaler_worker.core.pinned import line_of
from scaler_worker.core.processors import Processor
from scaler_worker.core.slices import TaskSlice, split_out
from scaler_worker.core.state import AgentState


class TaskReturns:
    """Alone writes a processor's `taking_back`, `generation` and `given_back_index`."""

    def __init__(self, state: AgentState) -> None:
        self._state = state

    # --- from the agent to the scheduler

    def give_back(self, slices: Iterable[TaskSlice]) -> None:
        """Return tasks to the scheduler: before the results that are collected, which may tell why they come back."""
        columns: dict[bytes, tuple[array[int], array[int]]] = {}
        for tasks in slices:
            numbers, attempts = columns.setdefault(tasks.client, (array("Q"), array("H")))
            numbers.extend(tasks.numbers)
            attempts.extend(tasks.attempts)
        connection = self._state.connection
        if connection.established:
            for client, (numbers, attempts) in columns.items():
                for portion in portions_of(m.TaskReturn(client, numbers, attempts)):
                    connection.send(portion)

    def give_back_queued(self, count: int) -> bool:
        """Return up to `count` queued tasks to the scheduler; return whether there were any."""
        recalled = self._state.queue.recall(count)
        self.give_back(recalled)
        return bool(recalled)

    # --- from a processor to the agent

    def take_back_behind(self, processor: Processor) -> None:
        """Have a processor give back what lies behind its running task."""
        if not processor.taking_back:
            processor.taking_back = True
            self._state.outbox.add(effects.TakeBack(processor.number))

    def on_gave_back(self, event: events.ProcessorGaveBack, now: float) -> None:
        """A processor has given back the tasks that it had not begun."""
        processors = self._state.processors
        processor = processors.by_number.get(event.processor)
        if processor is None:
            return
        processor.taking_back = False
        self.take_back(processor, event.generation, event.next_index)
        # The task that was first may have seemed to wait for others, and have lent its slot, before it had begun.
        if not processor.rows and processor.state in (State.RUNNING, State.BLOCKED):
            processors.set_idle(processor, now)

    def take_back(self, processor: Processor, generation: int, next_index: int) -> None:
        """Queue again what a processor has dropped: all from `next_index` on. It takes only this `generation` from now on."""
        processor.generation, processor.given_back_index = generation, next_index
        self.requeue(processor, processor.pop_from(next_index))

    def requeue(self, processor: Processor, pieces: list[TaskSlice]) -> None:
        """Queue tasks again that were handed over and did not run, in front, without counting an attempt.

        The rest of a chain that has begun goes to the scheduler instead: only this processor has what came before it.
        """
        state = self._state
        returned: list[TaskSlice] = []
        for tasks in reversed(pieces):
            if tasks.abandoned:
                continue
            ending_rows = [
                tasks.start + index - tasks.index
                for index in range(tasks.index, tasks.index + len(tasks))
                if processor.endings and index in processor.endings
            ]
            stays, out = split_out(tasks, ending_rows) if ending_rows else ([tasks], [])
            for ended in out:
                ending = processor.endings[ended.index]
                state.results.add_ended(ended.client, ended.numbers, ended.attempts, ending.status, ending.text)
            for piece in reversed(stays):
                continued = len(piece) if state.departure.leaving else piece.continued()
                if continued:
                    returned.append(piece.take(continued))
                slot = line_of(piece.batch)
                if slot is None:
                    state.queue.put_back(piece)
                else:
                    state.pinned.put_back(slot, piece)
        self.give_back(returned)
