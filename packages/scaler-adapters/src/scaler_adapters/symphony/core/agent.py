"""The agent whose slots are in Symphony: holds tasks, decides what runs there, and reports what became of each.

At most `base_concurrency` tasks run at once. Only a task deeper than all running ones may always start: its parent is among them
and waits for it. If nothing ends, tasks that cannot start are given back, so that a deeper task can come in their place.

It decides and remembers; it has no sockets, threads or clock (see ARCHITECTURE, "Cores and shells"). Handlers change state; what
follows from it for everyone is settled once per `take_effects`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any

from scaler_adapters.symphony.core import effects, events
from scaler_adapters.symphony.core.answers import Answers
from scaler_adapters.symphony.core.functions import FunctionTable
from scaler_adapters.symphony.core.options import SymphonyOptions, hello_of, refusal_of
from scaler_adapters.symphony.core.tasks import Task, TaskTable
from scaler_adapters.symphony.task_runner import RemoteResult, RemoteTask
from scaler_protocol.address_list import split_addresses
from scaler_protocol.errors import SessionError
from scaler_protocol.ids import FINGERPRINT_BYTES
from scaler_protocol.monitoring.profile_tree import CallTable, check_calls
from scaler_protocol.payloads.framing import unframe_object
from scaler_protocol.runtime.core import INFO, WARNING, Outbox, require
from scaler_protocol.session import (
    AddressChanged,
    Connection,
    Established,
    HeartbeatDue,
    Lost,
    Received,
    RefusedByPeer,
    SilenceWatch,
)
from scaler_protocol.session.profile_reports import ProfileReports
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import Status
from scaler_protocol.wire.task_lists import portions_of, result_portions

STALLED_SECONDS = 1.0
"""If no task ends for so long while all places are taken, tasks that cannot start are given back."""

RECONNECT_SECONDS = 1.0
RECONNECT_SECONDS_MAX = 30.0
"""Pause before a lost session is opened again: it doubles with each failure, up to the second."""


@dataclass(slots=True, frozen=True)
class SymphonySnapshot:
    """What tests see of an agent. Tasks are their numbers."""

    stopped: bool
    capacity: int
    queued: tuple[int, ...]
    fetching: tuple[int, ...]
    running: tuple[int, ...]
    storing: tuple[int, ...]


class SymphonyCore:
    """Feed it with `handle`, perform what `take_effects` returns, and handle a `Tick` at `next_deadline`.

    The first event is `Start`. The class is a little longer than 400 lines: it has a handler per event and message, most of
    them short. What tasks, functions and answers are stands in the modules beside this one.
    """

    def __init__(self, options: SymphonyOptions) -> None:
        self._options = options
        self._base = len(options.worker_names)
        self._connection = Connection(
            hello_of(options),
            heartbeat_seconds=options.heartbeat_seconds,
            give_up_seconds=options.death_timeout_seconds,
            addresses=split_addresses(options.scheduler_address),
        )
        self._silence = SilenceWatch(
            self._connection, options.scheduler_address, options.heartbeat_seconds, options.death_timeout_seconds
        )
        self._now = 0.0
        """The time of the last event."""
        self._outbox: Outbox[effects.Effect] = Outbox()
        self._functions = FunctionTable()
        self._tasks = TaskTable(self._base)
        self._answers = Answers()
        self._objects: dict[bytes, Sequence[bytes]] = {}
        """Buffers of objects that tasks here need."""
        self._profiles = ProfileReports(self._connection, self._sample)
        self._sample_until = -inf
        self._sample_rate = 0
        self._session_open = False
        self._reconnect_at = inf
        self._reconnect_pause = RECONNECT_SECONDS
        self._progress_at = 0.0
        """When a task last ended, or tasks were last given back."""
        self._holding_back = False
        """Tasks that cannot start were given back: until a task ends, only one at a time may come in their place."""
        self._reported_capacity = 0
        self._leave_by: float | None = None
        self._leave_reason = ""
        self._stopped = False
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            events.Start: self._on_start,
            events.Tick: self._on_tick,
            events.Incoming: self._on_incoming,
            events.SessionOpened: self._on_session_opened,
            events.SessionLost: self._on_session_lost,
            events.TaskEnded: self._on_ended,
            events.ObjectFetched: self._on_fetched,
            events.ObjectStored: self._on_stored,
            events.LinkRefused: self._on_link_refused,
            events.StopRequested: lambda event: self._leave(event.reason, self._now + event.grace_s),
        }
        self._message_handlers: dict[type[Any], Callable[[Any], None]] = {
            m.TaskBatch: self._accept,
            m.FunctionDefine: self._functions.define,
            m.TaskCancel: self._cancel,
            m.TaskRecall: self._recall,
            m.ClientGone: self._drop_client,
            m.Drain: lambda _: self._leave("drained", inf),
            m.Shutdown: lambda message: self._leave(message.text or "shut down by the scheduler", self._now),
            m.Goodbye: lambda message: self._log(INFO, f"the scheduler has ended: {message.text}"),
            m.ProfileRequest: lambda message: self._profiles.on_request(message, self._now),
            m.Notice: lambda message: self._log(WARNING if message.level else INFO, message.text),
        }

    # --- interface

    def handle(self, event: events.Event, now: float) -> None:
        """Take one event in. After `Stop` everything is ignored."""
        if not self._stopped:
            self._now = now
            self._handlers[type(event)](event)

    def take_effects(self) -> list[effects.Effect]:
        """Settle what follows from the events since, and return all that is to be done, in order."""
        if not self._stopped:
            self._start_tasks()
            self._give_back_stalled()
            needed = {object_id for task in self._tasks.fetching.values() for object_id in task.objects}
            self._objects = {object_id: buffers for object_id, buffers in self._objects.items() if object_id in needed}
            self._report()
            if self._may_stop():
                self._stop(self._leave_reason, failed=False)
            self._send_outgoing()
        return self._outbox.take()

    def next_deadline(self) -> float:
        """When a `Tick` has something to do next; `inf` for never."""
        if self._stopped:
            return inf
        deadline = min(self._connection.next_deadline(), self._reconnect_at, self._profiles.due_at)
        if self._tasks.queue and len(self._tasks.running) >= self._base:
            deadline = min(deadline, self._progress_at + STALLED_SECONDS)
        if self._leave_by is not None:
            deadline = min(deadline, self._leave_by)
        return min(deadline, self._tasks.next_timeout(self._options.task_timeout_seconds))

    def check_invariants(self) -> None:
        """Raise InvariantError unless all facts agree with each other. Call after `take_effects`."""
        self._tasks.check_invariants()
        require(not (self._connection.established and len(self._answers)), "an answer was not sent")
        require(self._session_open or not self._tasks.running, "tasks run in Symphony without a session there")
        require(self._leave_by is None or not self._tasks.queue, "tasks are queued at an agent that leaves")

    def snapshot(self) -> SymphonySnapshot:
        """Return what tests may look at."""

        def numbers(tasks: Iterable[Task]) -> tuple[int, ...]:
            return tuple(task.number for task in tasks)

        return SymphonySnapshot(
            stopped=self._stopped,
            capacity=self._capacity(),
            queued=numbers(self._tasks.queue),
            fetching=numbers(self._tasks.fetching.values()),
            running=numbers(self._tasks.running.values()),
            storing=numbers(self._tasks.storing.values()),
        )

    # --- the scheduler

    def _on_start(self, _event: events.Start) -> None:
        self._progress_at = self._now
        self._connection.start(self._now)
        self._outbox.add(effects.OpenSession())

    def _on_incoming(self, event: events.Incoming) -> None:
        before = self._connection.session
        try:
            happenings = self._connection.receive(event.envelope, event.message, self._now)
        except SessionError as error:
            self._stop(f"the scheduler broke the session: {error}", failed=True)
            return
        for happened in happenings:
            if isinstance(happened, Received):
                handler = self._message_handlers.get(type(happened.message))
                if handler is not None:
                    handler(happened.message)
            elif isinstance(happened, Established):
                self._log_silence()
                self._silence.on_established()
                self._on_established(happened, before.unacknowledged())
            elif isinstance(happened, RefusedByPeer):
                self._stop(f"the scheduler refuses this agent: {happened.reason}", failed=True)

    def _on_established(self, established: Established, unacknowledged: Sequence[m.Message]) -> None:
        storage = self._options.object_storage_address or established.welcome.object_storage_address
        self._outbox.add(effects.UseStorage(storage))
        if established.resumed:
            return
        self._log(INFO, f"registered with the scheduler as {self._options.name}")
        for client, tasks in _by_client(self._tasks.unanswered()).items():
            states = [m.HeldState.RUNNING if task.since else m.HeldState.QUEUED for task in tasks]
            numbers, attempts = [task.number for task in tasks], [task.attempt for task in tasks]
            for portion in portions_of(m.Inventory(client, numbers, attempts, states)):
                self._connection.send(portion)
        for message in unacknowledged:
            if isinstance(message, m.ResultBatch):
                self._connection.send(message)
        self._reported_capacity = -1
        if self._leave_by is not None:
            self._connection.send(m.Drain())

    def _accept(self, batch: m.TaskBatch) -> None:
        tasks = list(self._tasks.tasks_of(batch))
        if self._leave_by is not None or not self._session_open:
            self._give_back(tasks)
            return
        refused = refusal_of(batch)
        for task in tasks:
            if refused:
                self._answers.add(task, Status.NOT_RUN, refused.encode())
            elif task.function not in self._functions or (batch.serializer and batch.serializer not in self._functions):
                text = b"its function was not sent to the Symphony adapter"
                self._answers.add(task, Status.NOT_RUN, text)
            else:
                self._tasks.queue.append(task)

    def _cancel(self, message: m.TaskCancel) -> None:
        wanted = set(message.numbers)
        if message.waiting_only:
            waiting = [one for one in self._tasks.queue if one.client == message.client and one.number in wanted]
            for task in waiting:
                self._tasks.queue.remove(task)
            self._give_back(waiting)
            return
        for task in self._tasks.unanswered():
            if task.client == message.client and task.number in wanted:
                self._tasks.abandon(task)
                self._answers.add(task, Status.CANCELED, b"")

    def _recall(self, message: m.TaskRecall) -> None:
        returned = self._tasks.take_last(message.count)
        self._give_back(returned)
        if not returned:
            self._heartbeat()

    def _drop_client(self, message: m.ClientGone) -> None:
        for task in self._tasks.unanswered():
            if task.client == message.client:
                self._tasks.abandon(task)
        self._answers.drop_client(message.client)
        self._functions.drop_client(message.client)

    def _give_back(self, tasks: Iterable[Task]) -> None:
        if self._connection.established:
            for client, group in _by_client(tasks).items():
                numbers, attempts = [task.number for task in group], [task.attempt for task in group]
                for portion in portions_of(m.TaskReturn(client, numbers, attempts)):
                    self._connection.send(portion)

    # --- what the scheduler is told

    def _capacity(self) -> int:
        """Return how many tasks are wanted in all: as many ahead as run, but only one while nothing ends."""
        if self._leave_by is not None or not self._session_open:
            return 0
        tasks, abandoned = self._tasks, self._tasks.abandoned_count()
        if self._holding_back:
            return max(0, len(tasks.running) - abandoned) + 1 + len(tasks.fetching) + len(tasks.storing)
        return max(1, 2 * self._base - abandoned)

    def _report(self) -> None:
        if not self._connection.established:
            return
        capacity = self._capacity()
        for batch in self._answers.take_batches(capacity):
            for portion in result_portions(batch):
                self._connection.send(portion)
            self._reported_capacity = capacity
        if capacity != self._reported_capacity:
            self._heartbeat()

    def _heartbeat(self) -> None:
        if not self._connection.established:
            return
        tasks = self._tasks
        running, idle = m.ProcessorState.RUNNING, m.ProcessorState.IDLE
        self._reported_capacity = self._capacity()
        heartbeat = m.Heartbeat(
            capacity=self._reported_capacity,
            queued=len(tasks.queue) + len(tasks.fetching),
            latency_seconds=self._connection.latency_seconds,
            processor_pids=[0] * self._base,
            processor_cpu_percents=[0] * self._base,
            processor_rss_bytes=[0] * self._base,
            processor_states=[running if place < len(tasks.running) else idle for place in range(self._base)],
        )
        self._connection.heartbeat(heartbeat, self._now)

    # --- Symphony

    def _on_session_opened(self, _event: events.SessionOpened) -> None:
        self._session_open = True
        self._reconnect_pause = RECONNECT_SECONDS
        self._log(INFO, "Symphony session is open")

    def _on_session_lost(self, event: events.SessionLost) -> None:
        self._session_open = False
        self._reconnect_at = self._now + self._reconnect_pause
        self._log(WARNING, f"Symphony: {event.reason}; next try in {self._reconnect_pause:g} s")
        self._reconnect_pause = min(2 * self._reconnect_pause, RECONNECT_SECONDS_MAX)
        for task in self._tasks.running.values():
            if not task.answered:
                sentence = f"it ran in Symphony when the session was lost: {event.reason}"
                self._answers.add(task, Status.PROCESSOR_DIED, sentence.encode())
        self._tasks.running.clear()
        self._holding_back = False
        self._give_back(self._tasks.take_unstarted())

    def _start_tasks(self) -> None:
        while self._session_open:
            task = self._tasks.take_startable()
            if task is None:
                return
            code = map(self._functions.objects_of, (task.function, task.batch.serializer))
            task.objects = tuple({*task.objects, *chain.from_iterable(code)})
            task.missing = {object_id for object_id in task.objects if object_id not in self._objects}
            if not task.missing:
                self._run(task)
                continue
            asked = {object_id for other in self._tasks.fetching.values() for object_id in other.missing}
            self._tasks.fetching[task.key] = task
            for object_id in task.missing - asked:
                self._outbox.add(effects.FetchObject(object_id))

    def _give_back_stalled(self) -> None:
        """If nothing ends while all places are taken, give the tasks back that cannot start."""
        if len(self._tasks.running) < self._base or self._now < self._progress_at + STALLED_SECONDS:
            return
        self._progress_at = self._now
        unstartable = self._tasks.take_unstartable()
        if unstartable:
            # First that there is less room, then the tasks: else they would come straight back.
            self._holding_back = True
            self._heartbeat()
            self._give_back(unstartable)

    def _run(self, task: Task) -> None:
        task.since = self._now
        self._tasks.running[task.key] = task
        remote = RemoteTask(
            function=self._functions.body(task.function),
            arguments=task.payload,
            inputs=task.inputs,
            serializer=self._functions.body(task.batch.serializer),
            objects={object_id: self._objects[object_id] for object_id in task.objects},
            is_chunk=task.batch.kind == m.TaskKind.MAP_CHUNK,
            number=task.number,
            depth=task.depth,
            scheduler_address=self._connection.address,
            object_storage_address=self._options.object_storage_address,
            carried=tuple(task.carried),
            security_dir=self._options.security_dir,
            identity_prefix=self._options.incarnation[:FINGERPRINT_BYTES] if self._options.security_dir else b"",
            client=task.batch.client,
            retried_after=task.asked.retries.on if task.asked.retries is not None else (),
            profile=self._profile_of(task),
        )
        self._outbox.add(effects.RunTask(task.key, remote))

    def _sample(self, seconds: float, rate: int) -> None:
        self._sample_until, self._sample_rate = self._now + seconds, rate

    def _profile_of(self, task: Task) -> tuple[float, int, bytes] | None:
        """Return what a task is told that begins while a profile is taken. One that runs already cannot be told anything."""
        seconds = self._sample_until - self._now
        return (seconds, self._sample_rate, task.function) if seconds > 0 else None

    def _take_profile(self, result: RemoteResult) -> None:
        if result.profile is None:
            return
        try:
            process, samples, cost, (*columns, texts) = result.profile
            samples, cost = array("Q", (samples, cost))
            parents, names, files, lines, times = map(array, "IIIIQ", columns)
            calls = check_calls(CallTable(parents, names, files, lines, times, tuple(map(str, texts))))
        except (TypeError, ValueError, OverflowError) as error:
            # The task may have written it.
            self._log(WARNING, f"a task has sent a profile that cannot be read: {error}")
            return
        self._profiles.add(process, samples, cost, calls)

    def _on_ended(self, event: events.TaskEnded) -> None:
        if event.result is not None:
            self._take_profile(event.result)
        task = self._tasks.running.pop(event.key, None)
        if task is None:
            return
        self._progress_at = self._now
        self._holding_back = False
        if task.answered:
            return
        result = event.result
        if result is None:
            sentence = f"Symphony could not run it to its end: {event.error}"
            self._answers.add(task, Status.PROCESSOR_DIED, sentence.encode())
            return
        object_id = unframe_object(result.payload) if result.buffers else None
        if object_id is None:
            self._answers.add(task, result.status, result.payload, result)
            return
        task.result = result
        self._tasks.storing[object_id] = task
        self._outbox.add(effects.PutObject(object_id, task.client, result.buffers))

    # --- object storage

    def _on_fetched(self, event: events.ObjectFetched) -> None:
        if event.buffers is not None:
            self._objects[event.object_id] = event.buffers
        for task in list(self._tasks.fetching.values()):
            if event.object_id not in task.missing:
                continue
            if event.buffers is None:
                del self._tasks.fetching[task.key]
                self._answers.add(task, Status.MISSING_OBJECT, event.error.encode())
                continue
            task.missing.discard(event.object_id)
            if not task.missing:
                del self._tasks.fetching[task.key]
                self._run(task)

    def _on_stored(self, event: events.ObjectStored) -> None:
        task = self._tasks.storing.pop(event.object_id, None)
        if task is None or task.result is None:
            return
        result = task.result
        if not event.error:
            self._answers.add(task, result.status, result.payload, result, event.object_id)
        elif result.status in (Status.FAILED, Status.RETRY):
            # An object's header has the form of a payload: the exception counts for more than its size.
            self._answers.add(task, result.status, result.buffers[0], result)
        else:
            self._answers.add(task, Status.STORAGE_FAILED, event.error.encode())

    # --- time and the end

    def _on_tick(self, _event: events.Tick) -> None:
        for happened in self._connection.tick(self._now):
            if isinstance(happened, HeartbeatDue):
                self._heartbeat()
            elif isinstance(happened, AddressChanged):
                self._outbox.add(effects.MoveLink(happened.address))
            elif isinstance(happened, Lost):
                self._stop(self._silence.last_words(happened.silent_seconds), failed=True)
                return
        self._log_silence()
        if self._now >= self._profiles.due_at:
            self._profiles.report(self._now)
        if self._now >= self._reconnect_at:
            self._reconnect_at = inf
            self._outbox.add(effects.OpenSession())
        for task, timeout in self._tasks.timed_out(self._options.task_timeout_seconds, self._now):
            whose = "task timeout" if timeout == self._options.task_timeout_seconds else "timeout_seconds"
            sentence = f"the task ran for more than {timeout:g} s ({whose}); Symphony may go on with it"
            self._answers.add(task, Status.TIMED_OUT, sentence.encode())

    def _on_link_refused(self, event: events.LinkRefused) -> None:
        line = self._silence.on_refused(event.reason, self._now)
        if line is not None:
            self._log(*line)

    def _leave(self, reason: str, by: float) -> None:
        if self._leave_by is not None:
            self._leave_by = min(self._leave_by, by)
            return
        self._leave_by, self._leave_reason = by, reason
        self._log(INFO, f"leaving: {reason}")
        self._give_back(self._tasks.take_last(len(self._tasks.queue)))
        if self._connection.established:
            self._connection.send(m.Drain())

    def _may_stop(self) -> bool:
        if self._leave_by is None:
            return False
        return self._now >= self._leave_by or not (self._tasks.has_unanswered() or len(self._answers))

    def _stop(self, reason: str, *, failed: bool) -> None:
        self._report()
        self._connection.close(reason)
        self._send_outgoing()
        self._stopped = True
        self._outbox.add(effects.Stop(reason, failed))

    def _send_outgoing(self) -> None:
        for outgoing in self._connection.outgoing:
            self._outbox.add(outgoing)
        self._connection.outgoing.clear()

    def _log_silence(self) -> None:
        line = self._silence.look(self._now)
        if line is not None:
            self._log(*line)

    def _log(self, level: int, text: str) -> None:
        self._outbox.add(effects.Log(level, text))


def _by_client(tasks: Iterable[Task]) -> dict[bytes, list[Task]]:
    groups: dict[bytes, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.client, []).append(task)
    return groups
