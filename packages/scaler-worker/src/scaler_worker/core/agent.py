"""The agent of one worker host: holds tasks, hands them to processors, and reports what became of each.

It decides and remembers; it has no sockets, processes, clock or randomness (see ARCHITECTURE, "Cores and shells"). Handlers
change state; what follows from it for everyone (who starts, who gets which tasks, what is reported) is settled once per
`take_effects`.

    queue ──dispatch──▶ pipe of a processor ──completion──▶ results ──reporting──▶ session (kept until acknowledged)
      ▲                        │                               ▲
      └─────── returns ────────┘          large results ── transfers

Each module beside this one decides one thing: `dispatch` who gets which tasks, `completion` what became of them, `returns` how
they go back, `endings` how they are cancelled, `lifecycle` when processors start and end, `nesting` and `lending` what happens
while tasks wait for their own, `reporting` what the scheduler is told, `leaving` how the agent ends. They share the facts in
`state`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from scaler_protocol.errors import SessionError
from scaler_protocol.runtime.core import INFO, WARNING
from scaler_protocol.session import (
    AddressChanged,
    ConnectionEvent,
    Established,
    HeartbeatDue,
    Lost,
    Received,
    RefusedByPeer,
    SilenceWatch,
)
from scaler_protocol.session.profile_reports import ProfileReports
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import asked_of
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects, events
from scaler_worker.core.capacity import Capacity
from scaler_worker.core.completion import TaskCompletion
from scaler_worker.core.dispatch import Dispatcher
from scaler_worker.core.endings import TaskEndings
from scaler_worker.core.invariants import check_invariants
from scaler_worker.core.leaving import Leaving
from scaler_worker.core.lifecycle import ProcessorLifecycle
from scaler_worker.core.memory_limits import MemoryLimits
from scaler_worker.core.nesting import Nesting
from scaler_worker.core.options import AgentOptions
from scaler_worker.core.pinned import granted_of, line_of
from scaler_worker.core.reporting import Reporter
from scaler_worker.core.returns import TaskReturns
from scaler_worker.core.slices import TaskSlice
from scaler_worker.core.snapshot import AgentSnapshot, take_snapshot
from scaler_worker.core.state import AgentState

SHUTDOWN_GRACE_SECONDS = 1.0
"""How long running tasks may go on when the whole cluster ends."""


class AgentCore:
    """Takes events and passes each to the part that decides about it; settles what follows in one order.

    Feed it with `handle`, perform what `take_effects` returns, and handle a `Tick` at `next_deadline`. The first event is
    `Start`.
    """

    def __init__(self, options: AgentOptions) -> None:
        self._state = state = AgentState(options)
        self._slots = state.slots
        self._outbox = state.outbox
        self._connection = state.connection
        self._silence = SilenceWatch(
            state.connection, options.scheduler_address, options.heartbeat_seconds, options.death_timeout_seconds
        )
        self._departure = state.departure
        self._queue = state.queue
        self._pinned = state.pinned
        self._results = state.results
        self._functions = state.functions
        self._transfers = state.transfers
        self._lending = state.lending
        self._processors = state.processors
        self._now = 0.0
        """The time of the last event."""
        self._capacity = Capacity(state)
        self._returns = TaskReturns(state)
        self._nesting = Nesting(state, self._capacity, self._returns)
        self._reporter = Reporter(state, self._capacity)
        self._lifecycle = ProcessorLifecycle(state, self._returns, self._nesting, self._reporter)
        self._endings = TaskEndings(state, self._returns, self._lifecycle)
        self._completion = TaskCompletion(state, self._lifecycle)
        self._memory_limits = MemoryLimits(state, self._endings)
        self._dispatcher = Dispatcher(state, self._returns, self._nesting, self._lifecycle, self._memory_limits)
        self._leaving = Leaving(state, self._returns, self._nesting)
        self._profiles = ProfileReports(
            state.connection, lambda seconds, rate: state.outbox.add(effects.SampleProcessors(seconds, rate))
        )
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            events.Start: self._on_start,
            events.Tick: self._on_tick,
            events.Incoming: self._on_incoming,
            events.ProcessorReady: self._lifecycle.on_ready,
            events.ProcessorResults: self._completion.on_results,
            events.ProcessorBlocked: self._on_blocked,
            events.ProcessorUnblocked: self._nesting.on_unblocked,
            events.ProcessorTeardown: self._on_teardown,
            events.ProcessorEnvironment: self._on_environment,
            events.ProcessorUnfinished: self._nesting.on_unfinished,
            events.ProcessorGaveBack: self._on_gave_back,
            events.ProcessorFaulty: self._lifecycle.on_faulty,
            events.ProcessorExited: self._lifecycle.on_exited,
            events.ProcessorOutput: self._reporter.on_output,
            events.ChunkFailures: self._reporter.on_chunk_failures,
            events.RelayOpened: self._on_relay_opened,
            events.RelayFrames: self._nesting.on_relay_frames,
            events.RelayClosed: self._nesting.on_relay_closed,
            events.ObjectWanted: self._on_object_wanted,
            events.ObjectFetched: self._on_object_fetched,
            events.ObjectStored: self._completion.on_object_stored,
            events.Figures: self._reporter.on_figures,
            events.MemoryMeasured: self._memory_limits.on_measured,
            events.LinkRefused: self._on_link_refused,
            events.StopRequested: self._leaving.on_stop_requested,
            events.ProcessorProgress: self._reporter.on_progress,
            events.OutputRead: self._reporter.on_output_read,
            events.ProcessorSamples: self._on_samples,
        }
        self._message_handlers: dict[type[Any], Callable[[Any, float], None]] = {
            m.TaskBatch: self._accept_tasks,
            m.FunctionDefine: self._define_functions,
            m.TaskCancel: self._endings.cancel,
            m.TaskRecall: self._recall_tasks,
            m.ClientGone: self._drop_client,
            m.Relay: self._nesting.deliver_relay,
            m.ProfileRequest: self._profiles.on_request,
            m.Drain: lambda message, now: self._leaving.leave("drained", inf),
            m.Shutdown: lambda message, now: self._leaving.leave(
                message.text or "shut down by the scheduler", now + SHUTDOWN_GRACE_SECONDS
            ),
            m.Goodbye: lambda message, now: state.log(INFO, f"the scheduler has ended: {message.text}"),
            m.OutputRequest: lambda message, now: state.outbox.add(
                effects.ReadOutput(message.request, message.number, message.client)
            ),
            m.Notice: lambda message, now: state.log(WARNING if message.level else INFO, message.text),
        }

    # --- interface

    def handle(self, event: events.Event, now: float) -> None:
        """Take one event in. After `Stop` everything is ignored."""
        if not self._departure.stopped:
            self._now = now
            self._handlers[type(event)](event, now)

    def take_effects(self) -> list[effects.Effect]:
        """Settle what follows from the events since, and return all that is to be done, in order."""
        departure = self._departure
        if not departure.stopped:
            now = self._now
            # Before anything is reported: processors wait for their tasks.
            if self._queue.count or self._pinned.count or now >= self._nesting.return_at:
                self._dispatcher.hand_over(now)
            if self._connection.established:
                if self._nesting.unreported_disconnects:
                    self._nesting.report_disconnects()
                self._reporter.report(now)
                if self._state.freeing:
                    self._reporter.report_freed()
            if departure.leaving:
                self._leaving.stop_when_done(now)
            elif self._slots > self._processors.unblocked_count():
                self._lifecycle.start_missing(now)
            if self._connection.outgoing:
                departure.send_outgoing()
        return self._outbox.take()

    def next_deadline(self) -> float:
        """When a `Tick` has something to do next; `inf` for never."""
        departure, now = self._departure, self._now
        if departure.stopped:
            return inf
        deadline = min(
            self._connection.next_deadline(),
            self._nesting.return_at,
            departure.deadline,
            self._endings.next_deadline(),
            self._profiles.due_at,
        )
        if self._slots != self._processors.unblocked_count():
            deadline = min(deadline, self._lifecycle.next_deadline(now))
        if self._results.rows and self._connection.established:
            deadline = min(deadline, self._reporter.hold_until)
        if self._memory_limits.watched:
            deadline = min(deadline, self._memory_limits.next_deadline())
        if self._lending.parents:
            due_at = self._lending.due_at()
            # What is due has been done; what kept it from having an effect ends with another event.
            if due_at > now:
                deadline = min(deadline, due_at)
        return deadline

    def check_invariants(self) -> None:
        """Raise InvariantError unless all facts agree with each other. After `take_effects`; for tests and simulation."""
        check_invariants(self._state, self._nesting, self._now)

    def snapshot(self) -> AgentSnapshot:
        """Return what the agent holds and knows now, to look at: it does not change later. For tests."""
        return take_snapshot(self._state, self._capacity, self._now)

    # --- session

    def _on_start(self, event: events.Start, now: float) -> None:
        self._connection.start(now)

    def _on_incoming(self, event: events.Incoming, now: float) -> None:
        message = event.message
        handler = self._message_handlers.get(type(message))
        session_before = self._connection.session
        happenings: Sequence[ConnectionEvent] = ()
        try:
            if handler is None:
                # It has to do with the session itself, or may have.
                happenings = self._connection.receive(event.envelope, message, now)
            elif not self._connection.accept(event.envelope, message, now):
                handler = None
        except SessionError as error:
            self._departure.stop(f"the scheduler broke the session: {error}", 1)
            return
        if handler is not None:
            handler(message, now)
        for happened in happenings:
            if isinstance(happened, Received):
                self._state.log(WARNING, f"ignored a {type(message).__name__}, which is not for agents")
            elif isinstance(happened, Established):
                self._log_silence(now)
                self._silence.on_established()
                self._nesting.refusal = ""
                self._on_established(happened, session_before.unacknowledged())
            elif isinstance(happened, RefusedByPeer):
                self._departure.stop(f"the scheduler refuses this agent: {happened.reason}", 1)

    def _on_link_refused(self, event: events.LinkRefused, now: float) -> None:
        # The key may be let in again, and the agent has until its deadline. Its tasks are given to others meanwhile, so that
        # nobody waits for what clients inside them could still do.
        line = self._silence.on_refused(event.reason, now)
        if line is not None:
            self._state.log(*line)
            self._nesting.refuse_clients(f"it does not let in the worker any more: {event.reason}")

    def _on_established(self, established: Established, unacknowledged: Sequence[m.Message]) -> None:
        state = self._state
        address = state.options.object_storage_address or established.welcome.object_storage_address
        self._transfers.available = bool(address)
        state.outbox.add(effects.UseStorage(address))
        if established.resumed:
            return
        state.log(INFO, f"registered with the scheduler as {state.options.name}")
        self._reporter.announce(unacknowledged)
        if self._departure.leaving:
            self._connection.send(m.Drain())

    # --- tasks and functions from the scheduler

    def _accept_tasks(self, batch: m.TaskBatch, now: float) -> None:
        rows = len(batch.numbers)
        if not rows:
            return
        if not len(batch.attempts):
            batch.attempts = array("H", [1]) * rows
        tasks = TaskSlice(batch, 0, rows)
        bodies = self._functions.bodies
        needed = (*batch.functions, batch.serializer) if batch.serializer else batch.functions
        if batch.options and not _is_readable(batch):
            text = f"worker agent {self._state.options.name} cannot read the options of the task"
            self._results.add_ended(batch.client, tasks.numbers, tasks.attempts, Status.NOT_RUN, text)
        elif not all(map(bodies.__contains__, needed)):
            unknown = next(function for function in needed if function not in bodies)
            text = f"function {unknown.hex()} was not sent to worker agent {self._state.options.name}"
            self._results.add_ended(batch.client, tasks.numbers, tasks.attempts, Status.NOT_RUN, text)
        elif self._departure.leaving:
            self._returns.give_back([tasks])
        else:
            self._state.message_bytes.note_read(rows, len(batch.payloads.data) + len(batch.inputs.data))
            if batch.options:
                tasks.asked = asked_of(batch.options)
                if tasks.asked.resources:
                    self._state.counted_clients.add(batch.client)
            slot = line_of(batch) if batch.capabilities or batch.options else None
            if slot is None:
                self._queue.add(tasks)
            elif not isinstance(slot, int) or 0 <= slot < self._slots:
                self._pinned.add(slot, tasks)
            else:
                text = f"worker agent {self._state.options.name} has no worker number {slot}"
                self._results.add_ended(batch.client, tasks.numbers, tasks.attempts, Status.NOT_RUN, text)
            if batch.objects:
                self._transfers.prefetch(batch.objects)

    def _define_functions(self, message: m.FunctionDefine, now: float) -> None:
        self._functions.define(message)

    def _recall_tasks(self, message: m.TaskRecall, now: float) -> None:
        if not self._returns.give_back_queued(message.count):
            # The scheduler learns from `queued` that there is nothing to be had.
            self._reporter.send_heartbeat(now)

    def _drop_client(self, message: m.ClientGone, now: float) -> None:
        self._endings.drop_client(message.client, now)
        if message.client in self._state.counted_clients:
            self._state.counted_clients.discard(message.client)
            self._state.freeing.add(message.client)
        dropped = self._functions.drop_client(message.client)
        self._state.durations.forget(dropped)
        for processor in self._processors.by_number.values():
            processor.known.forget(dropped)
        if self._functions.end_environments(message.client):
            for processor in self._processors.by_number.values():
                self._state.outbox.add(effects.EndEnvironment(processor.number, message.client))

    def _on_teardown(self, event: events.ProcessorTeardown, now: float) -> None:
        processor = self._processors.by_number.get(event.processor)
        if processor is not None:
            processor.note_teardown(event.begins, now)

    def _on_environment(self, event: events.ProcessorEnvironment, now: float) -> None:
        processor = self._processors.by_number.get(event.processor)
        if processor is not None:
            processor.note_environment(event.text)

    # --- what a processor says that it may not

    def _on_blocked(self, event: events.ProcessorBlocked, now: float) -> None:
        if self._gives_back_rightly(event):
            self._nesting.on_blocked(event, now)

    def _on_gave_back(self, event: events.ProcessorGaveBack, now: float) -> None:
        if self._gives_back_rightly(event):
            self._returns.on_gave_back(event, now)

    def _gives_back_rightly(self, event: events.ProcessorBlocked | events.ProcessorGaveBack) -> bool:
        """Replace a processor that gives back what it cannot have: what it is handed from then on would never run."""
        processor = self._processors.by_number.get(event.processor)
        if processor is None:
            return True
        # Who waits does so in a task that it has begun, and has not given back.
        has_begun = isinstance(event, events.ProcessorGaveBack) or event.next_index > processor.front_index
        if has_begun and processor.may_give_back(event.generation, event.next_index):
            return True
        self._lifecycle.replace_faulty(processor, "gives back tasks that it was not given")
        return False

    def _on_relay_opened(self, event: events.RelayOpened, now: float) -> None:
        processor = self._processors.by_number.get(event.processor)
        fault = self._nesting.fault_of(event)
        if processor is not None and fault:
            self._lifecycle.replace_faulty(processor, fault)
        else:
            self._nesting.on_relay_opened(event, now)

    # --- objects

    def _on_object_wanted(self, event: events.ObjectWanted, now: float) -> None:
        if event.processor in self._processors.by_number:
            self._transfers.want(event.processor, event.id, event.place_gone)

    def _on_object_fetched(self, event: events.ObjectFetched, now: float) -> None:
        self._transfers.on_fetched(event)

    # --- time

    def _on_tick(self, event: events.Tick, now: float) -> None:
        for happened in self._connection.tick(now):
            if isinstance(happened, HeartbeatDue):
                self._reporter.send_heartbeat(now)
            elif isinstance(happened, AddressChanged):
                self._outbox.add(effects.MoveLink(happened.address))
            elif isinstance(happened, Lost):
                self._departure.stop(self._silence.last_words(happened.silent_seconds), 1)
                return
        self._log_silence(now)
        self._endings.tick(now)
        if self._memory_limits.watched:
            self._memory_limits.tick(now)
        self._lifecycle.stop_idle(now)
        if now >= self._profiles.due_at:
            self._profiles.report(now)

    def _on_samples(self, event: events.ProcessorSamples, now: float) -> None:
        self._profiles.add(event.processor, event.samples, event.cost_microseconds, event.calls)

    def _log_silence(self, now: float) -> None:
        line = self._silence.look(now)
        if line is not None:
            self._state.log(*line)


def _is_readable(batch: m.TaskBatch) -> bool:
    try:
        granted_of(batch)
    except ValueError:
        return False
    return True
