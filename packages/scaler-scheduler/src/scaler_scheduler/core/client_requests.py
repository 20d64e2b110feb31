"""What clients ask for: functions, tasks, graphs, cancellations, permission to submit, the end of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import inf
from operator import itemgetter
from typing import Any

from scaler_protocol.capabilities import pinned_slot
from scaler_protocol.errors import SessionError
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import CARRIED, carried_rows
from scaler_protocol.wire.call_options import CallOptions, read_records, tags_text
from scaler_protocol.wire.task_history import NO_HISTORY, History, read_history
from scaler_scheduler.core.answers import Answers
from scaler_scheduler.core.credits import Credits
from scaler_scheduler.core.deadlines import NO_TIMES, Deadlines
from scaler_scheduler.core.dispatch import Dispatch
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.group_limits import GroupLimits
from scaler_scheduler.core.ignored_capabilities import tell_ignored
from scaler_scheduler.core.jobs import Jobs
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.limits import BATCH_TASKS_MAX
from scaler_scheduler.core.linked_recovery import LinkedRecovery
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Note, Task, TaskOptions, TaskState
from scaler_scheduler.core.sessions import Handler
from scaler_scheduler.core.shutdown import Shutdown
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.core.worker_list import worker_list

_DETACHED = int(m.TaskFlag.DETACHED)


class ClientRequests:
    """One handler for each kind of message that only clients may send."""

    def __init__(
        self,
        state: SchedulerState,
        lifecycle: TaskLifecycle,
        rows: GraphRows,
        answers: Answers,
        client_credits: Credits,
        linked_recovery: LinkedRecovery,
        deadlines: Deadlines,
        shutdown: Shutdown,
        group_limits: GroupLimits | None,
        jobs: Jobs,
    ) -> None:
        self._protected = state.config.protected
        self._is_limited = state.config.max_number_of_tasks_waiting >= 0
        self._policy = state.policy
        self._agents = state.agents
        self._functions = state.functions
        self._monitor = state.monitor
        self._outbox = state.outbox
        self._lifecycle = lifecycle
        self._rows = rows
        self._answers = answers
        self._credits = client_credits
        self._linked_recovery = linked_recovery
        self._deadlines = deadlines
        self._dispatch = Dispatch(state)
        self._shutdown = shutdown
        self._group_limits = group_limits
        self._jobs = jobs
        self.handlers: Mapping[type[Any], Handler[ClientRecord]] = {
            m.TaskBatch: self.take_tasks,
            m.GraphSubmit: self._on_graph_submit,
            m.FunctionDefine: self._on_function_define,
            m.TaskCancel: self._on_task_cancel,
            m.CreditRequest: self._on_credit_request,
            m.WorkerListRequest: self._on_worker_list_request,
            m.Shutdown: self._on_shutdown,
        }

    def _on_function_define(self, client: ClientRecord, message: m.FunctionDefine, now: float) -> None:
        self._functions.define(client.id, message)

    def take_tasks(self, client: ClientRecord, batch: m.TaskBatch, now: float) -> None:
        """Take in tasks of a client, which may stand for a job."""
        if batch.flags & _DETACHED:
            if self._is_limited:
                self._credits.use(client, len(batch.numbers), now)
            self._jobs.take_batch(client, batch, now)
            return
        numbers, functions = batch.numbers, batch.functions
        several = None
        if batch.options:
            options, *others = self._options_of_records(client, batch, batch.kind, batch.flags)
            several = self._options_by_row((options, *others), batch) if others else None
        else:
            options = self._options(client, batch, batch.kind, batch.flags)
        if len(numbers) == 1 and not batch.function_indexes:
            tasks = [Task(numbers[0], functions[0], bytes(batch.payloads.data), options)]
        else:
            if len(numbers) > BATCH_TASKS_MAX:
                raise SessionError(f"a batch of {len(numbers)} tasks; at most {BATCH_TASKS_MAX} are accepted")
            payloads = batch.payloads.split()
            if len(batch.function_indexes):
                per_task: Iterable[bytes] = [functions[index] for index in batch.function_indexes]
            else:
                per_task = functions * len(payloads)
            if several is None:
                tasks = [
                    Task(number, function, payload, options)
                    for number, function, payload in zip(numbers, per_task, payloads, strict=False)
                ]
            else:
                rows = zip(numbers, per_task, payloads, several, strict=False)
                tasks = [Task(number, function, payload, own) for number, function, payload, own in rows]
        if batch.objects:
            _attach_objects(tasks, batch)
            client.places.note_sizes(batch.objects, batch.object_sizes)
        if CARRIED:
            for task, carried in zip(tasks, carried_rows(batch, len(tasks)), strict=True):
                task.carried = carried
        if not client.tasks.keys().isdisjoint(numbers):
            # In a session nothing arrives twice; a number used twice is the client's mistake, the first use stands.
            tasks = [task for task in tasks if task.number not in client.tasks]
        if self._is_limited:
            self._credits.use(client, len(tasks), now)
        if self._group_limits is not None and not batch.flags & m.TaskFlag.REANNOUNCED:
            tasks = self._group_limits.admit(client, tasks, now)
        history, waited = NO_HISTORY, NO_TIMES
        if batch.options:
            # One may have left before and be announced for the first time: where a worker could not read what was sent with it.
            history = self._history_of(client, batch.options, len(numbers))
            if history.failures:
                self._lifecycle.note_failures_before(client, history.failures, {task.number for task in tasks})
        self._lifecycle.enter(client, tasks)
        if client.has_asks:
            if history.waited:
                waited = dict(zip(numbers, history.waited, strict=True))
            self._deadlines.note(client, tasks, now, waited)
        if self._monitor.listening:
            # The batch's own column wherever no task of it was dropped.
            filed = numbers if len(tasks) == len(numbers) else [task.number for task in tasks]
            if several is None:
                self._monitor.record(m.TaskEvent.SUBMITTED, tasks, filed, "", now)
            else:
                # Tasks of one event have the same capabilities, and so the same worker and host.
                for _, same in groupby(tasks, key=lambda task: id(task.options)):
                    alike = list(same)
                    self._monitor.record(m.TaskEvent.SUBMITTED, alike, [task.number for task in alike], "", now)
        new = tasks
        if batch.flags & m.TaskFlag.REANNOUNCED:
            tasks = self._answers.recover(client, tasks, now)
        if waited:
            self._deadlines.end_late(client, new, now, waited)
            tasks = [task for task in tasks if task.state is not TaskState.DROPPED]
        if several is None:
            self._lifecycle.queue(tasks)
            return
        by_signature: dict[frozenset[str], list[Task]] = {}
        for task in tasks:
            by_signature.setdefault(task.options.signature, []).append(task)
        for alike in by_signature.values():
            self._lifecycle.queue(alike)

    def _on_graph_submit(self, client: ClientRecord, message: m.GraphSubmit, now: float) -> None:
        flags = message.flags & ~m.TaskFlag.REANNOUNCED
        if message.options:
            # All rows have the first record.
            options = self._options_of_records(client, message, m.TaskKind.CALL, flags)[0]
        else:
            options = self._options(client, message, m.TaskKind.CALL, flags)
        client.places.note_sizes(message.objects, message.object_sizes)
        limits = None if message.flags & m.TaskFlag.REANNOUNCED else self._group_limits
        due = inf
        if len(message.earlier):
            if self._is_limited:
                self._credits.use(client, len(message.wanted), now)
            if limits is not None and limits.refuses_linked(client, message):
                return
        if client.has_asks:
            first = message.first_number + message.first_row
            here = range(first, first + len(message.payloads))
            history = self._history_of(client, message.options, 1) if message.options else NO_HISTORY
            due = self._due_of(message, options, now - sum(history.waited))
            whole = range(message.first_number, message.first_number + max(message.row_count, len(message.payloads)))
            self._lifecycle.note_failures_before(client, history.failures, whole)
            self._deadlines.note_rows(client, here, due)
        if len(message.earlier):
            self._linked_recovery.take(message, options, now, due)
            return
        refusal = b""
        if limits is not None and not message.first_row:
            rows = message.row_count or len(message.payloads)
            refusal = limits.refusal_of_graph(client, rows)
        self._rows.take(message, options, now, refusal, due)

    def _due_of(self, message: m.GraphSubmit, options: TaskOptions, submitted_at: float) -> float:
        """Return when the deadline of rows is over; `inf`: they have none. All portions of a graph have that of the first one."""
        if options.asks is None or not options.asks.deadline_seconds:
            return inf
        arriving = options.client.arriving
        if message.first_row and arriving and arriving[-1].first_number == message.first_number:
            return arriving[-1].due
        return submitted_at + options.asks.deadline_seconds

    def _options_of_records(
        self, client: ClientRecord, batch: m.TaskBatch | m.GraphSubmit, kind: int, flags: int
    ) -> list[TaskOptions]:
        """Return what the tasks of each record of a batch share."""
        try:
            records, _ = read_records(batch.options)
        except ValueError as error:
            raise SessionError(f"{client.name}: {error}") from None
        return [
            self._options(client, batch, kind, flags, self._note_of(record), record.asks, record.affinity)
            for record in records
        ]

    def _history_of(self, client: ClientRecord, options: bytes, rows: int) -> History:
        try:
            return read_history(options, rows)
        except ValueError as error:
            raise SessionError(f"{client.name}: {error}") from None

    def _options_by_row(self, options: Sequence[TaskOptions], batch: m.TaskBatch) -> list[TaskOptions]:
        """Return the options of each row of a batch with several records."""
        _, rows = read_records(batch.options)
        if len(rows) != len(batch.numbers):
            raise SessionError(f"options of {len(rows)} tasks in a batch of {len(batch.numbers)}")
        return [options[row] for row in rows]

    def _note_of(self, record: CallOptions) -> Note | None:
        if not record.label and not record.tags:
            return None
        tally = self._monitor.labels.of(record.label) if record.label else None
        return Note(record.label, tags_text(record), tally)

    def _options(
        self,
        client: ClientRecord,
        batch: m.TaskBatch | m.GraphSubmit,
        kind: int,
        flags: int,
        note: Note | None = None,
        asks: CallOptions | None = None,
        affinity: m.Capabilities = (),
    ) -> TaskOptions:
        """Return what the tasks share, after a look at whether they may be run like this."""
        functions, serializer = batch.functions, batch.serializer
        for function_id in (*functions, serializer) if serializer else functions:
            if not self._functions.knows(client.id, function_id):
                raise SessionError(f"{client.name} uses function {short(function_id)} before defining it")
        enforce = self._policy.enforces_capabilities
        capabilities = batch.capabilities
        is_pinned = bool(capabilities) and pinned_slot(capabilities) is not None
        if capabilities and not enforce and not is_pinned:
            tell_ignored(client, self._policy.name, self._outbox)
        if affinity and not is_pinned:
            capabilities = (*capabilities, *affinity)
        return client.options_for(batch.depth, kind, flags, capabilities, serializer, enforce, note, asks)

    def cancel_tasks(self, client: ClientRecord, message: m.TaskCancel, now: float, reason: bytes = b"") -> None:
        """Stop tasks of this client. `reason`: what it is told of each, where it has not asked for it itself."""
        with self._rows.answered_together():
            self._cancel(client, message, now, reason)

    def _on_task_cancel(self, client: ClientRecord, message: m.TaskCancel, now: float) -> None:
        self.cancel_tasks(client, message, now)

    def _cancel(self, client: ClientRecord, message: m.TaskCancel, now: float, reason: bytes) -> None:
        to_agents: dict[AgentRecord, list[Task]] = {}
        others: list[int] = []
        for number in message.numbers:
            task = client.tasks.get(number)
            if task is None:
                others.append(number)
            elif task.agent is not None:
                if not task.canceled:
                    self._lifecycle.note_cancellation(task, waiting_only=message.waiting_only, reason=reason)
                    to_agents.setdefault(task.agent, []).append(task)
            elif message.waiting_only and task.state is TaskState.RECOVERING:
                # A worker that has not said what it holds may have begun it.
                self._lifecycle.note_cancellation(task, waiting_only=True, reason=reason)
            else:
                self._answers.withdraw(task, m.Status.CANCELED, reason, now)
        if others and not message.waiting_only:
            # Of those that came back after a restart nobody knows yet whether they run.
            self._linked_recovery.cancel(client, others, reason)
            if self._jobs.count:
                self._jobs.unfollow(client, others)
        if others and (client.graphs or client.arriving or client.links is not None):
            self._rows.cancel(client, others, now, reason)
        for agent, tasks in to_agents.items():
            self._dispatch.cancel(agent, tasks, waiting_only=message.waiting_only)

    def _on_credit_request(self, client: ClientRecord, message: m.CreditRequest, now: float) -> None:
        self._credits.request(client, message.count)

    def _on_worker_list_request(self, client: ClientRecord, message: m.WorkerListRequest, now: float) -> None:
        self._outbox.send(client, worker_list(self._agents.by_peer.values()))

    def _on_shutdown(self, client: ClientRecord, message: m.Shutdown, now: float) -> None:
        if self._protected or not self._shutdown.may_be_asked_by(client.id):
            notice = m.Notice("this scheduler is protected: clients cannot shut it down", kind="protected")
            self._outbox.send_plain(client, notice)
            return
        self._shutdown.end_cluster(f"client {client.hello.name} asked for it")


def _attach_objects(tasks: Sequence[Task], batch: m.TaskBatch) -> None:
    named = zip(batch.object_positions, batch.objects, strict=True)
    for row, of_row in groupby(named, itemgetter(0)):
        task = tasks[row]
        task.objects = (*task.objects, *map(itemgetter(1), of_row))
