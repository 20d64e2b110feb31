"""The agent of one worker host: holds tasks, hands them to processors, and reports honestly what became of each.

It decides and remembers; it has no sockets, processes, clock or randomness (see ARCHITECTURE, "Cores and shells"). Handlers
change state; what follows from it for everyone (who starts, who gets which tasks, what is reported) is settled once per
`take_effects`.

    queue ──hand over──▶ pipe of a processor ──results──▶ collector ──▶ session (kept until acknowledged)
      ▲                        │                             ▲
      └──── taken back ────────┘        large results ── uploads
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from scaler_protocol.errors import SessionError
from scaler_protocol.session import (
    Connection,
    ConnectionEvent,
    Established,
    HeartbeatDue,
    Lost,
    Received,
    RefusedByPeer,
)
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects as do
from scaler_worker.core import events as on
from scaler_worker.core.deaths import Backoff, UnstartedDeaths
from scaler_worker.core.durations import OVERHEAD_MICROSECONDS, Durations
from scaler_worker.core.functions import FunctionTable
from scaler_worker.core.lending import Lending
from scaler_worker.core.processors import Ending, Processor, free_slot, shown_processors
from scaler_worker.core.queue import TaskQueue
from scaler_worker.core.results import ResultCollector
from scaler_worker.core.slices import TaskSlice, split_out
from scaler_worker.core.transfers import ObjectTransfers, StoredResult, StoreEnded

HELD_MICROSECONDS = 50_000
"""Work an agent wants to hold per slot."""

LONG_TASK_MICROSECONDS = 1_000_000
"""From here on tasks are not held ahead at all."""

PIPE_MICROSECONDS = 24_000
"""Work that lies in a processor's pipe at most."""

PIPE_TASKS_MAX = 512
PIPE_BYTES_MAX = 4 * 1024 * 1024

AHEAD_MICROSECONDS = 20_000
"""Up to this duration, a task may lie ready behind a running one when there is work for everybody."""

TAKE_BACK_SECONDS = 0.05
"""A task that runs for so long loses what was handed over behind it."""

CANCEL_GRACE_SECONDS = 1.0
"""A running task that is to end and has not after this long ends with its processor."""

IDLE_SECONDS = 10.0
"""A processor beyond the number of slots, needed while others were blocked, ends when idle for so long."""

HOLD_SECONDS = 0.020
HOLD_ROWS_MAX = 256
"""Under load results travel together, see `_may_hold`: for no longer than the queue behind the pipes lasts."""

FAILED_STARTS_MAX = 10
"""So many processors in a row that ended before they were ready: the agent gives up, after about two seconds of `Backoff`."""

RETURN_REPEAT_SECONDS = 1.0
SHUTDOWN_GRACE_SECONDS = 1.0

INFO, WARNING, ERROR = 20, 30, 40

NO_FUNCTION = bytes(16)
"""In heartbeats: this processor runs nothing."""


@dataclass(slots=True, frozen=True)
class AgentOptions:
    """Who an agent is and what it may do. One worker name per slot."""

    name: str
    incarnation: bytes
    worker_names: tuple[str, ...]
    capabilities: m.Capabilities = ()
    hostname: str = ""
    pid: int = 0
    queue_limit: int = 1000
    """Most tasks held per slot."""
    heartbeat_seconds: float = 2.0
    task_timeout_seconds: float = 0.0
    """Longest a task may run; 0 for no limit."""
    death_timeout_seconds: float = 300.0
    scheduler_address: str = ""
    """Where no scheduler answers, the error names it."""
    object_storage_address: str = ""
    """Overrides what the scheduler says."""
    object_cache_bytes: int = 1024**3


@dataclass(slots=True)
class _Leaving:
    """The agent ends once its running tasks have, or at `deadline`."""

    reason: str
    deadline: float
    status: int


