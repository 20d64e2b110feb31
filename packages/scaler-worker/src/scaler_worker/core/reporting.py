"""What the scheduler is told, and when: results, output, capacity, heartbeats, and what is held when a session begins."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from math import inf

from scaler_protocol.runtime.resources import format_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import asked_of
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_protocol.wire.task_lists import portions_of, result_portions
from scaler_worker.core import events
from scaler_worker.core.capacity import Capacity
from scaler_worker.core.pinned import Granted, granted_of
from scaler_worker.core.processors import shown_processors
from scaler_worker.core.slices import TaskSlice
from scaler_worker.core.state import AgentState

HOLD_SECONDS = 0.020
"""The longest time for which results are held back under load, to leave in one message. See `_may_hold`."""

HOLD_ROWS_MAX = 256
"""The largest number of results that are held back."""

NO_FUNCTION = bytes(16)
"""In heartbeats: this processor runs nothing."""


class Reporter:
    """Sends what is due once per `take_effects`, and heartbeats when the session asks for one."""

    def __init__(self, state: AgentState, capacity: Capacity) -> None:
        self._state = state
        self._connection = state.connection
        self._results = state.results
        self._queue = state.queue
        self._counts = state.processors.counts
        self._parents = state.lending.parents
        self._capacity = capacity
        self._figures = events.Figures()
        self._reported_capacity = 0
        self.hold_until = -inf
        """Until when results may be held back; so long after the last ones left."""

    # --- results and capacity

    def report(self, now: float) -> None:
        """Send the results that wait, or how much is wanted, if it is time for it. Only while a session stands."""
        capacity = self._capacity.wanted(now)
        if self._results.rows:
            if now < self.hold_until and self._may_hold():
                return
            self._send_results(capacity)
            mean = self._state.durations.mean_microseconds or 0.0
            ahead_seconds = self._queue.count * mean / self._state.slots / 1e6
            self.hold_until = now + min(HOLD_SECONDS, ahead_seconds)
        elif capacity > self._reported_capacity and self._is_short_of_room():
            # No answer is wanted: this is news, not a question.
            self._connection.send_plain(self._heartbeat(now))

    def send_results(self, now: float) -> None:
        """Send the results that wait, whether it is time for it or not."""
        if self._connection.established:
            self._send_results(self._capacity.wanted(now))

    def _send_results(self, capacity: int) -> None:
        for batch in self._results.take(capacity):
            for portion in result_portions(batch):
                self._connection.send(portion)
        self._reported_capacity = capacity

    def _may_hold(self) -> bool:
        """Whether results may wait a moment for more: a message costs everybody as much as many results do.

        Asked shortly after others have left. Only while tasks are queued beyond what processors have in their pipes: then
        more results are certain to come, no processor runs out of tasks meanwhile (an agent holds ten times as much work),
        and what keeps a client busy is the stream, not the single result. So the first result after a pause and the last
        ones of a burst leave at once, and an agent with one task at a time never holds. Nor while a task here is blocked,
        or has unfinished work: that one may be waiting for just this result.
        """
        return (
            self._queue.count > 0
            and self._results.rows < HOLD_ROWS_MAX
            and not self._counts[State.BLOCKED]
            and not self._parents
            and self._queue.has_all(self._results.clients())
        )

    def _is_short_of_room(self) -> bool:
        """Whether the scheduler, for all it knows, may not send a task for each slot.

        Each task that blocks makes room for one more. That is told with the next results, unless there is none left.
        """
        return not self._counts[State.BLOCKED] or self._reported_capacity - self._capacity.held() < self._state.slots

    # --- what running tasks say

    def on_output(self, event: events.ProcessorOutput, now: float) -> None:
        """Send what a task has printed or logged, if its client wants it."""
        if (task := self._speaker(event.processor, event.index)) is not None:
            self._connection.send_plain(m.Output(*task, event.stream, event.data, event.dropped_bytes))

    def on_progress(self, event: events.ProcessorProgress, now: float) -> None:
        """Send how far a task says that it is."""
        if (task := self._speaker(event.processor, event.index)) is not None:
            self._connection.send_plain(m.TaskProgress(*task, event.done, event.total, event.note))

    def _speaker(self, processor_number: int, index: int) -> tuple[bytes, int] | None:
        """Return client and number of the task that says something now; None where nobody is there to hear it."""
        processor = self._state.processors.by_number.get(processor_number)
        found = processor.find(index) if processor is not None else None
        if found is None or not self._connection.established:
            return None
        tasks, row = found
        return None if tasks.abandoned else (tasks.client, tasks.batch.numbers[row])

    def on_output_read(self, event: events.OutputRead, now: float) -> None:
        """Tell the scheduler what a monitor wants to read. Lost, it is asked for again."""
        if self._connection.established:
            self._connection.send_plain(m.OutputReply(event.request, event.data))

    def on_chunk_failures(self, event: events.ChunkFailures, now: float) -> None:
        """Tell monitors which items of a map chunk failed."""
        processor = self._state.processors.by_number.get(event.processor)
        # Once for each task: the session keeps what is told until it is acknowledged, and whoever writes in the processor's
        # name could fill the memory with it.
        if processor is None or event.index <= processor.failures_index:
            return
        found = processor.find(event.index)
        # Monitors only show it: while no session stands there is nobody to tell, and nothing is kept for later.
        if found is None or not self._connection.established:
            return
        processor.failures_index = event.index
        tasks, row = found
        if not tasks.abandoned:
            batch = tasks.batch
            self._connection.send(
                m.ChunkFailures(tasks.client, batch.numbers[row], batch.attempts[row], event.count, event.payload)
            )

    # --- heartbeats

    def on_figures(self, event: events.Figures, now: float) -> None:
        """Keep the figures for the next heartbeat."""
        self._figures = event

    def send_heartbeat(self, now: float) -> None:
        """Send a heartbeat, if there is a session."""
        if self._connection.established:
            self._connection.heartbeat(self._heartbeat(now), now)

    def _heartbeat(self, now: float) -> m.Heartbeat:
        figures = self._figures
        processors = self._state.processors.by_number
        capacity = self._capacity.wanted(now)
        pids, cpus, rss, states = [], [], [], []
        tasks, functions, milliseconds, environments = [], [], [], []
        for processor in shown_processors(processors.values(), self._state.slots):
            front = processor.pipe[0] if processor is not None and processor.pipe else None
            if processor is None or front is None:
                tasks.append(0)
                functions.append(NO_FUNCTION)
                milliseconds.append(0)
            else:
                index = front.function_indexes[0] if len(front.function_indexes) else 0
                tasks.append(front.numbers[0])
                functions.append(front.batch.functions[index])
                milliseconds.append(max(0, min(int((now - processor.front_since) * 1000), 0xFFFFFFFF)))
            used = figures.processors.get(processor.number) if processor is not None else None
            pids.append(processor.pid if processor is not None else 0)
            environments.append(processor.environment if processor is not None else "")
            states.append(processor.state if processor is not None else State.STARTING)
            cpus.append(min(int(used.cpu_percent * 10), 0xFFFF) if used is not None else 0)
            rss.append(used.rss_bytes if used is not None else 0)
        self._reported_capacity = capacity
        return m.Heartbeat(
            capacity=capacity,
            cpu_percent=figures.cpu_percent,
            rss_bytes=figures.rss_bytes,
            rss_free_bytes=figures.rss_free_bytes,
            queued=self._queue.count + self._state.pinned.count + sum(max(0, p.rows - 1) for p in processors.values()),
            latency_seconds=self._connection.latency_seconds,
            processor_pids=pids,
            processor_cpu_percents=cpus,
            processor_rss_bytes=rss,
            processor_states=states,
            processor_tasks=tasks,
            processor_functions=tuple(functions),
            processor_milliseconds=milliseconds,
            processor_environments="\n".join(environments).encode("utf-8", "replace") if any(environments) else b"",
        )

    def report_freed(self) -> None:
        """Tell the scheduler which clients that are gone use nothing here any more. Only while a session stands.

        What they have since they came back is their own again.
        """
        state = self._state
        held = {tasks.client for tasks, _ in self._counted_slices() if tasks.abandoned}
        for client in sorted(state.freeing - held):
            state.freeing.discard(client)
            self._connection.send(m.GrantsFreed(client))

    def _counted_slices(self) -> Iterator[tuple[TaskSlice, Granted]]:
        """Iterate over the tasks here that have counted resources."""
        pipes = (tasks for processor in self._state.processors.by_number.values() for tasks in processor.pipe)
        for tasks in (*self._state.pinned, *pipes):
            granted = granted_of(tasks.batch)
            if granted is not None:
                yield tasks, granted

    # --- a new session

    def announce(self, unacknowledged: Iterable[m.Message]) -> None:
        """Tell a scheduler that knows nothing of this agent what it holds, and what the last one has not acknowledged."""
        if self._state.options.resources:
            self._connection.send(self._grants())
        # What else was under way means nothing to a scheduler that starts anew.
        untold = [message for message in unacknowledged if isinstance(message, m.ResultBatch | m.ClientGone)]
        for inventory in self._inventories([message for message in untold if isinstance(message, m.ResultBatch)]):
            for portion in portions_of(inventory):
                self._connection.send(portion)
        for message in untold:
            self._connection.send(message)
        self._reported_capacity = -1
        # Results that wait follow at once.
        self.hold_until = -inf

    def _grants(self) -> m.GrantsHeld:
        rows = [
            (tasks, granted, number, attempt)
            for tasks, granted in self._counted_slices()
            for number, attempt in zip(tasks.numbers, tasks.attempts, strict=True)
        ]
        return m.GrantsHeld(
            clients=tuple(tasks.client for tasks, *_ in rows),
            numbers=array("Q", [number for *_, number, _ in rows]),
            attempts=array("H", [attempt for *_, attempt in rows]),
            depths=array("H", [tasks.depth for tasks, *_ in rows]),
            # All it asks for: another scheduler may have other limits.
            amounts=tuple(format_amounts(asked_of(tasks.batch.options).resources) for tasks, *_ in rows),
            devices=tuple(",".join(granted.devices) for _, granted, *_ in rows),
            left=array("B", [tasks.abandoned for tasks, *_ in rows]),
        )

    def _inventories(self, untold: Sequence[m.ResultBatch]) -> list[m.Inventory]:
        """Return what this agent holds, by client. So it has claimed tasks that have ended when their results follow."""
        held: dict[bytes, tuple[array[int], array[int], array[int]]] = {}

        def note(client: bytes, numbers: Iterable[int], attempts: Iterable[int], state: m.HeldState) -> None:
            columns = held.setdefault(client, (array("Q"), array("H"), array("B")))
            columns[0].extend(numbers)
            columns[1].extend(attempts)
            columns[2].extend([state] * (len(columns[0]) - len(columns[2])))

        for tasks in (*self._queue, *self._state.pinned):
            note(tasks.client, tasks.numbers, tasks.attempts, m.HeldState.QUEUED)
        for processor in self._state.processors.by_number.values():
            for position, tasks in enumerate(processor.pipe):
                if tasks.abandoned:
                    continue
                running = 1 if position == 0 else 0
                note(tasks.client, tasks.numbers[:running], tasks.attempts[:running], m.HeldState.RUNNING)
                note(tasks.client, tasks.numbers[running:], tasks.attempts[running:], m.HeldState.QUEUED)
        for result in self._state.transfers.storing():
            note(result.client, [result.number], [result.attempt], m.HeldState.RUNNING)
        for batch in untold:
            note(batch.client, batch.numbers, batch.attempts, m.HeldState.RUNNING)
        for client, numbers, attempts in self._results.tasks():
            note(client, numbers, attempts, m.HeldState.RUNNING)
        return [m.Inventory(client, *columns) for client, columns in held.items()]
