"""The agent whose slots are in Symphony: holds tasks, decides what runs there, and reports what became of each. Pure.

    queue ──room, objects──▶ in Symphony ──result──▶ ResultBatch

At most `base_concurrency` tasks run at once, except that a task deeper than all running ones may always start: its parent is
among them and waits for it. What cannot start while nothing ends is given back, so that a deeper task can come in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from scaler_adapters.symphony.task_runner import RemoteResult, RemoteTask
from scaler_protocol.errors import SessionError
from scaler_protocol.payloads.framing import OBJECT, unframe_function, unframe_object
from scaler_protocol.session import Connection, Established, HeartbeatDue, Lost, Received, RefusedByPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Envelope

STALLED_SECONDS = 1.0
"""Nothing has ended for so long while all places are taken: what cannot start goes back."""

RECONNECT_SECONDS = 1.0
RECONNECT_SECONDS_MAX = 30.0


# --- events and effects


class Incoming(NamedTuple):
    envelope: Envelope
    message: m.Message


class Tick(NamedTuple):
    """Time has passed."""


class SessionOpened(NamedTuple):
    """Symphony takes tasks."""


class SessionLost(NamedTuple):
    """Symphony's session or connection has ended, or could not be made; what ran there will not be heard of."""

    reason: str


class TaskEnded(NamedTuple):
    """A task has come back. Exactly one of `result` and `error` is given."""

    key: int
    result: RemoteResult | None
    error: str


class ObjectFetched(NamedTuple):
    object_id: bytes
    buffers: Sequence[bytes] | None
    error: str


class ObjectStored(NamedTuple):
    object_id: bytes
    error: str


class StopRequested(NamedTuple):
    """Finish what runs, then stop; at `grace_s` seconds from now in any case."""

    reason: str
    grace_s: float


Event = Incoming | Tick | SessionOpened | SessionLost | TaskEnded | ObjectFetched | ObjectStored | StopRequested


class Send(NamedTuple):
    envelope: Envelope
    message: m.Message


class UseStorage(NamedTuple):
    address: str


class OpenSession(NamedTuple):
    """Connect to Symphony and open a session there."""


class RunTask(NamedTuple):
    key: int
    task: RemoteTask


class FetchObject(NamedTuple):
    object_id: bytes


class PutObject(NamedTuple):
    object_id: bytes
    owner: bytes
    buffers: Sequence[bytes]


class Log(NamedTuple):
    level: int
    text: str


class Stop(NamedTuple):
    reason: str
    failed: bool


Effect = Send | UseStorage | OpenSession | RunTask | FetchObject | PutObject | Log | Stop

INFO, WARNING, ERROR = 20, 30, 40


@dataclass(slots=True, frozen=True)
class SymphonyOptions:
    """Who this agent is and what it may do."""

    name: str
    incarnation: bytes
    worker_names: tuple[str, ...]
    """One per place: as many as the base concurrency."""
    scheduler_address: str
    capabilities: m.Capabilities = ()
    hostname: str = ""
    pid: int = 0
    queue_limit: int = 1000
    heartbeat_seconds: float = 2.0
    death_timeout_seconds: float = 300.0
    task_timeout_seconds: float = 0.0
    object_storage_address: str = ""


@dataclass(slots=True, eq=False)
class _Task:
    key: int
    client: bytes
    number: int
    attempt: int
    function: bytes
    payload: bytes
    inputs: tuple[bytes, ...]
    objects: tuple[bytes, ...]
    batch: m.TaskBatch
    since: float = 0.0
    answered: bool = False
    """It runs on in Symphony and nobody waits for it any more."""
    missing: set[bytes] = field(default_factory=set)
    result: RemoteResult | None = None

    @property
    def depth(self) -> int:
        return self.batch.depth


class _Row(NamedTuple):
    task: _Task
    status: int
    payload: bytes
    result: RemoteResult | None
    object_id: bytes