class AgentCore:
    """See the module. Feed it with `handle`, perform what `take_effects` returns, call again at `next_deadline`."""

    def __init__(self, options: AgentOptions) -> None:
        self.options = options
        self._slots = len(options.worker_names)
        hello = m.Hello(
            role=m.Role.AGENT,
            name=options.name,
            incarnation=options.incarnation,
            hostname=options.hostname,
            pid=options.pid,
            worker_names=options.worker_names,
            capabilities=options.capabilities,
            # Nothing, until a new session has heard what is held (`Inventory`): a scheduler that came back would send
            # an attempt that is under way here a second time. What is wanted follows at once, in a heartbeat.
            capacity=0,
            queue_limit=options.queue_limit,
            takes_chains=True,
        )
        self._connection = Connection(
            hello, heartbeat_seconds=options.heartbeat_seconds, give_up_seconds=options.death_timeout_seconds
        )
        self._now = 0.0
        self._effects: list[do.Effect] = []
        self._queue = TaskQueue()
        self._results = ResultCollector()
        self._functions = FunctionTable()
        self._durations = Durations()
        self._transfers = ObjectTransfers(options.object_cache_bytes)
        self._processors: dict[int, Processor] = {}
        self._counts = [0] * (max(State) + 1)
        """Processors by state."""
        self._lending = Lending(self._slots, self._processors, self._counts, self._queue)
        self._next_processor = 0
        self._failed_starts = 0
        self._backoff = Backoff()
        self._unstarted_deaths = UnstartedDeaths()
        self._homes: dict[bytes, int] = {}
        """Clients inside tasks: the processor each lives in."""
        self._gone_untold: list[bytes] = []
        self._figures = on.Figures()
        self._told_capacity = hello.capacity
        self._hold_until = -inf
        """Until when results may be held back; so long after the last ones left."""
        self._handed_over = False
        self._return_at = inf
        """When to give the scheduler back tasks again that may not start here (see `_make_room`)."""
        self._leaving: _Leaving | None = None
        self._stopped = False
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            on.Tick: self._on_tick,
            on.Incoming: self._on_incoming,
            on.ProcessorReady: self._on_ready,
            on.ProcessorResults: self._on_results,
            on.ProcessorBlocked: self._on_blocked,
            on.ProcessorUnblocked: self._on_unblocked,
            on.ProcessorUnfinished: self._on_unfinished,
            on.ProcessorGaveBack: self._on_gave_back,
            on.ProcessorFaulty: self._on_faulty,
            on.ProcessorExited: self._on_exited,
            on.ProcessorOutput: self._on_output,
            on.ChunkFailures: self._on_chunk_failures,
            on.RelayOpened: self._on_relay_opened,
            on.RelayFrames: self._on_relay_frames,
            on.RelayClosed: self._on_relay_closed,
            on.ObjectWanted: self._on_object_wanted,
            on.ObjectFetched: self._on_object_fetched,
            on.ObjectStored: self._on_object_stored,
            on.Figures: self._on_figures,
            on.StopRequested: self._on_stop_requested,
        }
        self._message_handlers: dict[type[Any], Callable[[Any], None]] = {
            m.TaskBatch: self._accept_tasks,
            m.FunctionDefine: self._define_functions,
            m.TaskCancel: self._cancel_tasks,
            m.TaskRecall: self._recall_tasks,
            m.ClientGone: lambda message: self._drop_client(message.client),
            m.Relay: self._deliver_relay,
            m.Drain: lambda message: self._leave("drained", inf, 0),
            m.Shutdown: lambda message: self._leave(
                message.text or "shut down by the scheduler", self._now + SHUTDOWN_GRACE_SECONDS, 0
            ),
            m.Goodbye: lambda message: self._log(INFO, f"the scheduler has ended: {message.text}"),
            m.Notice: lambda message: self._log(WARNING if message.level else INFO, message.text),
        }

    # --- interface

    @property
    def established(self) -> bool:
        """Whether the scheduler has welcomed this agent."""
        return self._connection.established

    @property
    def stopped(self) -> bool:
        """Whether `Stop` was or will be the last effect."""
        return self._stopped

    def start(self, now: float) -> None:
        """Say hello and start one processor per slot. Before the first `handle`."""
        self._now = now
        self._connection.start(now)

    def handle(self, event: on.Event, now: float) -> None:
        """Take one event in. After `Stop` everything is ignored."""
        if self._stopped:
            return
        self._now = now
        self._handed_over = False
        self._handlers[type(event)](event)

    def take_first_effects(self) -> list[do.Effect]:
        """Return what is to be done before the rest is even settled: processors wait for their tasks."""
        if self._queue.count and not (self._stopped or self._handed_over):
            self._hand_over()
        effects = self._effects
        if effects:
            self._effects = []
        return effects

    def take_effects(self) -> list[do.Effect]:
        """Settle what follows from the events since, and return all that is to be done, in order."""
        if not self._stopped:
            if not self._handed_over and (self._queue.count or self._now >= self._return_at):
                self._hand_over()
            if self._connection.established:
                self._report()
            if self._leaving is not None:
                self._leave_when_done(self._leaving)
            elif self._slots > self._lending.unblocked_count() and self._backoff.due(self._now) <= self._now:
                self._staff()
            self._send_outgoing()
        effects = self._effects
        if effects:
            self._effects = []
        return effects

    def next_deadline(self) -> float:
        """When a `Tick` has something to do next; `inf` for never."""
        if self._stopped:
            return inf
        deadline = min(self._connection.next_deadline(), self._return_at)
        if self._leaving is not None:
            deadline = min(deadline, self._leaving.deadline)
        if self._results.rows and self._connection.established:
            deadline = min(deadline, self._hold_until)
        if self._lending.parents:
            due_at = self._lending.due_at()
            # What is due has been done; what kept it from having an effect ends with another event.
            if due_at > self._now:
                deadline = min(deadline, due_at)
        timeout = self.options.task_timeout_seconds
        unblocked = self._lending.unblocked_count()
        extra = unblocked > self._slots
        if self._backoff.deaths and unblocked < self._slots and self._leaving is None:
            start_due = self._backoff.due(self._now)
            if start_due > self._now:
                deadline = min(deadline, start_due)
        for processor in self._processors.values():
            if processor.state is State.IDLE:
                if extra:
                    deadline = min(deadline, processor.idle_since + IDLE_SECONDS)
            elif processor.rows and processor.state is not State.STOPPING:
                if timeout and processor.front_index not in processor.endings:
                    deadline = min(deadline, processor.front_since + timeout)
                if processor.rows > 1 and not processor.taking_back:
                    deadline = min(deadline, processor.front_since + TAKE_BACK_SECONDS)
                deadline = min(deadline, self._kill_due(processor))
        return deadline

    def capacity(self) -> int:
        """Return how many tasks this agent wants to hold in all, now."""
        if self._leaving is not None:
            return 0
        mean = self._durations.mean
        if mean is None:
            wanted = 2
        elif mean >= LONG_TASK_MICROSECONDS:
            wanted = 1
        else:
            wanted = ceil(HELD_MICROSECONDS / mean) + 1
        lent = self._counts[State.BLOCKED]
        if self._now >= self._lending.due_at():
            # Nested tasks that could have these slots must be able to come here.
            lent += len(self._lending.lenders())
        return self._slots * min(wanted, self.options.queue_limit) + lent

    # --- the scheduler speaks

    def _on_incoming(self, event: on.Incoming) -> None:
        message = event.message
        handler = self._message_handlers.get(type(message))
        session_before = self._connection.session
        happenings: Sequence[ConnectionEvent] = ()
        try:
            if handler is None:
                # It has to do with the session itself, or may have.
                happenings = self._connection.receive(event.envelope, message, self._now)
            elif not self._connection.accept(event.envelope, message, self._now):
                handler = None
        except SessionError as error:
            self._stop(f"the scheduler broke the session: {error}", 1)
            return
        if handler is not None:
            handler(message)
        for happened in happenings:
            if isinstance(happened, Received):
                self._log(WARNING, f"ignored a {type(message).__name__}, which is not for agents")
            elif isinstance(happened, Established):
                self._on_established(happened, session_before.unacknowledged())
            elif isinstance(happened, RefusedByPeer):
                self._stop(f"the scheduler refuses this agent: {happened.reason}", 1)

    def _on_established(self, established: Established, unacknowledged: Sequence[m.Message]) -> None:
        welcome = established.welcome
        address = self.options.object_storage_address or welcome.object_storage_address
        self._transfers.available = bool(address)
        self._effects.append(do.UseStorage(address))
        if established.resumed:
            return
        self._log(INFO, f"registered with the scheduler as {self.options.name}")
        for inventory in self._inventories():
            self._connection.send(inventory)
        for message in unacknowledged:
            # What else was under way means nothing to a scheduler that starts anew.
            if isinstance(message, m.ResultBatch | m.ClientGone):
                self._connection.send(message)
        self._told_capacity = -1
        # Results that wait are not in the inventory: they follow it at once.
        self._hold_until = -inf
        if self._leaving is not None:
            self._connection.send(m.Drain())

    def _inventories(self) -> list[m.Inventory]:
        held: dict[bytes, tuple[array[int], array[int], array[int]]] = {}

        def note(client: bytes, numbers: Iterable[int], attempts: Iterable[int], state: m.HeldState) -> None:
            columns = held.setdefault(client, (array("Q"), array("H"), array("B")))
            columns[0].extend(numbers)
            columns[1].extend(attempts)
            columns[2].extend([state] * (len(columns[0]) - len(columns[2])))

        for tasks in self._queue:
            note(tasks.client, tasks.numbers, tasks.attempts, m.HeldState.QUEUED)
        for processor in self._processors.values():
            for position, tasks in enumerate(processor.pipe):
                if tasks.abandoned:
                    continue
                running = 1 if position == 0 else 0
                note(tasks.client, tasks.numbers[:running], tasks.attempts[:running], m.HeldState.RUNNING)
                note(tasks.client, tasks.numbers[running:], tasks.attempts[running:], m.HeldState.QUEUED)
        for result in self._transfers.storing():
            note(result.client, [result.number], [result.attempt], m.HeldState.RUNNING)
        return [m.Inventory(client, *columns) for client, columns in held.items()]

    def _accept_tasks(self, batch: m.TaskBatch) -> None:
        rows = len(batch.numbers)
        if not rows:
            return
        if not len(batch.attempts):
            batch.attempts = array("H", [1]) * rows
        tasks = TaskSlice(batch, 0, rows)
        bodies = self._functions.bodies
        needed = (*batch.functions, batch.serializer) if batch.serializer else batch.functions
        if not all(map(bodies.__contains__, needed)):
            unknown = next(function for function in needed if function not in bodies)
            text = f"function {unknown.hex()} was not sent to worker agent {self.options.name}"
            self._results.add_ended(batch.client, tasks.numbers, tasks.attempts, Status.NOT_RUN, text)
        elif self._leaving is not None:
            self._give_back([tasks])
        else:
            self._queue.add(tasks)
            if batch.objects:
                self._transfers.prefetch(batch.objects, self._effects)

    def _define_functions(self, message: m.FunctionDefine) -> None:
        for function, body in zip(message.ids, message.bodies.split(), strict=True):
            self._functions.define(message.client, function, body)

    def _cancel_tasks(self, message: m.TaskCancel) -> None:
        attempts = message.attempts if len(message.attempts) else [0] * len(message.numbers)
        wanted = dict(zip(message.numbers, attempts, strict=True))
        removed, bereft = self._queue.remove(message.client, wanted)
        for tasks in removed:
            self._results.add_ended(message.client, tasks.numbers, tasks.attempts, Status.CANCELED)
        self._give_back(bereft)
        for result in self._transfers.drop_results(message.client, wanted):
            self._results.add_ended(message.client, [result.number], [result.attempt], Status.CANCELED)
        for processor in self._processors.values():
            for tasks in processor.pipe:
                if tasks.client == message.client and not tasks.abandoned:
                    for row in tasks.find(wanted):
                        self._end_task(processor, tasks.index + row - tasks.start, Status.CANCELED)

    def _end_task(self, processor: Processor, index: int, status: Status, text: str = "") -> None:
        """Have a task that was handed over ended: first politely, then with its processor."""
        if index not in processor.endings:
            processor.endings[index] = Ending(self._now, status, text)
            if processor.state is not State.STOPPING:
                self._effects.append(do.CancelTask(processor.number, index, status, text))

    def _recall_tasks(self, message: m.TaskRecall) -> None:
        recalled = self._queue.recall(message.count)
        self._give_back(recalled)
        if not recalled:
            # The scheduler learns from `queued` that there is nothing to be had.
            self._send_heartbeat()

    def _give_back(self, recalled: Iterable[TaskSlice]) -> None:
        """Return tasks to the scheduler: before the results that are collected, which may tell why they come back."""
        columns: dict[bytes, tuple[array[int], array[int]]] = {}
        for tasks in recalled:
            numbers, attempts = columns.setdefault(tasks.client, (array("Q"), array("H")))
            numbers.extend(tasks.numbers)
            attempts.extend(tasks.attempts)
        if self._connection.established:
            for client, (numbers, attempts) in columns.items():
                self._connection.send(m.TaskReturn(client, numbers, attempts))

    def _drop_client(self, client: bytes) -> None:
        self._queue.remove(client, None)
        self._results.drop_client(client)
        self._transfers.drop_results(client, None)
        for processor in self._processors.values():
            for tasks in processor.pipe:
                if tasks.client == client and not tasks.abandoned:
                    tasks.abandoned = True
                    for index in range(tasks.index, tasks.index + len(tasks)):
                        self._end_task(processor, index, Status.CANCELED)
        dropped = self._functions.drop_client(client)
        for function in dropped:
            self._durations.forget(function)
            self._durations.forget(_MAP_PREFIX + function)
        for processor in self._processors.values():
            processor.known.forget(dropped)

    def _deliver_relay(self, message: m.Relay) -> None:
        home = self._homes.get(message.client)
        if home is not None:
            self._effects.append(do.DeliverRelay(home, message.client, message.inner))

    # --- processors speak

    def _on_ready(self, event: on.ProcessorReady) -> None:
        processor = self._processors.get(event.processor)
        if processor is None or processor.state is not State.STARTING:
            return
        self._failed_starts = 0
        processor.pid = event.pid
        self._set_idle(processor)

    def _on_results(self, event: on.ProcessorResults) -> None:
        processor = self._processors.get(event.processor)
        if processor is None:
            return
        if event.first_index != processor.front_index or event.count > processor.rows:
            self._replace_faulty(processor, "answers tasks it was not given")
            return
        if self._backoff.deaths:
            self._backoff.note_success()
        row = byte = 0
        while row < event.count:
            tasks = processor.pop(event.count - row)
            end = row + tasks.stop - tasks.start
            byte = self._collect(event, tasks, row, end, byte, processor.slot)
            row = end
        if processor.endings:
            front = processor.front_index
            processor.endings = {index: ending for index, ending in processor.endings.items() if index >= front}
        processor.front_since = self._now
        if not processor.rows and processor.state in (State.RUNNING, State.BLOCKED):
            self._set_idle(processor)

    def _collect(self, event: on.ProcessorResults, tasks: TaskSlice, row: int, end: int, byte: int, slot: int) -> int:
        """Take the outcomes of rows `row` to `end` of an event, which are those of `tasks`; return the next byte."""
        lengths, reported = event.payload_lengths, event.reported
        payloads: bytes | memoryview = event.payloads
        if end - row < event.count:
            lengths, reported = lengths[row:end], reported.cut(row, end)
            payloads = memoryview(payloads)[byte : byte + sum(lengths)]
        if not reported.statuses or Status.SKIPPED not in reported.statuses:
            self._observe(tasks, reported.durations)
        if tasks.abandoned:
            pass
        elif event.object_positions:
            self._collect_with_objects(event, tasks, row, end, byte, slot)
        else:
            batch, rows = tasks.batch, slice(tasks.start, tasks.stop)
            self._results.add(
                batch.client, batch.numbers[rows], batch.attempts[rows], lengths, payloads, reported, slot
            )
        return byte + len(payloads)

    def _collect_with_objects(
        self, event: on.ProcessorResults, tasks: TaskSlice, row: int, end: int, byte: int, slot: int
    ) -> None:
        """Like `_collect`, one by one: results that are objects are told once they are stored."""
        objects = {
            position: (event.objects[at], event.object_sizes[at]) for at, position in enumerate(event.object_positions)
        }
        for at in range(row, end):
            payload = event.payloads[byte : byte + event.payload_lengths[at]]
            byte += len(payload)
            number = tasks.batch.numbers[tasks.start + at - row]
            attempt = tasks.batch.attempts[tasks.start + at - row]
            reported = event.reported.cut(at, at + 1)
            if at in objects:
                stored = StoredResult(tasks.client, number, attempt, payload, reported, slot)
                ended = self._transfers.store(*objects[at], stored, self._effects)
                if ended is not None:
                    self._on_store_ended(ended)
                continue
            self._results.add(tasks.client, [number], [attempt], [len(payload)], payload, reported, slot)

    def _observe(self, tasks: TaskSlice, durations: Sequence[int]) -> None:
        if not tasks.batch.function_indexes:
            self._durations.observe(_duration_key(tasks.batch, 0), durations)
            return
        indexes = tasks.function_indexes
        by_index: dict[int, list[int]] = {}
        for index, duration in zip(indexes, durations, strict=True):
            by_index.setdefault(index, []).append(duration)
        for index, values in by_index.items():
            self._durations.observe(_duration_key(tasks.batch, index), values)

    def _on_blocked(self, event: on.ProcessorBlocked) -> None:
        processor = self._processors.get(event.processor)
        if processor is None:
            return
        self._take_back(processor, event.generation, event.next_index)
        if processor.state in (State.RUNNING, State.BLOCKED):
            processor.lent_unasked = False
            self._lending.set_state(processor, State.BLOCKED)
            self._return_at = self._now

    def _on_unblocked(self, event: on.ProcessorUnblocked) -> None:
        processor = self._processors.get(event.processor)
        if processor is not None:
            if processor.state is State.BLOCKED:
                self._lending.set_state(processor, State.RUNNING)
            self._lending.note_unfinished(processor, event.unfinished, self._now)

    def _on_unfinished(self, event: on.ProcessorUnfinished) -> None:
        processor = self._processors.get(event.processor)
        if processor is not None:
            self._lending.note_unfinished(processor, event.unfinished, self._now)

    def _on_gave_back(self, event: on.ProcessorGaveBack) -> None:
        processor = self._processors.get(event.processor)
        if processor is None:
            return
        processor.taking_back = False
        self._take_back(processor, event.generation, event.next_index)
        if not processor.rows and processor.state is State.RUNNING:
            self._set_idle(processor)

    def _take_back(self, processor: Processor, generation: int, next_index: int) -> None:
        processor.generation = generation
        self._requeue(processor, processor.pop_from(next_index))

    def _take_back_behind(self, processor: Processor) -> None:
        """Have the processor give back what lies behind its running task."""
        if not processor.taking_back:
            processor.taking_back = True
            self._effects.append(do.TakeBack(processor.number))

    def _requeue(self, processor: Processor, pieces: list[TaskSlice]) -> None:
        """Queue tasks again that were handed over and did not run, in front, without counting an attempt.

        Not the rest of a chain that has begun: only its processor has what came before, the scheduler will have it.
        """
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
                self._results.add_ended(ended.client, ended.numbers, ended.attempts, ending.status, ending.text)
            for piece in reversed(stays):
                continued = len(piece) if self._leaving is not None else piece.continued()
                if continued:
                    returned.append(piece.take(continued))
                self._queue.put_back(piece)
        self._give_back(returned)

    def _on_exited(self, event: on.ProcessorExited) -> None:
        processor = self._processors.pop(event.processor, None)
        if processor is None:
            return
        self._counts[processor.state] -= 1
        self._lending.forget(processor)
        self._transfers.forget_processor(processor.number)
        for client in sorted(processor.clients):
            self._client_ended(client)
        died = processor.state is not State.STOPPING or bool(processor.fault)
        if died and not event.retired:
            self._backoff.note_death(self._now)
        if processor.state is State.STARTING:
            self._failed_starts += 1
            if event.fatal or self._failed_starts >= FAILED_STARTS_MAX:
                self._stop(f"no processor can be started: {event.reason}", 1)
                return
        reason = event.reason + (f"; it {processor.fault}" if processor.fault else "")
        if died:
            self._log(INFO if event.retired else WARNING, f"Worker[{processor.slot}]: {reason}")
        index = self._responsible_index(processor, event, died)
        pieces = processor.pop_from(0)
        if index is not None:
            pieces = self._answer_running(processor, pieces, index, reason, died)
            if pieces and pieces[0].index < index:
                # Answers were lost with the processor. The scheduler must hear of a chain's links from the last to the first:
                # of those behind this task, of this task, of those before it.
                self._requeue(processor, [tasks for tasks in pieces if tasks.index > index])
                self._send_results(self.capacity())
                pieces = [tasks for tasks in pieces if tasks.index < index]
        self._requeue(processor, pieces)

    def _responsible_index(self, processor: Processor, event: on.ProcessorExited, died: bool) -> int | None:
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

    def _answer_running(
        self, processor: Processor, pieces: list[TaskSlice], running_index: int, reason: str, died: bool
    ) -> list[TaskSlice]:
        """Report the task in which a processor ended; return all others it had."""
        others: list[TaskSlice] = []
        for tasks in pieces:
            if not tasks.index <= running_index < tasks.index + len(tasks):
                others.append(tasks)
                continue
            stays, out = split_out(tasks, [tasks.start + running_index - tasks.index])
            others.extend(stays)
            for running in out:
                ending = processor.endings.get(running_index)
                if ending is None and not died:
                    # The agent meant the task before it, which ended in the meantime.
                    others.append(running)
                    continue
                if running.abandoned:
                    continue
                status, text = (Status.PROCESSOR_DIED, reason) if ending is None else (ending.status, ending.text)
                elapsed = min(int((self._now - processor.front_since) * 1e6), 0xFFFFFFFF)
                self._results.add_ended(
                    running.client,
                    running.numbers,
                    running.attempts,
                    status,
                    text,
                    max(elapsed, 0),
                    processor.slot,
                )
        return others

    def _on_faulty(self, event: on.ProcessorFaulty) -> None:
        processor = self._processors.get(event.processor)
        if processor is not None:
            self._replace_faulty(processor, event.fault)

    def _replace_faulty(self, processor: Processor, fault: str) -> None:
        """Kill a processor that cannot be relied on any more; that counts as a death for the task that was its business."""
        if not processor.fault:
            processor.fault = fault
            self._log(ERROR, f"processor {processor.pid} {fault}; it is replaced")
            self._kill(processor)

    def _on_output(self, event: on.ProcessorOutput) -> None:
        processor = self._processors.get(event.processor)
        found = processor.find(event.index) if processor is not None else None
        if found is None or not self._connection.established:
            return
        tasks, row = found
        if not tasks.abandoned:
            number = tasks.batch.numbers[row]
            self._connection.send_plain(m.Output(tasks.client, number, event.stream, event.data, event.dropped_bytes))

    def _on_chunk_failures(self, event: on.ChunkFailures) -> None:
        processor = self._processors.get(event.processor)
        found = processor.find(event.index) if processor is not None else None
        # Monitors only show it: while no session stands there is nobody to tell, and nothing is kept for later.
        if found is None or not self._connection.established:
            return
        tasks, row = found
        if not tasks.abandoned:
            batch = tasks.batch
            self._connection.send(
                m.ChunkFailures(tasks.client, batch.numbers[row], batch.attempts[row], event.count, event.payload)
            )

    # --- clients inside tasks

    def _on_relay_opened(self, event: on.RelayOpened) -> None:
        processor = self._processors.get(event.processor)
        if processor is not None:
            processor.clients.add(event.client)
            self._homes[event.client] = event.processor

    def _on_relay_frames(self, event: on.RelayFrames) -> None:
        processor = self._processors.get(event.processor)
        if processor is not None:
            if event.unfinished:
                self._lending.note_unfinished(processor, True, self._now)
            if processor.state is State.RUNNING and self._lending.waits_unseen(processor, self._now):
                # This may be a task that needs room here: the scheduler hears of it before it hears of the room.
                self._return_at = self._now
        # Relays are plain: before the session stands they are lost, and the client inside repeats them.
        if self._connection.established and event.client in self._homes:
            self._connection.send_plain(m.Relay(event.client, [bytes(frame) for frame in event.frames]))

    def _on_relay_closed(self, event: on.RelayClosed) -> None:
        processor = self._processors.get(event.processor)
        if processor is not None and event.client in processor.clients:
            processor.clients.discard(event.client)
            self._client_ended(event.client)

    def _client_ended(self, client: bytes) -> None:
        self._homes.pop(client, None)
        self._gone_untold.append(client)

    # --- objects

    def _on_object_wanted(self, event: on.ObjectWanted) -> None:
        if event.processor in self._processors:
            self._transfers.want(event.processor, event.id, event.place_gone, self._effects)

    def _on_object_fetched(self, event: on.ObjectFetched) -> None:
        self._transfers.on_fetched(event, self._effects)

    def _on_object_stored(self, event: on.ObjectStored) -> None:
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

    # --- time

    def _on_tick(self, event: on.Tick) -> None:
        now = self._now
        for happened in self._connection.tick(now):
            if isinstance(happened, HeartbeatDue):
                self._send_heartbeat()
            elif isinstance(happened, Lost):
                where = f" at {self.options.scheduler_address}" if self.options.scheduler_address else ""
                self._stop(f"no scheduler has answered{where} for {happened.silent_seconds:.0f} s", 1)
                return
        timeout = self.options.task_timeout_seconds
        for processor in list(self._processors.values()):
            if not processor.rows or processor.state is State.STOPPING:
                continue
            if timeout and now >= processor.front_since + timeout:
                text = f"the task ran for more than {timeout:g} s and was ended (task timeout)"
                self._end_task(processor, processor.front_index, Status.TIMED_OUT, text)
            if now >= self._kill_due(processor):
                self._kill(processor)
            elif (
                processor.rows > 1
                and not processor.taking_back
                and now >= processor.front_since + TAKE_BACK_SECONDS
                and processor.state is State.RUNNING
            ):
                front = processor.pipe[0]
                index = front.function_indexes[0] if len(front.function_indexes) else 0
                self._durations.at_least(_duration_key(front.batch, index), (now - processor.front_since) * 1e6)
                self._take_back_behind(processor)
        self._dismiss_extra()

    def _kill_due(self, processor: Processor) -> float:
        """When the running task's politeness ends: infinite unless it is being ended."""
        ending = processor.endings.get(processor.front_index) if processor.endings else None
        return inf if ending is None else max(ending.since, processor.front_since) + CANCEL_GRACE_SECONDS

    def _kill(self, processor: Processor) -> None:
        if processor.state is not State.STOPPING:
            self._lending.set_state(processor, State.STOPPING)
            self._effects.append(do.KillProcessor(processor.number))

    def _dismiss_extra(self) -> None:
        extra = self._lending.unblocked_count() - self._slots
        for processor in self._processors.values():
            if extra <= 0:
                return
            if processor.state is State.IDLE and self._now >= processor.idle_since + IDLE_SECONDS:
                self._lending.set_state(processor, State.STOPPING)
                self._effects.append(do.StopProcessor(processor.number))
                extra -= 1

    def _on_figures(self, event: on.Figures) -> None:
        self._figures = event

    # --- leaving

    def _on_stop_requested(self, event: on.StopRequested) -> None:
        self._leave(event.reason, self._now + event.grace_seconds, 0)

    def _leave(self, reason: str, deadline: float, status: int) -> None:
        """Take nothing more, give back what has not started, and end when the running tasks have, or at `deadline`."""
        if self._leaving is not None:
            self._leaving.deadline = min(self._leaving.deadline, deadline)
            return
        self._leaving = _Leaving(reason, deadline, status)
        self._log(INFO, f"leaving: {reason}")
        self._give_back(self._queue.recall(self._queue.count))
        for processor in self._processors.values():
            if processor.rows > 1 and processor.state is State.RUNNING:
                self._take_back_behind(processor)
        if self._connection.established:
            self._connection.send(m.Drain())

    def _leave_when_done(self, leaving: _Leaving) -> None:
        busy = any(processor.rows for processor in self._processors.values()) or self._transfers.storing()
        waiting = self._results.rows or self._gone_untold
        if (busy or waiting) and self._now < leaving.deadline:
            return
        self._stop(leaving.reason, leaving.status)

    def _stop(self, reason: str, status: int) -> None:
        self._connection.close(reason)
        self._send_outgoing()
        self._stopped = True
        self._effects.append(do.Stop(reason, status))

    # --- settling

    def _hand_over(self) -> None:
        self._handed_over = True
        lending = self._lending
        if not lending.parents:
            if self._now >= self._return_at:
                self._make_room()
            if self._queue.count:
                self._assign()
            return
        lending.take_back_unneeded()
        if self._now >= self._return_at or lending.has_become_due(self._now):
            self._make_room()
        if self._queue.count:
            self._assign()
        if self._queue.count and self._now >= lending.due_at():
            for processor in lending.lend():
                self._take_back_behind(processor)
            self._assign()

    def _set_idle(self, processor: Processor) -> None:
        counts = self._counts
        counts[processor.state] -= 1
        counts[State.IDLE] += 1
        processor.state = State.IDLE
        processor.idle_since = self._now

    def _make_room(self) -> None:
        """Give back tasks that may not start, where they take the room of deeper ones that could come in their place.

        Without this the queue could be full of tasks that may not start, while the one all others wait for cannot come.
        Looked at whenever a task blocks or lending becomes due, and repeatedly, because the deeper one may become known to the
        scheduler later.
        """
        closed = self._lending.closed_depths()
        lending_due = self._now >= self._lending.due_at()
        if not closed and not lending_due:
            self._return_at = inf
            return
        self._return_at = self._now + RETURN_REPEAT_SECONDS
        too_many = self._held() - self.capacity()
        if not self._queue.count or too_many < 0 or not self._connection.established:
            return
        if self._counts[State.RUNNING] < self._slots:
            if self._queue.head(closed) is None:
                self._give_back(self._queue.recall(self._queue.count))
        elif lending_due and not self._lending.nested_count(1):
            # Slots are not lent to what is queued here. The scheduler sends the deepest tasks first.
            self._give_back(self._queue.recall(too_many + self._slots))

    def _held(self) -> int:
        """Return how many tasks are here that the scheduler counts as assigned."""
        return self._queue.count + sum([processor.rows for processor in self._processors.values()])

    def _staff(self) -> None:
        """Start processors: one per slot that is not blocked, while there is something for it to run."""
        wanted = self._slots - self._lending.unblocked_count()
        if self._counts[State.BLOCKED] > self._slots:
            ready = self._queue.count_open(self._lending.closed_depths())
            wanted = min(wanted, ready - self._counts[State.STARTING] - self._counts[State.IDLE])
        for _ in range(wanted):
            number = self._next_processor
            self._next_processor += 1
            slot = self._emptiest_slot()
            self._processors[number] = Processor(number, slot)
            self._counts[State.STARTING] += 1
            self._effects.append(do.StartProcessor(number, slot))

    def _emptiest_slot(self) -> int:
        counts = [0] * self._slots
        for processor in self._processors.values():
            if processor.state not in (State.BLOCKED, State.STOPPING):
                counts[processor.slot] += 1
        return counts.index(min(counts))

    def _assign(self) -> None:
        """Hand tasks to processors: first one share to each idle one, then ahead to those that run short ones."""
        queue, counts = self._queue, self._counts
        if (
            queue.count == 1
            and counts[State.IDLE]
            and counts[State.RUNNING] < self._slots
            and counts[State.BLOCKED] <= self._slots
        ):
            # One task, which an idle processor takes: nothing to share, nothing to hand over ahead, no depth that is closed.
            for processor in self._processors.values():
                if processor.state is State.IDLE:
                    self._hand(processor, queue.take_only())
                    break
            return
        running = [processor for processor in self._processors.values() if processor.state is State.RUNNING]
        share = ceil((queue.count + sum([processor.rows for processor in running])) / self._slots)
        if self._counts[State.IDLE] and len(running) < self._slots:
            for processor in self._processors.values():
                if processor.state is State.IDLE:
                    if len(running) >= self._slots or not self._fill(processor, share):
                        break
                    running.append(processor)
        if queue.count and len(running) <= self._slots:
            parents = self._lending.parents
            for processor in running:
                # Behind a task that has run for long, or waits for others, they would only be taken back again.
                if (
                    not processor.taking_back
                    and self._now < processor.front_since + TAKE_BACK_SECONDS
                    and processor.number not in parents
                ):
                    self._fill(processor, share)

    def _fill(self, processor: Processor, share: int) -> bool:
        """Hand a processor what it should have now; return whether it has anything."""
        queue = self._queue
        closed = self._lending.closed_depths(processor)
        bytes_left = PIPE_BYTES_MAX - processor.pipe_bytes()
        while queue.count and (head := queue.head(closed)) is not None:
            room = 1 if queue.count == 1 and not processor.rows else self._room(processor, head, share)
            if room <= 0 or (bytes_left <= 0 and processor.rows):
                break
            tasks = queue.take(head, room, max(bytes_left, 0))
            if queue.count:
                bytes_left -= tasks.payload_bytes()
            self._hand(processor, tasks)
        return processor.rows > 0

    def _hand(self, processor: Processor, tasks: TaskSlice) -> None:
        functions = tasks.functions()
        known = processor.known
        missing = known.update(functions)
        forgotten = known.take_forgotten(len(functions))
        if processor.state is not State.RUNNING:
            if self._counts[State.RUNNING]:
                processor.slot = free_slot(processor, self._processors.values(), self._slots)
            self._lending.set_state(processor, State.RUNNING)
        handed = processor.push(tasks, self._now)
        bodies = self._functions.bodies
        self._effects.append(
            do.SendTasks(
                processor.number,
                processor.generation,
                handed.index,
                handed,
                tuple([(function, bodies[function]) for function in missing]) if missing else (),
                forgotten,
            )
        )

    def _room(self, processor: Processor, head: TaskSlice, share: int) -> int:
        """Return how many tasks like `head` the processor should be handed now."""
        indexes = head.function_indexes
        if len(indexes):
            # Different functions in one batch: as careful as the slowest, or the least known, demands.
            estimates = [self._durations.of(_duration_key(head.batch, index)) for index in set(indexes[:64])]
            estimate = None if None in estimates else max(value for value in estimates if value is not None)
        else:
            estimate = self._durations.of(_duration_key(head.batch, 0))
        if estimate is None or estimate > AHEAD_MICROSECONDS:
            return 0 if processor.rows else 1
        if estimate > PIPE_MICROSECONDS:
            ahead = 2 if self._queue.count >= self._slots else 1
            return ahead - processor.rows
        budget = max(2, min(int(PIPE_MICROSECONDS / max(estimate, OVERHEAD_MICROSECONDS)), PIPE_TASKS_MAX))
        if processor.rows > budget // 2:
            # Refill in larger pieces: a slice costs as much as several tasks.
            return 0
        return max(min(budget, share) - processor.rows, 0 if processor.rows else 1)

    def _report(self) -> None:
        capacity = self.capacity()
        if self._gone_untold:
            for client in self._gone_untold:
                self._connection.send(m.ClientGone(client))
            self._gone_untold.clear()
        if self._results.rows:
            if self._now < self._hold_until and self._may_hold():
                return
            self._send_results(capacity)
            ahead_seconds = self._queue.count * (self._durations.mean or 0.0) / self._slots / 1e6
            self._hold_until = self._now + min(HOLD_SECONDS, ahead_seconds)
        elif capacity > self._told_capacity and self._is_short_of_room():
            # No answer is wanted: this is news, not a question.
            self._connection.send_plain(self._heartbeat())

    def _send_results(self, capacity: int) -> None:
        if self._connection.established:
            for batch in self._results.take(capacity):
                self._connection.send(batch)
            self._told_capacity = capacity

    def _may_hold(self) -> bool:
        """Whether results may wait a moment for more: a message costs everybody as much as many results do.

        Asked shortly after others have left. Only while tasks are queued beyond what processors have in their pipes: then
        more results are certain to come, nobody runs dry meanwhile (an agent holds ten times as much work), and what keeps a
        client busy is the stream, not the single result. So the first result after a pause and the last ones of a burst
        leave at once, and an agent with one task at a time never holds. Nor while a task here is blocked, or
        has unfinished work: that one may be waiting for just this result.
        """
        return (
            self._queue.count > 0
            and self._results.rows < HOLD_ROWS_MAX
            and not self._counts[State.BLOCKED]
            and not self._lending.parents
        )

    def _is_short_of_room(self) -> bool:
        """Whether the scheduler, for all it knows, may not send a task for each slot.

        Each task that blocks makes room for one more. That is told with the next results, unless there is none left.
        """
        return not self._counts[State.BLOCKED] or self._told_capacity - self._held() < self._slots

    def _send_heartbeat(self) -> None:
        if self._connection.established:
            self._connection.heartbeat(self._heartbeat(), self._now)

    def _heartbeat(self) -> m.Heartbeat:
        figures = self._figures
        capacity = self.capacity()
        pids, cpus, rss, states = [], [], [], []
        tasks, functions, milliseconds = [], [], []
        for processor in shown_processors(self._processors.values(), self._slots):
            front = processor.pipe[0] if processor is not None and processor.pipe else None
            if processor is None or front is None:
                tasks.append(0)
                functions.append(NO_FUNCTION)
                milliseconds.append(0)
            else:
                index = front.function_indexes[0] if len(front.function_indexes) else 0
                tasks.append(front.numbers[0])
                functions.append(front.batch.functions[index])
                milliseconds.append(max(0, min(int((self._now - processor.front_since) * 1000), 0xFFFFFFFF)))
            used = figures.processors.get(processor.number) if processor is not None else None
            pids.append(processor.pid if processor is not None else 0)
            states.append(processor.state if processor is not None else State.STARTING)
            cpus.append(min(int(used.cpu_percent * 10), 0xFFFF) if used is not None else 0)
            rss.append(used.rss_bytes if used is not None else 0)
        self._told_capacity = capacity
        return m.Heartbeat(
            capacity=capacity,
            cpu_percent=figures.cpu_percent,
            rss_bytes=figures.rss_bytes,
            rss_free_bytes=figures.rss_free_bytes,
            queued=self._queue.count + sum(max(0, p.rows - 1) for p in self._processors.values()),
            latency_seconds=self._connection.latency_seconds,
            processor_pids=pids,
            processor_cpu_percents=cpus,
            processor_rss_bytes=rss,
            processor_states=states,
            processor_tasks=tasks,
            processor_functions=tuple(functions),
            processor_milliseconds=milliseconds,
        )

    def _send_outgoing(self) -> None:
        outgoing = self._connection.outgoing
        if outgoing:
            self._effects += outgoing
            outgoing.clear()

    def _log(self, level: int, text: str) -> None:
        self._effects.append(do.Log(level, text))


_MAP_PREFIX = b"map:"


def _duration_key(batch: m.TaskBatch, function_index: int) -> bytes:
    """A chunk of many calls takes longer than one call of the same function: they are estimated apart."""
    function = batch.functions[function_index]
    return _MAP_PREFIX + function if batch.kind == m.TaskKind.MAP_CHUNK else function
