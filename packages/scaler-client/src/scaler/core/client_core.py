"""The client's side of everything it and the scheduler agree on, without I/O.

    core = ClientCore(client_id, hello, timeout_seconds=60.0)
    core.start(now)
    number = core.submit(core.group(), function_id, payload, token=future)
    core.flush()
    core.handle(events.Incoming(envelope, message), now)
    for effect in core.take_effects(): …
    core.next_deadline()                                    # call handle(events.Tick(), now) then

A task is known by its number from `submit` until exactly one of these: it is in a `Completed`, in an `Abandoned`, or
it was given to `cancel`. While its answer is fetched from object storage it counts as unanswered. Tasks may be
submitted before the session stands; they leave when it does.

What happens is given to `handle`, as to every core. What the application wants has methods of its own, because the caller needs
what they return or raise: a task's number, the tasks that were cancelled, why nothing can be submitted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from typing import Protocol

from scaler.core import effects, events
from scaler.core.admission import Admission
from scaler.core.answers import Answers
from scaler.core.cancellation import Cancellation
from scaler.core.endings import Endings
from scaler.core.holdings import Functions, ObjectUses
from scaler.core.invariants import check_deadlines, check_graphs, check_objects, check_tasks
from scaler.core.leases import Leases
from scaler.core.snapshot import ClientSnapshot, snapshot_of
from scaler.core.task_history import Before
from scaler.core.task_sender import BATCH_TASKS_MIN, TaskSender
from scaler.core.tasks import Task, TaskGroup, TaskTable
from scaler.core.unsendable import tasks_in
from scaler.errors import ClientQuitException, ConnectionRefusedByScheduler, DisconnectedError, ScalerError
from scaler_protocol.errors import SessionError
from scaler_protocol.payloads.unpickled import LatePayload
from scaler_protocol.runtime.core import InvariantError, Outbox
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.session import (
    AddressChanged,
    Connection,
    ConnectionEvent,
    Established,
    HeartbeatDue,
    Lost,
    Received,
)
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.envelope import SEQUENCED, Envelope
from scaler_protocol.wire.task_lists import portions_of

GOODBYE_GRACE_SECONDS = 10.0
"""After the scheduler said goodbye: how long one may come back before unanswered tasks are given up."""

OVERDUE_SECONDS = 0.5
"""How often tasks are looked at whose deadline is over and of which the scheduler, which answers, has not said so yet."""


class FunctionBody(Protocol):
    """A function that a task calls."""

    @property
    def function_id(self) -> bytes:
        """16 bytes that follow from the body."""

    @property
    def body(self) -> bytes:
        """The pickled function."""

    @property
    def name(self) -> str:
        """For people."""


Submission = tuple[int, FunctionBody, Task]
"""A task whose number was taken before it is given to the core: its number, its function, and what the core keeps of it."""


class ClientCore:
    """See the module. Single-threaded: the owner calls one method at a time.

    Longer than 400 lines, because whatever its owner may ask or tell is here with its documentation. What follows from it is
    decided in the modules beside this one.
    """

    def __init__(
        self,
        client_id: bytes,
        hello: m.Hello,
        *,
        address: str = "the scheduler",
        timeout_seconds: float = 60.0,
        heartbeat_seconds: float = 2.0,
        addresses: Sequence[str] = (),
    ) -> None:
        """`address` is for error messages, `addresses` are those of several schedulers.

        Silence longer than `timeout_seconds` ends every unanswered task.
        """
        self.client_id = client_id
        self.closed = False
        self.admission = Admission()
        """Whether tasks may be submitted. For whoever asks, from any thread."""
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._goodbye: tuple[float, str] | None = None
        self._asked_for_shutdown = False
        self._asked_workers: deque[object] = deque()
        self._asked_jobs: dict[int, tuple[object, m.JobRequest]] = {}
        """Requests without an answer, by number, with the tokens of those who wait."""
        """Who waits for a list of the workers, in the order in which they asked."""
        self._holds_job_requests = False
        """Whether requests wait until all tasks of jobs have left, which a new scheduler must know first."""
        self._session_deadline: float | None = None
        """When the session or the goodbye need a `Tick`, at the earliest; None where it has to be computed again."""
        self._outbox: Outbox[effects.Effect] = Outbox()
        self._connection = Connection(
            hello, heartbeat_seconds=heartbeat_seconds, give_up_seconds=timeout_seconds, addresses=addresses
        )
        self._uses = ObjectUses()
        self._table = table = TaskTable(client_id, self._uses.sizes)
        self._functions = Functions(client_id)
        self._sender = TaskSender(self._connection, table, self._functions, self._send)
        self._endings = Endings(table, self._uses, self._outbox)
        self._answers = Answers(table, self._endings, self._uses, self._outbox)
        self._cancellation = Cancellation(
            table, self._uses, self.admission, self._sender, self._answers, self._endings, self._outbox, self._stop
        )
        self._leases = Leases(self._connection, self._outbox, self._send)
        self.acquire_lock = self._leases.acquire
        """See `Leases.acquire`: holds a named lock, or waits for it."""
        self.release_lock = self._leases.release
        """See `Leases.release`."""
        self.withdraw_lock = self._leases.withdraw
        """See `Leases.withdraw`."""
        self.take_number: Callable[[], int] = table.take_number
        """Returns a number that no task has. Any thread may call it, at any time: it is one operation."""
        self.take_numbers: Callable[[int], int] = table.take_numbers
        """Returns the first of so many consecutive numbers that no task has. One operation as well."""
        self.group = table.group
        """Returns the group of tasks with the same properties, see `TaskTable.group`."""
        self.define_function = self._functions.add
        """Makes a function known, by id, body and name, before the first task that names it. Doing it again costs nothing."""
        self.flush = self._sender.flush
        """See `TaskSender.flush`: sends all tasks that wait to leave."""
        self.flush_or_hold = self._sender.flush_or_hold
        """See `TaskSender.flush_or_hold`: as `flush`, but a few tasks may be held back for a moment, to form a batch."""
        self.hold_object = self._uses.hold
        """Counts one more use of an object of this client: it is not deleted before `release_objects` or its task."""
        self.note_result = self._uses.note_result
        self.waiting_detached = table.waiting_detached
        """Says that an object that is held is the result of a task: workers have stored it, and this client has no copy."""
        self.may_run_once_only = table.may_run_once_only
        """Whether an unanswered task may not run a second time (`idempotent=False`)."""
        self.leave: Callable[[int, object], bool] = self._answers.leave
        """See `Answers.leave`: in place of fetching an answer."""
        self.is_left: Callable[[int], bool] = self._answers.left.__contains__
        """Whether the answer of a task stays in storage."""
        self.fetch_left: Callable[[int, object], None] = self._answers.fetch_left
        """See `Answers.fetch_left`."""
        self.stored_value = self._answers.stored_value
        """See `Answers.stored_value`."""
        self.release_objects = self._endings.release
        """Undoes one `hold_object` for each of these objects; what nobody uses any more is deleted (`DeleteObjects`)."""

    # --- what the owner asks

    @property
    def unusable(self) -> ScalerError | None:
        """Raised by `submit`: why this client takes no tasks. None while it does."""
        return self.admission.unusable

    @property
    def goodbye_text(self) -> str | None:
        """Why the scheduler said goodbye, or None while it has not."""
        return None if self._goodbye is None else self._goodbye[1]

    @property
    def met_standby(self) -> bool:
        """Whether what answered last was a scheduler that is not first."""
        return self._connection.met_standby

    @property
    def is_holding(self) -> bool:
        """Whether a few tasks are held back, until `next_deadline` at the latest: see `TaskSender.flush_or_hold`."""
        return self._sender.hold_until < math.inf

    @property
    def idle(self) -> bool:
        """Whether no task is under way, so that a task submitted now should leave at once."""
        return not self._table.tasks

    @property
    def unanswered_count(self) -> int:
        """Tasks that were submitted and not answered; wanted rows only where they are a graph's. Not those `left` in storage."""
        return len(self._table.tasks) + len(self._answers.fetching)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of large payloads of tasks that have not left."""
        return self._table.large.waiting_bytes

    def unanswered_tokens(self) -> list[object]:
        """Return the tokens of all unanswered tasks."""
        tokens = [task.token for task in self._table.tasks.values()]
        for waiting in (self._answers.fetching, self._answers.left):
            tokens += [task.token for task, _ in waiting.values()]
        return tokens

    def is_unanswered(self, number: int) -> bool:
        """Whether a task was submitted and not answered."""
        return number in self._table.tasks or number in self._answers.fetching

    def next_number(self) -> int:
        """Return the number that the next task gets, if no other thread submits one before."""
        return self._table.next_number()

    def is_under_way(self, number: int) -> bool:
        """Whether a task with this number is unanswered, or about to be submitted. Any thread may ask."""
        return self._table.is_under_way(number)

    @property
    def needs_answers(self) -> bool:
        """Whether unanswered rows need earlier tasks, whose answers the scheduler then passes on to workers."""
        return any(graph.submit.earlier for graph in self._table.graphs.values())

    def unconfirmed_among(self, numbers: Iterable[int]) -> list[int]:
        """Return those of these tasks that were cancelled and may still run: `CancelConfirmed` follows for each."""
        return [number for number in numbers if number in self._endings.unconfirmed]

    def holds_object(self, object_id: bytes) -> bool:
        """Whether some use of an object is counted."""
        return object_id in self._uses.counts

    @property
    def stored_results(self) -> Set[bytes]:
        """Objects of which some use is counted, and which workers have stored."""
        return self._uses.results

    def is_refused(self, object_id: bytes) -> bool:
        """Whether storage has refused an object of which some use is counted: a task with it would fail."""
        return object_id in self._uses.refused

    def refusal_of(self, object_id: bytes) -> str:
        """Why storage has refused an object of which some use is counted; empty where it has not. From any thread."""
        return self._uses.refused.get(object_id, "")

    def take_effects(self) -> list[effects.Effect]:
        """Return, and forget, what is to be done, in order."""
        return self._outbox.take()

    def next_deadline(self) -> float:
        """When `Tick` is due; infinity for never. May be too early, never too late."""
        deadline = self._session_deadline
        if deadline is None:
            deadline = self._session_deadline = self._compute_deadline()
        hold_until, next_due = self._sender.hold_until, self._table.history.next_due
        if next_due < deadline:
            deadline = next_due
        return hold_until if hold_until < deadline else deadline

    def snapshot(self) -> ClientSnapshot:
        """Return what is known now, for tests and the simulation."""
        return snapshot_of(
            self._connection.established,
            self._table,
            self._answers,
            self._endings,
            self._uses,
            self._functions.defined,
            self.admission.credit_left,
        )

    def check_invariants(self) -> None:
        """Raise InvariantError unless all that is known agrees. For tests and the simulation."""
        table, endings = self._table, self._endings
        check_tasks(table, self._answers, endings)
        check_graphs(table, endings)
        check_objects(table, self._uses, endings)
        if self.unusable is not None and self.unanswered_count:
            raise InvariantError("a client that takes no tasks has unanswered ones")
        if self.closed and self.unusable is None:
            raise InvariantError("a closed client takes tasks")
        bounded = bool(table.tasks or endings.unconfirmed) and not self.closed
        due = min(self._compute_deadline(), self._sender.hold_until, table.history.next_due)
        check_deadlines(self.next_deadline(), due, bounded=bounded)

    # --- what the application wants

    def start(self, now: float) -> None:
        """Say hello."""
        self._connection.start(now)
        self._session_changed()

    def submit(
        self,
        group: TaskGroup,
        function: bytes,
        payload: LatePayload,
        objects: tuple[bytes, ...] = (),
        token: object = None,
        carried: Carried = (),
    ) -> int:
        """Take a task in and return its number; it leaves with the next `flush`.

        Each of `objects` must have been held (`hold_object`); the task takes that hold over. Raises `unusable`.
        Whether the scheduler permits one more task is asked with `admission.allows` before.
        """
        self.admission.require_usable()
        number = self._table.take_number()
        task = new_tuple(Task, (group, function, payload, objects, token, carried))
        if not (self._uses.refused and self._cancellation.fail_if_refused(number, task)):
            self._table.add(number, task)
            self._spend_credit(1)
        return number

    def submit_all(self, submissions: Sequence[Submission]) -> None:
        """Take in tasks whose numbers were taken before, and flush where they should not wait. Only while usable.

        Each of their objects must have been held, as for `submit`.
        """
        if self._uses.refused:
            # Here, before any of them can leave.
            fails = self._cancellation.fail_if_refused
            submissions = [submission for submission in submissions if not fails(submission[0], submission[2])]
        table = self._table
        bodies, add, was_idle = self._functions.bodies, table.add, not table.tasks
        waiting = table.waiting_count()
        remaining = iter(submissions)
        for number, function, task in remaining:
            if task.function not in bodies:
                self._functions.add(task.function, function.body, function.name)
            add(number, task)
            waiting += 1
            if waiting >= BATCH_TASKS_MIN:
                self._sender.flush()
                if self.closed:
                    # The session could not go on. It has ended the tasks that it knew of.
                    self._cancellation.abandon(remaining)
                    return
                waiting = 0
        self._spend_credit(len(submissions))
        if was_idle and waiting:
            self._sender.flush()

    def _spend_credit(self, count: int) -> None:
        if not self.admission.accepts_freely:
            self.admission.spend(count)

    def message_ahead(self, number: int, task: Task, position: int = 0) -> tuple[Envelope, m.TaskBatch] | None:
        """Return the message `task` would leave in if it were submitted now, or None where others go before it.

        `position`: how many such messages have left that this core does not know of yet.
        Changes nothing: who sends it says so with `submit_ahead`, in order, before anything else happens to this core.
        """
        return self._sender.message_ahead(number, task, position) if self.admission.accepts_freely else None

    def submit_ahead(self, number: int, task: Task, message: m.TaskBatch) -> None:
        """Take in a task that has left already, in the message and envelope that `message_ahead` returned."""
        self._table.add_sent(number, task)
        self._connection.session.sequence(message)

    def submit_graph(
        self,
        submit: m.GraphSubmit,
        tokens: Sequence[object],
        *,
        keeps: bool = False,
        before: Before | None = None,
    ) -> int:
        """Take a graph in; return its first number. `tokens`: one per element of `submit.wanted`.

        `submit.first_number` is set here, unless its numbers were taken before. Each of `submit.objects` must have been held
        once per occurrence. `keeps`: see `Graph.keeps`. `before`: where its tasks were submitted before, under numbers that
        have ended; deadlines and retries count on. Raises `unusable`.
        """
        self.admission.require_usable()
        if not submit.first_number:
            submit.first_number = self._table.take_numbers(len(submit.payloads))
        ended = self._endings.ended_among(submit.earlier)
        if ended:
            self._cancellation.return_graph(submit, tokens, ended, before)
            return submit.first_number
        graph = self._table.add_graph(submit, list(tokens), keeps=keeps, before=before)
        if submit.earlier:
            self._spend_credit(len(submit.wanted))
        if graph.objects and self._uses.refused:
            self._cancellation.fail_tasks_of_refused_objects()
        return graph.first_number

    def ask_credit(self, count: int) -> None:
        """Ask for permission to submit `count` tasks: all that wait for it, not so many more."""
        wanted = self.admission.ask(count)
        if wanted and self._connection.established:
            self._send(m.CreditRequest(wanted))

    def ask_workers(self, token: object) -> None:
        """Ask for a list of the connected workers. `WorkersListed` follows with the token, once a scheduler answers."""
        self._asked_workers.append(token)
        if self._connection.established:
            self._send(m.WorkerListRequest())

    def own_objects(self, object_ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return those of the objects that are this client's to delete; the others are results of jobs."""
        foreign = self._uses.foreign
        if not foreign:
            return object_ids
        own = tuple(object_id for object_id in object_ids if object_id not in foreign)
        foreign.difference_update(object_ids)
        return own

    def ask_job(self, token: object, request: m.JobRequest) -> None:
        """Ask the scheduler about jobs. `JobAnswered` follows with the token, once a scheduler answers.

        What was submitted before leaves before.
        """
        self.flush()
        self._asked_jobs[request.request] = (token, request)
        if self._holds_job_requests:
            self._send_job_requests()
        elif self._connection.established:
            self._send(request)

    def cancel(self, numbers: Collection[int]) -> list[int]:
        """Forget these tasks and stop them wherever they are; return those that were not answered before.

        `CancelConfirmed` follows for each, when it neither runs nor will start.
        """
        return self._cancellation.cancel(numbers)

    def withdraw(self, numbers: Sequence[int]) -> None:
        """Cancel those of these tasks that no worker has begun. Whoever waits for them is told; the others are answered as ever.

        Rows of graphs are passed over.
        """
        self._cancellation.withdraw(numbers)

    def cancel_from(self, number: int) -> None:
        """Cancel all unanswered tasks with this number or a greater one, and tell whoever waits for them."""
        self._cancellation.cancel_from(number)

    def fail_unsendable(self, envelope: Envelope, message: m.Message, text: str) -> m.Message:
        """A message cannot be written: fail the tasks in it, and return what to send in its place."""
        if not envelope.flags & SEQUENCED:
            return m.Heartbeat()
        filler = m.TaskCancel(self.client_id, ())
        self._connection.session.replace(envelope.sequence, filler)
        if isinstance(message, m.FunctionDefine):
            self._functions.defined.difference_update(message.ids)
        self._cancellation.fail(tasks_in(message, self._table), f"it cannot be sent: {text}")
        return filler

    def shut_down_cluster(self, reason: str) -> None:
        """Ask the scheduler to stop everything. It is the caller's business whether that is permitted."""
        self._asked_for_shutdown = True
        self._send(m.Shutdown(reason))

    def close(self, cause: effects.Cause, text: str) -> None:
        """Say goodbye. All unanswered tasks are abandoned."""
        if self.closed:
            return
        self.closed = True
        self._cancellation.give_up(cause, text, final=True, error=ClientQuitException(text))
        self._connection.close(text)
        self._session_changed()

    def scheduler_ended(self, text: str) -> None:
        """The cluster was shut down: nobody will answer any more, and no other scheduler comes. `text` says how."""
        if self._asked_for_shutdown:
            # Whoever asked for it closes this now, and says why its unanswered tasks end.
            self._goodbye = (math.inf, text)
        elif self.unusable is None:
            self._goodbye = None
            text = f"the cluster of the scheduler at {self._address} has ended: {text}"
            # Its running tasks have a moment left: they are not stopped from here.
            self._cancellation.disconnect(text, stop_tasks=False)
        self._session_deadline = None

    # --- what happens

    def handle(self, event: events.Event, now: float) -> None:
        """Take one event in; effects follow."""
        self._table.history.set_time(now)
        if isinstance(event, events.Incoming):
            message = event.message
            if type(message) is m.ResultBatch:
                self._on_results(event.envelope, message, now)
            else:
                self._on_incoming(event.envelope, message, now)
            self._sender.flush_or_hold(now)
            if self._holds_job_requests:
                self._send_job_requests()
        elif isinstance(event, events.Tick):
            for each in self._connection.tick(now):
                self._on_connection(each, now)
            if self._goodbye is not None and now >= self._goodbye[0]:
                text = self._goodbye[1]
                self._goodbye = None
                self._cancellation.disconnect(f"the scheduler at {self._address} has ended the session: {text}")
            if now >= self._table.history.next_due:
                self._end_overdue(now)
            self._session_changed()
            self._sender.flush_or_hold(now)
            if self._holds_job_requests:
                self._send_job_requests()
        elif isinstance(event, events.LinkRefused):
            self._refuse(event.reason)
        elif isinstance(event, events.ObjectFetched):
            self._answers.on_fetched(event.number, event.buffers, None)
        elif isinstance(event, events.ObjectFetchFailed):
            self._answers.on_fetched(event.number, event.text.encode(), event.status)
        else:
            if self._uses.counts[event.object_id]:
                self._uses.refused[event.object_id] = event.text
            self._cancellation.fail_tasks_of_refused_objects()

    def _on_results(self, envelope: Envelope, results: m.ResultBatch, now: float) -> None:
        # A message heard only makes deadlines later. So the known one is early enough.
        try:
            accepted = self._connection.accept(envelope, results, now)
        except SessionError as error:
            self._fail_session(error)
            return
        if self._connection.outgoing:
            self._send_outgoing()
        if accepted:
            self._answers.on_results(results)

    def _on_incoming(self, envelope: Envelope, message: m.Message, now: float) -> None:
        """Take in a message that may concern the session itself."""
        try:
            happenings = self._connection.receive(envelope, message, now)
        except SessionError as error:
            self._fail_session(error)
            return
        self._session_changed()
        for happened in happenings:
            self._on_connection(happened, now)
        self._session_changed()

    def _on_connection(self, event: ConnectionEvent, now: float) -> None:
        if isinstance(event, Received):
            self._on_message(event.message, now)
        elif isinstance(event, HeartbeatDue):
            self._connection.heartbeat(m.Heartbeat(latency_seconds=self._connection.latency_seconds), now)
        elif isinstance(event, Established):
            self._on_established(event)
        elif isinstance(event, AddressChanged):
            self._outbox.add(effects.MoveLink(event.address))
        elif isinstance(event, Lost):
            self._cancellation.disconnect(
                f"no answer from the scheduler at {self._address} for {event.silent_seconds:.1f} s"
            )
        else:
            self._refuse(event.reason)

    def _on_established(self, event: Established) -> None:
        self._goodbye = None
        self.admission.open()
        if event.resumed:
            self._outbox.add(effects.Connected(event.welcome, True))
            return
        self._functions.forget_session()
        asked = self.admission.begin_session(event.welcome)
        self._table.announce_again()
        # A scheduler that knows nothing of a cancelled task has nothing to confirm.
        self._endings.confirm(list(self._endings.unconfirmed))
        self._answers.ended_of_jobs.clear()
        self._outbox.add(effects.Connected(event.welcome, False))
        if asked:
            self.ask_credit(asked)
        for _ in self._asked_workers:
            if not self._send(m.WorkerListRequest()):
                return
        self._holds_job_requests = True
        self._leases.announce_again()
        self._outbox.add(effects.CreditArrived())

    def _send_job_requests(self) -> None:
        """Ask a scheduler that knows nothing of this client about jobs, behind what was submitted to them before."""
        if not self._connection.established or self._table.waiting_detached():
            return
        self._holds_job_requests = False
        for _, request in list(self._asked_jobs.values()):
            if not self._send(request):
                return

    def _on_message(self, message: m.Message, now: float) -> None:
        if isinstance(message, m.CreditGrant):
            self.admission.grant(message.count)
            self._outbox.add(effects.CreditArrived())
        elif isinstance(message, m.WorkerList):
            if self._asked_workers:
                self._outbox.add(effects.WorkersListed(self._asked_workers.popleft(), message))
        elif isinstance(message, m.JobReply):
            asked = self._asked_jobs.pop(message.request, None)
            if asked is not None:
                self._outbox.add(effects.JobAnswered(asked[0], message))
        elif isinstance(message, m.LockAnswer):
            self._leases.on_answer(message)
        elif isinstance(message, m.Output):
            self._outbox.add(effects.WriteOutput(message.number, message.stream, message.data, message.dropped_bytes))
        elif isinstance(message, m.TaskProgress):
            task = self._table.tasks.get(message.number)
            if task is not None:
                self._outbox.add(effects.Progressed(task.token, message.done, message.total, message.note))
        elif isinstance(message, m.Notice):
            self._outbox.add(effects.ShowNotice(message.level, message.text, message.kind))
        elif isinstance(message, m.Shutdown):
            self.scheduler_ended(message.text)
        elif isinstance(message, m.Goodbye) and self._goodbye is None:
            self._goodbye = (now + min(GOODBYE_GRACE_SECONDS, self._timeout_seconds), message.text)
        # Every other kind is not for clients; a scheduler of a later version may send it.

    # --- ends

    def _end_overdue(self, now: float) -> None:
        """Deadlines are over. The scheduler ends these tasks, and says what they did; where none answers, they end here."""
        history = self._table.history
        overdue = [entry for entry in history.take_overdue(now) if self._table.is_unanswered(entry[0])]
        if self._connection.is_silent(now):
            silent = now - self._connection.silent_since
            self._cancellation.end_overdue(
                overdue, f"the scheduler at {self._address} has not answered for {silent:.1f} s"
            )
        else:
            history.look_again(overdue, now + OVERDUE_SECONDS)

    def _refuse(self, reason: str) -> None:
        if self.closed:
            return
        text = f"the scheduler at {self._address} refuses this client: {reason}"
        self.closed = True
        self._cancellation.give_up(effects.Cause.REFUSED, text, final=True, error=ConnectionRefusedByScheduler(text))
        self._connection.close(text)
        self._session_changed()

    def _fail_session(self, error: SessionError) -> None:
        text = f"the session with the scheduler at {self._address} cannot go on: {error}"
        self.closed = True
        self._cancellation.give_up(effects.Cause.DISCONNECTED, text, final=True, error=DisconnectedError(text))
        self._connection.close(text)
        self._session_changed()

    # --- the session

    def _compute_deadline(self) -> float:
        deadline = self._connection.next_deadline()
        return deadline if self._goodbye is None else min(deadline, self._goodbye[0])

    def _session_changed(self) -> None:
        """Deadlines may have come nearer, and the connection may have something to send."""
        self._session_deadline = None
        self._send_outgoing()

    def _send_outgoing(self) -> None:
        outgoing = self._connection.outgoing
        if outgoing:
            for one in outgoing:
                self._outbox.add(one)
            outgoing.clear()

    def _send(self, message: m.Message) -> bool:
        """Send what must not be lost; False when that ended the session."""
        try:
            self._connection.send(message)
        except SessionError as error:
            self._fail_session(error)
            return False
        self._send_outgoing()
        return True

    def _stop(self, numbers: list[int], waiting_only: bool) -> None:
        """Tell the scheduler to stop tasks. Without a session there is nobody to be told."""
        if self._connection.established:
            for portion in portions_of(m.TaskCancel(self.client_id, numbers, waiting_only=waiting_only)):
                if not self._send(portion):
                    return