class SymphonyCore:
    """See the module. `handle` events, perform `take_effects`, call again at `next_deadline`."""

    def __init__(self, options: SymphonyOptions, new_id: Callable[[], bytes]) -> None:
        self.options = options
        self._base = len(options.worker_names)
        self._new_id = new_id
        self._connection = Connection(
            m.Hello(
                role=m.Role.AGENT,
                name=options.name,
                incarnation=options.incarnation,
                worker_names=options.worker_names,
                capabilities=options.capabilities,
                hostname=options.hostname,
                pid=options.pid,
                capacity=0,
                queue_limit=options.queue_limit,
            ),
            heartbeat_seconds=options.heartbeat_seconds,
            give_up_seconds=options.death_timeout_seconds,
        )
        self._now = 0.0
        self._effects: list[Effect] = []
        self._functions: dict[bytes, tuple[bytes, set[bytes]]] = {}
        self._next_key = 0
        self._queue: list[_Task] = []
        self._fetching: dict[int, _Task] = {}
        self._running: dict[int, _Task] = {}
        self._storing: dict[bytes, _Task] = {}
        self._cache: dict[bytes, Sequence[bytes]] = {}
        self._rows: list[_Row] = []
        self._session_open = False
        self._reconnect_at = inf
        self._reconnect_pause = RECONNECT_SECONDS
        self._storage = ""
        self._progress_at = 0.0
        self._holding_back = False
        """What cannot start was given back: until something ends, one task at a time may come in its place."""
        self._told_capacity = 0
        self._leave_by: float | None = None
        self._leave_reason = ""
        self.stopped = False
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Incoming: self._on_incoming,
            Tick: self._on_tick,
            SessionOpened: self._on_session_opened,
            SessionLost: self._on_session_lost,
            TaskEnded: self._on_ended,
            ObjectFetched: self._on_fetched,
            ObjectStored: self._on_stored,
            StopRequested: self._on_stop_requested,
        }
        self._messages: dict[type[Any], Callable[[Any], None]] = {
            m.TaskBatch: self._accept,
            m.FunctionDefine: self._define,
            m.TaskCancel: self._cancel,
            m.TaskRecall: self._recall,
            m.ClientGone: self._drop_client,
            m.Drain: lambda _: self._leave("drained", inf),
            m.Shutdown: lambda message: self._leave(message.text or "shut down by the scheduler", self._now),
            m.Goodbye: lambda message: self._log(INFO, f"the scheduler has ended: {message.text}"),
            m.Notice: lambda message: self._log(WARNING if message.level else INFO, message.text),
        }

    # --- interface

    def start(self, now: float) -> None:
        """Say hello to the scheduler and open a session in Symphony."""
        self._now = self._progress_at = now
        self._connection.start(now)
        self._effects.append(OpenSession())

    def handle(self, event: Event, now: float) -> None:
        if not self.stopped:
            self._now = now
            self._handlers[type(event)](event)

    def take_effects(self) -> list[Effect]:
        """Settle what follows from the events since, and return all that is to be done, in order."""
        if not self.stopped:
            self._settle()
        effects, self._effects = self._effects, []
        return effects

    def next_deadline(self) -> float:
        if self.stopped:
            return inf
        deadline = min(self._connection.next_deadline(), self._reconnect_at)
        if self._queue and len(self._running) >= self._base:
            deadline = min(deadline, self._progress_at + STALLED_SECONDS)
        if self._leave_by is not None:
            deadline = min(deadline, self._leave_by)
        if self.options.task_timeout_seconds:
            since = min((task.since for task in self._running.values() if not task.answered), default=inf)
            deadline = min(deadline, since + self.options.task_timeout_seconds)
        return deadline

    def capacity(self) -> int:
        """Tasks wanted in all: as many ahead as run, but one only while nothing ends."""
        if self._leave_by is not None or not self._session_open:
            return 0
        # Abandoned tasks take a place in Symphony and none in the scheduler's count.
        abandoned = sum(task.answered for task in self._running.values())
        if self._holding_back:
            return max(0, len(self._running) - abandoned) + 1 + len(self._fetching) + len(self._storing)
        return max(1, 2 * self._base - abandoned)

    @property
    def held(self) -> int:
        """Tasks here, in whatever state."""
        return len(self._queue) + len(self._fetching) + len(self._running) + len(self._storing)

    # --- the scheduler

    def _on_incoming(self, event: Incoming) -> None:
        before = self._connection.session
        try:
            events = self._connection.receive(event.envelope, event.message, self._now)
        except SessionError as error:
            self._stop(f"the scheduler broke the session: {error}", failed=True)
            return
        for happened in events:
            if isinstance(happened, Received):
                handler = self._messages.get(type(happened.message))
                if handler is not None:
                    handler(happened.message)
            elif isinstance(happened, Established):
                self._on_established(happened, before.unacknowledged())
            elif isinstance(happened, RefusedByPeer):
                self._stop(f"the scheduler refuses this agent: {happened.reason}", failed=True)

    def _on_established(self, established: Established, unacknowledged: Sequence[m.Message]) -> None:
        self._storage = self.options.object_storage_address or established.welcome.object_storage_address
        self._effects.append(UseStorage(self._storage))
        if established.resumed:
            return
        self._log(INFO, f"registered with the scheduler as {self.options.name}")
        for client, tasks in self._by_client(self._all_unanswered()).items():
            states = [m.HeldState.RUNNING if task.since else m.HeldState.QUEUED for task in tasks]
            numbers, attempts = [task.number for task in tasks], [task.attempt for task in tasks]
            self._connection.send(m.Inventory(client, numbers, attempts, states))
        for message in unacknowledged:
            if isinstance(message, m.ResultBatch):
                self._connection.send(message)
        self._told_capacity = -1
        if self._leave_by is not None:
            self._connection.send(m.Drain())

    def _define(self, message: m.FunctionDefine) -> None:
        for function, body in zip(message.ids, message.bodies.split(), strict=True):
            known = self._functions.setdefault(function, (body, set()))
            known[1].add(message.client)

    def _accept(self, batch: m.TaskBatch) -> None:
        rows = len(batch.numbers)
        attempts = batch.attempts if len(batch.attempts) else [1] * rows
        indexes = batch.function_indexes if len(batch.function_indexes) else [0] * rows
        objects: dict[int, list[bytes]] = {}
        for row, object_id in zip(batch.object_positions, batch.objects, strict=True):
            objects.setdefault(row, []).append(object_id)
        inputs: dict[int, list[bytes]] = {}
        for row, payload in zip(batch.input_positions, batch.inputs.split(), strict=True):
            inputs.setdefault(row, []).append(payload)
        for row, (number, attempt, index, payload) in enumerate(
            zip(batch.numbers, attempts, indexes, batch.payloads.split(), strict=True)
        ):
            self._next_key += 1
            task = _Task(
                self._next_key,
                batch.client,
                number,
                attempt,
                batch.functions[index],
                payload,
                tuple(inputs.get(row, ())),
                tuple(objects.get(row, ())),
                batch,
            )
            if task.function not in self._functions or (batch.serializer and batch.serializer not in self._functions):
                self._answer(task, m.Status.NOT_RUN, b"its function was not sent to the Symphony adapter")
            else:
                self._queue.append(task)
        if self._leave_by is not None or not self._session_open:
            self._give_back(self._queue)
            self._queue = []

    def _cancel(self, message: m.TaskCancel) -> None:
        wanted = set(message.numbers)
        for task in self._all_unanswered():
            if task.client == message.client and task.number in wanted:
                self._forget(task)
                self._answer(task, m.Status.CANCELED, b"")

    def _forget(self, task: _Task) -> None:
        """Nobody waits for it any more. What runs in Symphony runs to its end there and keeps its place until then."""
        task.answered = True
        if task in self._queue:
            self._queue.remove(task)
        self._fetching.pop(task.key, None)
        for object_id in [o for o, storing in self._storing.items() if storing is task]:
            del self._storing[object_id]

    def _recall(self, message: m.TaskRecall) -> None:
        count = min(message.count, len(self._queue))
        returned, self._queue = self._queue[len(self._queue) - count :], self._queue[: len(self._queue) - count]
        self._give_back(returned)
        if not returned:
            self._heartbeat()

    def _drop_client(self, message: m.ClientGone) -> None:
        for task in self._all_unanswered():
            if task.client == message.client:
                self._forget(task)
        self._rows = [row for row in self._rows if row.task.client != message.client]
        for function, (_, clients) in list(self._functions.items()):
            clients.discard(message.client)
            if not clients:
                del self._functions[function]

    def _give_back(self, tasks: Iterable[_Task]) -> None:
        if self._connection.established:
            for client, group in self._by_client(tasks).items():
                numbers, attempts = [task.number for task in group], [task.attempt for task in group]
                self._connection.send(m.TaskReturn(client, numbers, attempts))

    def _all_unanswered(self) -> list[_Task]:
        held = [*self._queue, *self._fetching.values(), *self._running.values(), *self._storing.values()]
        return [task for task in held if not task.answered]

    @staticmethod
    def _by_client(tasks: Iterable[_Task]) -> dict[bytes, list[_Task]]:
        groups: dict[bytes, list[_Task]] = {}
        for task in tasks:
            groups.setdefault(task.client, []).append(task)
        return groups

    # --- Symphony

    def _on_session_opened(self, _event: SessionOpened) -> None:
        self._session_open = True
        self._reconnect_pause = RECONNECT_SECONDS
        self._log(INFO, "Symphony session is open")

    def _on_session_lost(self, event: SessionLost) -> None:
        self._session_open = False
        self._reconnect_at = self._now + self._reconnect_pause
        self._log(WARNING, f"Symphony: {event.reason}; next try in {self._reconnect_pause:g} s")
        self._reconnect_pause = min(2 * self._reconnect_pause, RECONNECT_SECONDS_MAX)
        for task in self._running.values():
            if not task.answered:
                sentence = f"it ran in Symphony when the session was lost: {event.reason}"
                self._answer(task, m.Status.PROCESSOR_DIED, sentence.encode())
        self._running.clear()
        self._holding_back = False
        waiting = [*self._queue, *self._fetching.values()]
        self._queue, self._fetching = [], {}
        self._give_back(task for task in waiting if not task.answered)

    def _on_ended(self, event: TaskEnded) -> None:
        task = self._running.pop(event.key, None)
        if task is None:
            return
        self._progress_at = self._now
        self._holding_back = False
        if task.answered:
            return
        if event.result is None:
            sentence = f"Symphony could not run it to its end: {event.error}"
            self._answer(task, m.Status.PROCESSOR_DIED, sentence.encode())
            return
        result = event.result
        object_id = unframe_object(result.payload) if result.buffers else None
        if object_id is None:
            self._answer(task, result.status, result.payload, result)
            return
        task.result = result
        self._storing[object_id] = task
        self._effects.append(PutObject(object_id, task.client, result.buffers))

    def _on_stored(self, event: ObjectStored) -> None:
        task = self._storing.pop(event.object_id, None)
        if task is None or task.result is None:
            return
        result = task.result
        if not event.error:
            self._answer(task, result.status, result.payload, result, event.object_id)
        elif result.status == m.Status.FAILED:
            # An object's header has the form of a payload: the exception counts for more than its size.
            self._answer(task, result.status, result.buffers[0], result)
        else:
            self._answer(task, m.Status.STORAGE_FAILED, event.error.encode())

    def _on_fetched(self, event: ObjectFetched) -> None:
        if event.buffers is not None:
            self._cache[event.object_id] = event.buffers
        for task in list(self._fetching.values()):
            if event.object_id not in task.missing:
                continue
            if event.buffers is None:
                del self._fetching[task.key]
                self._answer(task, m.Status.MISSING_OBJECT, event.error.encode())
                continue
            task.missing.discard(event.object_id)
            if not task.missing:
                del self._fetching[task.key]
                self._run(task)

    # --- settling

    def _settle(self) -> None:
        self._start_tasks()
        if self._stalled() and self._now >= self._progress_at + STALLED_SECONDS:
            shallow = [task for task in self._queue if not self._may_start(task)]
            self._queue = [task for task in self._queue if self._may_start(task)]
            self._progress_at = self._now
            if shallow:
                # First that there is less room, then the tasks: else they would come straight back.
                self._holding_back = True
                self._heartbeat()
                self._give_back(shallow)
        needed = {object_id for task in self._fetching.values() for object_id in task.objects}
        self._cache = {object_id: buffers for object_id, buffers in self._cache.items() if object_id in needed}
        self._report()
        if self._leave_by is not None and (self._now >= self._leave_by or not (self._all_unanswered() or self._rows)):
            self._stop(self._leave_reason, failed=False)
        self._effects.extend(Send(envelope, message) for envelope, message in self._connection.outgoing)
        self._connection.outgoing.clear()

    def _stalled(self) -> bool:
        return len(self._running) >= self._base and self._now >= self._progress_at + STALLED_SECONDS

    def _may_start(self, task: _Task) -> bool:
        busy = [*self._running.values(), *self._fetching.values()]
        return len(busy) < self._base or task.depth > max(running.depth for running in busy)

    def _start_tasks(self) -> None:
        while self._queue and self._session_open:
            task = max(self._queue, key=lambda task: task.depth)
            if not self._may_start(task):
                return
            self._queue.remove(task)
            needed = {*task.objects}
            for body in (self._body(task.function), self._body(task.batch.serializer)):
                _, payload = unframe_function(body)
                if payload[:1] == OBJECT:
                    needed.add(payload[1:])
            task.objects = tuple(needed)
            task.missing = {object_id for object_id in needed if object_id not in self._cache}
            if not task.missing:
                self._run(task)
                continue
            asked = {object_id for other in self._fetching.values() for object_id in other.missing}
            self._fetching[task.key] = task
            self._effects.extend(FetchObject(object_id) for object_id in task.missing - asked)

    def _body(self, function: bytes) -> bytes:
        return self._functions[function][0] if function in self._functions else b""

    def _run(self, task: _Task) -> None:
        task.since = self._now
        self._running[task.key] = task
        remote = RemoteTask(
            function=self._body(task.function),
            arguments=task.payload,
            inputs=task.inputs,
            serializer=self._body(task.batch.serializer),
            objects={object_id: self._cache[object_id] for object_id in task.objects},
            is_chunk=task.batch.kind == m.TaskKind.MAP_CHUNK,
            number=task.number,
            depth=task.depth,
            scheduler_address=self.options.scheduler_address,
            object_storage_address=self.options.object_storage_address,
        )
        self._effects.append(RunTask(task.key, remote))

    def _answer(
        self, task: _Task, status: int, payload: bytes, result: RemoteResult | None = None, object_id: bytes = b""
    ) -> None:
        task.answered = True
        self._rows.append(_Row(task, status, payload, result, object_id))

    def _report(self) -> None:
        if not self._connection.established:
            return
        capacity = self.capacity()
        by_client: dict[bytes, list[_Row]] = {}
        for row in self._rows:
            by_client.setdefault(row.task.client, []).append(row)
        self._rows = []
        for client, rows in by_client.items():
            self._connection.send(_result_batch(client, rows, capacity))
            self._told_capacity = capacity
        if capacity != self._told_capacity:
            self._heartbeat()

    def _heartbeat(self) -> None:
        if not self._connection.established:
            return
        running, idle = m.ProcessorState.RUNNING, m.ProcessorState.IDLE
        states = [running if place < len(self._running) else idle for place in range(self._base)]
        self._told_capacity = self.capacity()
        queued = len(self._queue) + len(self._fetching)
        heartbeat = m.Heartbeat(
            capacity=self._told_capacity,
            queued=queued,
            latency_seconds=self._connection.latency_seconds,
            processor_pids=[0] * self._base,
            processor_cpu_percents=[0] * self._base,
            processor_rss_bytes=[0] * self._base,
            processor_states=states,
        )
        self._connection.heartbeat(heartbeat, self._now)

    # --- time and the end

    def _on_tick(self, _event: Tick) -> None:
        for happened in self._connection.tick(self._now):
            if isinstance(happened, HeartbeatDue):
                self._heartbeat()
            elif isinstance(happened, Lost):
                self._stop(f"no scheduler has answered for {happened.silent_seconds:.0f} s", failed=True)
                return
        if self._now >= self._reconnect_at:
            self._reconnect_at = inf
            self._effects.append(OpenSession())
        timeout = self.options.task_timeout_seconds
        for task in [*self._running.values()] if timeout else []:
            if not task.answered and self._now >= task.since + timeout:
                sentence = f"the task ran for more than {timeout:g} s (task timeout); Symphony may go on with it"
                self._answer(task, m.Status.TIMED_OUT, sentence.encode())

    def _on_stop_requested(self, event: StopRequested) -> None:
        self._leave(event.reason, self._now + event.grace_s)

    def _leave(self, reason: str, by: float) -> None:
        if self._leave_by is not None:
            self._leave_by = min(self._leave_by, by)
            return
        self._leave_by, self._leave_reason = by, reason
        self._log(INFO, f"leaving: {reason}")
        self._give_back(self._queue)
        self._queue = []
        if self._connection.established:
            self._connection.send(m.Drain())

    def _stop(self, reason: str, *, failed: bool) -> None:
        self._report()
        self._connection.close(reason)
        self._effects.extend(Send(envelope, message) for envelope, message in self._connection.outgoing)
        self._connection.outgoing.clear()
        self.stopped = True
        self._effects.append(Stop(reason, failed))

    def _log(self, level: int, text: str) -> None:
        self._effects.append(Log(level, text))


def _result_batch(client: bytes, rows: Sequence[_Row], capacity: int) -> m.ResultBatch:
    statuses = [row.status for row in rows]
    profiled = any(row.task.batch.flags & m.TaskFlag.PROFILE for row in rows)

    def column(name: str) -> list[int]:
        return [getattr(row.result, name) if row.result is not None else 0 for row in rows]

    with_objects = [position for position, row in enumerate(rows) if row.object_id]
    return m.ResultBatch(
        client,
        [row.task.number for row in rows],
        [row.task.attempt for row in rows],
        Packed.of([row.payload for row in rows]),
        statuses if any(statuses) else (),
        [min(duration, 0xFFFF_FFFF) for duration in column("duration")],
        [min(cpu_time, 0xFFFF_FFFF) for cpu_time in column("cpu_time")] if profiled else (),
        column("memory_peak_bytes") if profiled else (),
        with_objects,
        tuple(rows[position].object_id for position in with_objects),
        capacity,
    )
