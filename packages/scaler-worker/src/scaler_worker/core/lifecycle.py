"""The life of processors: when they are started and ended, and who is held responsible for one that has died."""

from __future__ import annotations

from math import inf

from scaler_protocol.runtime.core import ERROR, INFO, WARNING
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects, events
from scaler_worker.core.deaths import Backoff, UnstartedDeaths
from scaler_worker.core.nesting import Nesting
from scaler_worker.core.processors import Processor
from scaler_worker.core.reporting import Reporter
from scaler_worker.core.returns import TaskReturns
from scaler_worker.core.slices import TaskSlice, split_out
from scaler_worker.core.state import AgentState

IDLE_SECONDS = 10.0
"""A processor beyond the number of slots, needed while others were blocked, ends when idle for so long."""

FAILED_STARTS_MAX = 10
"""The number of processors in a row that end before they are ready after which the agent gives up. With `Backoff` that takes
about two seconds."""


class ProcessorLifecycle:
    """Alone starts and ends processors, and writes the `fault` for which one is replaced."""

    def __init__(self, state: AgentState, returns: TaskReturns, nesting: Nesting, reporter: Reporter) -> None:
        self._state = state
        self._table = state.processors
        self._processors = state.processors.by_number
        self._counts = state.processors.counts
        self._returns = returns
        self._nesting = nesting
        self._reporter = reporter
        self._failed_starts = 0
        self._unstarted_deaths = UnstartedDeaths()
        self.backoff = Backoff()

    # --- starting

    def start_missing(self, now: float) -> None:
        """Start processors: one per slot that is not blocked, while there is something for it to run."""
        if self.backoff.due(now) > now:
            return
        state, counts = self._state, self._counts
        wanted = state.slots - self._table.unblocked_count()
        if counts[State.BLOCKED] > state.slots:
            ready = state.queue.count_open(state.lending.closed_depths()) + state.pinned.count
            wanted = min(wanted, ready - counts[State.STARTING] - counts[State.IDLE])
        for _ in range(wanted):
            processor = self._table.add()
            state.outbox.add(effects.StartProcessor(processor.number, processor.slot))

    def on_ready(self, event: events.ProcessorReady, now: float) -> None:
        """A processor has started and can run tasks."""
        processor = self._processors.get(event.processor)
        if processor is not None and processor.state is State.STARTING:
            self._failed_starts = 0
            self._table.set_ready(processor, event.pid, now)

    # --- ending

    def kill(self, processor: Processor) -> None:
        """End a processor at once."""
        if processor.state is not State.STOPPING:
            self._table.set_state(processor, State.STOPPING)
            self._state.outbox.add(effects.KillProcessor(processor.number))

    def on_faulty(self, event: events.ProcessorFaulty, now: float) -> None:
        """A processor has sent what it may not send: replace it."""
        processor = self._processors.get(event.processor)
        if processor is not None:
            self.replace_faulty(processor, event.fault)

    def replace_faulty(self, processor: Processor, fault: str) -> None:
        """Kill a processor that cannot be relied on any more; that counts as a death for the task that was its business."""
        if not processor.fault:
            processor.fault = fault
            self._state.log(ERROR, f"processor {processor.pid} {fault}; it is replaced")
            self.kill(processor)

    def replace_idle(self, processor: Processor) -> None:
        """Stop an idle processor, so that another one is started in its place."""
        self._table.set_state(processor, State.STOPPING)
        self._state.outbox.add(effects.StopProcessor(processor.number))

    def stop_idle(self, now: float) -> None:
        """Stop processors beyond the number of slots that have been idle for long."""
        extra = self._table.unblocked_count() - self._state.slots
        for processor in self._processors.values():
            if extra <= 0:
                return
            if processor.state is State.IDLE and now >= processor.idle_since + IDLE_SECONDS:
                self.replace_idle(processor)
                extra -= 1

    def next_deadline(self, now: float) -> float:
        """When processors are to be started or stopped next: never while one per slot is there that is not blocked."""
        deadline = inf
        unblocked, slots = self._table.unblocked_count(), self._state.slots
        if unblocked < slots:
            if self.backoff.deaths and not self._state.departure.leaving:
                start_due = self.backoff.due(now)
                if start_due > now:
                    deadline = start_due
        elif unblocked > slots:
            for processor in self._processors.values():
                if processor.state is State.IDLE:
                    deadline = min(deadline, processor.idle_since + IDLE_SECONDS)
        return deadline

    # --- ended

    def on_exited(self, event: events.ProcessorExited, now: float) -> None:
        """A processor has ended: settle its tasks, and count the death against the one that ran."""
        state = self._state
        processor = self._table.remove(event.processor)
        if processor is None:
            return
        state.transfers.forget_processor(processor.number)
        self._nesting.forget(processor)
        died = processor.state is not State.STOPPING or bool(processor.fault)
        if died and not event.retired:
            self.backoff.note_death(now)
        if processor.state is State.STARTING:
            self._failed_starts += 1
            if event.fatal or self._failed_starts >= FAILED_STARTS_MAX:
                state.departure.stop(f"no processor can be started: {event.reason}", 1)
                return
        reason = event.reason + (f"; it {processor.fault}" if processor.fault else "")
        if died:
            state.log(INFO if event.retired else WARNING, f"Worker[{processor.slot}]: {reason}")
        index = self._responsible_index(processor, event, died)
        pieces = processor.pop_from(0)
        if index is not None:
            own_end = Status.LIMIT_EXCEEDED if event.exceeded else Status.PROCESSOR_DIED
            pieces = self._answer_running(processor, pieces, index, own_end, reason, died, now)
            if pieces and pieces[0].index < index:
                pieces = self._answer_lost(processor, pieces, index, reason)
                # Answers were lost with the processor. The scheduler must hear of a chain's links from the last to the first:
                # of those behind this task, of this task, of those before it.
                self._returns.requeue(processor, [tasks for tasks in pieces if tasks.index >= index])
                self._reporter.send_results(now)
                pieces = [tasks for tasks in pieces if tasks.index < index]
        self._returns.requeue(processor, pieces)

    def _responsible_index(self, processor: Processor, event: events.ProcessorExited, died: bool) -> int | None:
        """Return the task whose business a processor's end was: the last one it began, unless that is answered.

        Where it had begun none of those it has, the next one is held responsible only after several such deaths.
        """
        begun = event.begun_index
        if begun is not None and begun >= processor.front_index:
            return begun
        if died and not event.retired and processor.pipe:
            front = processor.pipe[0]
            if self._unstarted_deaths.is_too_many(front.client, front.numbers[0]):
                return front.index
        return None

    def _answer_lost(
        self, processor: Processor, pieces: list[TaskSlice], running_index: int, reason: str
    ) -> list[TaskSlice]:
        """Answer tasks that have run, and whose answers are lost, if they may not run again; return all others."""
        others: list[TaskSlice] = []
        for tasks in pieces:
            if tasks.index >= running_index or not tasks.batch.options or tasks.asked.idempotent:
                others.append(tasks)
                continue
            # The one that ran is not here any more, so that no piece goes beyond it.
            if not tasks.abandoned:
                text = f"its answer was lost: {reason}"
                self._state.results.add_ended(
                    tasks.client, tasks.numbers, tasks.attempts, Status.PROCESSOR_DIED, text, 0, processor.slot
                )
        return others

    def _answer_running(
        self,
        processor: Processor,
        pieces: list[TaskSlice],
        running_index: int,
        own_end: Status,
        reason: str,
        died: bool,
        now: float,
    ) -> list[TaskSlice]:
        """Report the task in which a processor ended; return all others it had, in their order."""
        others: list[TaskSlice] = []
        for tasks in pieces:
            if not tasks.index <= running_index < tasks.index + len(tasks):
                others.append(tasks)
                continue
            stays, out = split_out(tasks, [tasks.start + running_index - tasks.index])
            others.extend(stays)
            for running in out:
                ending = processor.endings.get(running_index)
                # If not, the agent meant the task before it, which ended in the meantime.
                is_meant = ending is not None or died
                if not is_meant and (not running.batch.options or running.asked.idempotent):
                    others.append(running)
                    continue
                if running.abandoned:
                    continue
                if ending is not None:
                    status, text = ending.status, ending.text
                elif is_meant:
                    status, text = own_end, reason
                else:
                    status = Status.PROCESSOR_DIED
                    text = f"it had begun when its processor was ended because of the task before it: {reason}"
                elapsed = int((now - processor.front_since) * 1e6)
                self._state.results.add_ended(
                    running.client,
                    running.numbers,
                    running.attempts,
                    status,
                    text,
                    max(elapsed, 0),
                    processor.slot,
                )
        others.sort(key=lambda tasks: tasks.index)
        return others
