"""The client's side of everything it and the scheduler agree on, without I/O.

    core = ClientCore(client_id, hello, timeout_seconds=60.0)
    core.start(now)
    number = core.submit(core.group(), function_id, payload, token=future)
    core.flush()
    core.handle(Incoming(envelope, message), now)
    for effect in core.take_effects(): …
    core.next_deadline()                                    # call handle(Tick(), now) then

A task is known by its number from `submit` until exactly one of these: it is in a `Completed`, in an `Abandoned`, or
it was given to `cancel`. While its answer is fetched from object storage it counts as unanswered. Tasks may be
submitted before the session stands; they leave when it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scaler.core import effects as e
from scaler.core.holdings import Credit, Functions, ObjectUses
from scaler.core.tasks import Graph, Task, TaskGroup, TaskTable
from scaler.core.unsendable import tasks_in
from scaler.errors import ClientQuitException, ConnectionRefusedByScheduler, DisconnectedError, ScalerError
from scaler_protocol.errors import SessionError
from scaler_protocol.payloads.framing import OBJECT
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.session import (
    Connection,
    ConnectionEvent,
    Established,
    HeartbeatDue,
    Lost,
    Received,
)
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried, Reported, reported_of
from scaler_protocol.wire.envelope import SEQUENCED, Envelope

OUTBOX_BYTES_MAX = 64 * 1024 * 1024
"""Unacknowledged bytes beyond which batches wait in this core instead of in the network's queues."""

WINDOW_TASKS = 50_000
"""Unanswered tasks the scheduler is given at most (graphs apart): half a second of work for the fastest scheduler."""

COMPANY_TASKS = 192
"""Waiting tasks that leave together at once."""

PIPELINE_TASKS = 512
"""While as many are under way, nobody runs dry when fewer than `COMPANY_TASKS` wait for company: see `flush_unhurried`."""

HOLD_SECONDS = 0.002
"""The longest such wait."""

GOODBYE_GRACE_SECONDS = 10.0
"""After the scheduler said goodbye: how long one may come back before unanswered tasks are given up."""


class ClientCore:
    """See the module. Single-threaded: the owner calls one method at a time."""

    def __init__(
        self,
        client_id: bytes,
        hello: m.Hello,
        *,
        address: str = "the scheduler",
        timeout_seconds: float = 60.0,
        heartbeat_seconds: float = 2.0,
    ) -> None:
        """`address` is for error messages. Silence longer than `timeout_seconds` ends every unanswered task."""
        self.client_id = client_id
        self.connection = Connection(hello, heartbeat_seconds=heartbeat_seconds, give_up_seconds=timeout_seconds)
        self.unusable: ScalerError | None = None
        """Raised by `submit`: why this client takes no tasks. None while it does."""
        self.closed = False
        self.table = TaskTable(client_id)
        self.functions = Functions(client_id)
        self.uses = ObjectUses()
        self.credit = Credit()
        self.fetching: dict[int, tuple[Task, e.Completed]] = {}
        """Answered tasks whose answer is an object: what `Completed` will say of them, without the payload."""
        self.cancelling: dict[int, tuple[bytes, ...]] = {}
        """Cancelled tasks of which no confirmation has come, with the objects they still use."""
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._goodbye: tuple[float, str] | None = None
        self._asked_for_shutdown = False
        self._window_full = False
        self._hold_until = math.inf
        self._effects: list[e.Effect] = []

    # --- what the owner looks at

    @property
    def established(self) -> bool:
        return self.connection.established

    @property
    def goodbye_text(self) -> str | None:
        """Why the scheduler said goodbye, or None while it has not."""
        return None if self._goodbye is None else self._goodbye[1]

    @property
    def takes_more(self) -> bool:
        """Whether tasks may be submitted, as many as one likes."""
        return self.unusable is None and self.credit.left is None

    @property
    def is_holding(self) -> bool:
        """Whether a few tasks wait a moment for more, until `next_deadline` at the latest: see `flush_unhurried`."""
        return self._hold_until < math.inf

    @property
    def unanswered_count(self) -> int:
        """Tasks that were submitted and not answered; wanted rows only where they are a graph's."""
        return len(self.table.tasks) + len(self.fetching)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, so that a task submitted now should leave at once."""
        return not self.table.tasks

    def take_effects(self) -> list[e.Effect]:
        """Return, and forget, what is to be done, in order."""
        outgoing = self.connection.outgoing
        effects = self._effects
        if outgoing:
            effects = [*outgoing, *effects] if effects else list(outgoing)
            outgoing.clear()
        self._effects = []
        return effects

    def next_deadline(self) -> float:
        """When `Tick` is due; infinity for never."""
        deadline = self.connection.next_deadline()
        if self._goodbye is not None:
            deadline = min(deadline, self._goodbye[0])
        return min(deadline, self._hold_until)

    # --- what the application wants

    def start(self, now: float) -> None:
        """Say hello."""
        self.connection.start(now)

    def define_function(self, function_id: bytes, body: bytes, name: str = "") -> None:
        """Make a function known, before the first task that names it. Doing it again costs nothing."""
        self.functions.add(function_id, body, name)

    def group(
        self,
        *,
        kind: int = m.TaskKind.CALL,
        depth: int = 0,
        capabilities: m.Capabilities = (),
        serializer: bytes = b"",
        flags: int = 0,
    ) -> TaskGroup:
        """Return what `submit` takes as its first argument; the same object for the same properties."""
        return self.table.group(kind, depth, capabilities, serializer, flags)

    def submit(
        self,
        group: TaskGroup,
        function: bytes,
        payload: bytes,
        objects: tuple[bytes, ...] = (),
        token: object = None,
        carried: Carried = (),
    ) -> int:
        """Take a task in and return its number; it leaves with the next `flush`.

        Each of `objects` must have been held (`hold_object`); the task takes that hold over. Raises `unusable`.
        Whether the scheduler permits one more task is asked with `may_submit` before.
        """
        if self.unusable is not None:
            # The same error is raised many times: without this its traceback would grow.
            raise self.unusable.with_traceback(None)
        number = self.table.take_number()
        self.take(number, new_tuple(Task, (group, function, payload, objects, token, carried)))
        return number

    def take(self, number: int, task: Task) -> None:
        """As `submit`, for a task whose number was taken before. Only while usable."""
        group = task.source
        numbers = group.pending.numbers  # type: ignore[union-attr]
        if numbers and number < numbers[-1]:
            # Threads may take numbers in one order and come here in another.
            group.pending.insert(number)  # type: ignore[union-attr]
        else:
            numbers.append(number)
        self.table.tasks[number] = task
        left = self.credit.left
        if left is not None:
            self.credit.left = left - 1
        if task.objects and self.uses.refused:
            self._fail_tasks_of_refused_objects()

    def message_ahead(self, number: int, task: Task, position: int = 0) -> tuple[Envelope, m.TaskBatch] | None:
        """Return the message `task` would leave in if it were submitted now, or None where others go before it.

        `position`: how many such messages have left that this core does not know of yet.
        Changes nothing: who sends it says so with `submit_ahead`, in order, before anything else happens to this core.
        """
        connection, table = self.connection, self.table
        session = connection.session
        group: TaskGroup = task.source  # type: ignore[assignment]
        pending = group.pending
        if (
            not connection.established
            or task.function not in self.functions.defined
            or group.serializer
            or len(pending.numbers) > pending.start
            or self.unusable is not None
            or self.credit.left is not None
            or session.outbox_bytes >= OUTBOX_BYTES_MAX
        ):
            return None
        return session.next_envelope(position), table.batch_of_one(group, number, task, group.flags)

    def submit_ahead(self, number: int, task: Task, message: m.TaskBatch) -> None:
        """Take in a task that has left already, in the message and envelope that `message_ahead` returned."""
        self.table.tasks[number] = task
        self.connection.session.sequence(message)

    def submit_graph(self, submit: m.GraphSubmit, tokens: Sequence[object]) -> int:
        """Take a graph in; return its first number. `tokens`: one per element of `submit.wanted`.

        `submit.first_number` is set here, unless its numbers were taken before. Each of `submit.objects` must have been held
        once per occurrence.
        """
        if self.unusable is not None:
            # The same error is raised many times: without this its traceback would grow.
            raise self.unusable.with_traceback(None)
        if not submit.first_number:
            submit.first_number = self.table.take_numbers(len(submit.payloads))
        graph = self.table.add_graph(submit, list(tokens))
        if graph.objects and self.uses.refused:
            self._fail_tasks_of_refused_objects()
        return graph.first_number

    def may_submit(self, count: int = 1) -> bool:
        """Whether the scheduler permits `count` more tasks. Where not: `ask_credit`, and wait for `CreditArrived`."""
        return self.credit.allows(count)

    def ask_credit(self, count: int) -> None:
        """Ask for permission to submit `count` tasks, all that wait for it together."""
        wanted = self.credit.ask(count)
        if wanted and self.established:
            self._send(m.CreditRequest(wanted))

    def flush(self) -> None:
        """Turn all waiting tasks into messages, unless the session does not stand or much is unacknowledged."""
        self._hold_until = math.inf
        connection = self.connection
        if not connection.established:
            return
        table, functions = self.table, self.functions
        while connection.session.outbox_bytes < OUTBOX_BYTES_MAX:
            waiting = table.next_batch(only_graphs=self._window_is_full())
            if waiting is None:
                return
            message, mark_left = waiting
            needed = (*message.functions, message.serializer) if message.serializer else message.functions
            if not functions.defined.issuperset(needed):
                definition = functions.definition(needed)
                if definition is not None and not self._send(definition):
                    return
            if not self._send(message):
                return
            mark_left()

    def flush_unhurried(self, now: float) -> None:
        """As `flush`, but a few tasks wait a moment for more while many are under way.

        Without this every batch of results would send off what little was submitted since the last: small batches of tasks
        make small batches of results, and each batch costs everybody on the way as much as dozens of tasks.
        """
        table = self.table
        waiting = table.waiting_count() if table.tasks else 0
        if not (waiting or table.graphs):
            self._hold_until = math.inf
            return
        if (
            0 < waiting < COMPANY_TASKS
            and len(table.tasks) - waiting >= PIPELINE_TASKS
            and now < self._hold_until
            and self.established
        ):
            if self._hold_until == math.inf:
                self._hold_until = now + HOLD_SECONDS
            return
        self.flush()

    def _window_is_full(self) -> bool:
        """Whether so many tasks have left unanswered that the others should wait here, where they take less room."""
        unanswered = len(self.table.tasks)
        if unanswered <= WINDOW_TASKS * 3 // 4:
            # Whatever of them waits, too few are under way.
            self._window_full = False
            return False
        under_way = unanswered - self.table.waiting_count()
        if under_way >= WINDOW_TASKS:
            self._window_full = True
        elif under_way <= WINDOW_TASKS * 3 // 4:
            # Not before: then many leave together, instead of one for each answer.
            self._window_full = False
        return self._window_full

    def cancel(self, numbers: Sequence[int]) -> list[int]:
        """Forget these tasks and stop them wherever they are; return those that were not answered before.

        `CancelConfirmed` follows for each, when it neither runs nor will start.
        """
        cancelled = []
        remote: list[int] = []
        confirmed: list[int] = []
        for number in numbers:
            task = self.table.tasks.pop(number, None)
            if task is None:
                if number in self.fetching:
                    self._drop_fetched([number])
                    cancelled.append(number)
                    confirmed.append(number)
                continue
            cancelled.append(number)
            source = task.source
            if isinstance(source, Graph):
                self._finish_graph_row(source, stop=remote)
            if self._has_left(number, task):
                remote.append(number)
                self.cancelling[number] = task.objects
            else:
                if not isinstance(source, Graph):
                    self.credit.give_back(1)
                confirmed.append(number)
                self._release(task.objects)
        if remote and self.established:
            self._send(m.TaskCancel(self.client_id, sorted(set(remote))))
        if confirmed:
            self._effects.append(e.CancelConfirmed(tuple(confirmed)))
        return cancelled

    def hold_object(self, object_id: bytes) -> None:
        """Count one more use of an object of this client: it is not deleted before `release_objects` or its task."""
        self.uses.hold(object_id)

    def fail_unsendable(self, envelope: Envelope, message: m.Message, text: str) -> m.Message:
        """A message cannot be written: fail the tasks in it, and return what to send in its place."""
        if not envelope.flags & SEQUENCED:
            return m.Heartbeat()
        filler = m.TaskCancel(self.client_id, ())
        self.connection.session.replace(envelope.sequence, filler)
        if isinstance(message, m.FunctionDefine):
            self.functions.defined.difference_update(message.ids)
        tasks = {number: self.table.tasks.pop(number) for number in tasks_in(message, self.table)}
        if tasks:
            tokens = [task.token for task in tasks.values()]
            reasons: list[e.Payload] = [f"it cannot be sent: {text}".encode("utf-8", "replace")] * len(tasks)
            self._effects.append(e.Completed(list(tasks), tokens, reasons, Reported([m.Status.NOT_RUN] * len(tasks))))
        for task in tasks.values():
            self._finish(task)
        return filler

    def release_objects(self, object_ids: Sequence[bytes]) -> None:
        """Undo one `hold_object` each; what nobody uses any more is deleted (`DeleteObjects`)."""
        self._release(object_ids)

    def shut_down_cluster(self, reason: str) -> None:
        """Ask the scheduler to stop everything. It is the caller's business whether that is permitted."""
        self._asked_for_shutdown = True
        self._send(m.Shutdown(reason))

    def close(self, cause: e.Cause, text: str) -> None:
        """Say goodbye. All unanswered tasks are abandoned."""
        if self.closed:
            return
        self.closed = True
        self._give_up(cause, text, final=True, error=ClientQuitException(text))
        self.connection.close(text)

    def scheduler_ended(self, text: str) -> None:
        """The cluster was shut down: nobody will answer any more, and no other scheduler comes. `text` says how."""
        if self._asked_for_shutdown:
            # Whoever asked for it closes this now, and has words of its own for what is unanswered.
            self._goodbye = (math.inf, text)
        elif self.unusable is None:
            self._goodbye = None
            text = f"the cluster of the scheduler at {self._address} has ended: {text}"
            # Its running tasks have a moment left: they are not stopped from here.
            self._disconnect(text, stop_tasks=False)

    # --- what happens

    def handle(self, event: e.Event, now: float) -> None:
        """Take one event in; effects follow."""
        if isinstance(event, e.Incoming):
            self._on_incoming(event, now)
            self.flush_unhurried(now)
        elif isinstance(event, e.Tick):
            for each in self.connection.tick(now):
                self._on_connection(each, now)
            if self._goodbye is not None and now >= self._goodbye[0]:
                text = self._goodbye[1]
                self._goodbye = None
                self._disconnect(f"the scheduler at {self._address} has ended the session: {text}")
            self.flush_unhurried(now)
        elif isinstance(event, e.ObjectFetched):
            self._on_fetched(event.number, event.buffers, None)
        elif isinstance(event, e.ObjectFetchFailed):
            self._on_fetched(event.number, event.text.encode(), event.status)
        else:
            if self.uses.counts[event.object_id]:
                self.uses.refused[event.object_id] = event.text
            self._fail_tasks_of_refused_objects()

    def _on_incoming(self, event: e.Incoming, now: float) -> None:
        message = event.message
        results = message if type(message) is m.ResultBatch else None
        happenings: Sequence[ConnectionEvent] = ()
        try:
            if results is None:
                # It has to do with the session itself, or may have.
                happenings = self.connection.receive(event.envelope, message, now)
            elif not self.connection.accept(event.envelope, results, now):
                results = None
        except SessionError as error:
            self._fail_session(error)
            return
        if results is not None:
            self._on_results(results)
        for happened in happenings:
            self._on_connection(happened, now)

    def _on_connection(self, event: ConnectionEvent, now: float) -> None:
        if isinstance(event, Received):
            self._on_message(event.message, now)
        elif isinstance(event, HeartbeatDue):
            self.connection.heartbeat(m.Heartbeat(latency_seconds=self.connection.latency_seconds), now)
        elif isinstance(event, Established):
            self._on_established(event)
        elif isinstance(event, Lost):
            self._disconnect(f"no answer from the scheduler at {self._address} for {event.silent_seconds:.1f} s")
        else:
            text = f"the scheduler at {self._address} refuses this client: {event.reason}"
            self.closed = True
            self._give_up(e.Cause.REFUSED, text, final=True, error=ConnectionRefusedByScheduler(text))

    def _on_established(self, event: Established) -> None:
        self._goodbye = None
        self.unusable = None
        if not event.resumed:
            self.functions.forget_session()
            asked = self.credit.begin_session(event.welcome)
            self.table.announce_again()
            # A scheduler that knows nothing of a cancelled task has nothing to confirm.
            self._confirm(list(self.cancelling))
            self._effects.append(e.Connected(event.welcome, False))
            if asked:
                self.ask_credit(asked)
            self._effects.append(e.CreditArrived())
        else:
            self._effects.append(e.Connected(event.welcome, True))

    def _on_message(self, message: m.Message, now: float) -> None:
        if isinstance(message, m.CreditGrant):
            self.credit.grant(message.count)
            self._effects.append(e.CreditArrived())
        elif isinstance(message, m.Output):
            self._effects.append(e.WriteOutput(message.number, message.stream, message.data, message.dropped_bytes))
        elif isinstance(message, m.Notice):
            self._effects.append(e.ShowNotice(message.level, message.text, message.kind))
        elif isinstance(message, m.Shutdown):
            self.scheduler_ended(message.text)
        elif isinstance(message, m.Goodbye) and self._goodbye is None:
            self._goodbye = (now + min(GOODBYE_GRACE_SECONDS, self._timeout_seconds), message.text)
        # Every other kind is not for clients; a scheduler of a later version may send it.

    # --- answers

    def _on_results(self, batch: m.ResultBatch) -> None:
        numbers = list(batch.numbers)
        pop = self.table.tasks.pop
        if len(numbers) == 1 and not len(batch.object_positions) and numbers[0] in self.table.tasks:
            self._on_lone_result(batch, pop(numbers[0]))
            return
        tasks = [pop(number, None) for number in numbers]
        payloads = batch.payloads.split()
        object_rows = set(batch.object_positions) if len(batch.object_positions) else None
        if object_rows is None and all(tasks):
            done: list[Task | None] = tasks
            completed = e.Completed(
                numbers,
                [],
                payloads,
                reported_of(batch),
            )
        else:
            known = self._sort_out(batch, numbers, tasks, payloads, object_rows or set())
            done = [tasks[row] for row in known]
            completed = _rows(batch, numbers, payloads, known)
        completed.tokens = [task.token for task in done if task is not None]
        if self.uses.counts or self.table.graphs:
            for task in done:
                if task is not None:
                    self._finish(task)
        if completed.tokens:
            self._effects.append(completed)

    def _on_lone_result(self, batch: m.ResultBatch, task: Task) -> None:
        """As `_on_results`, for the one answer a client with one task under way waits for: what latency consists of."""
        completed = e.Completed(
            [batch.numbers[0]],
            [task.token],
            [bytes(batch.payloads.data)],
            reported_of(batch),
        )
        if self.uses.counts or self.table.graphs:
            self._finish(task)
        self._effects.append(completed)

    def _sort_out(
        self,
        batch: m.ResultBatch,
        numbers: list[int],
        tasks: list[Task | None],
        payloads: list[bytes],
        object_rows: set[int],
    ) -> list[int]:
        """Return the rows that complete now: not those of cancelled tasks, nor those whose answer must be fetched."""
        known = []
        confirmed = []
        unwanted: list[bytes] = []
        for row, task in enumerate(tasks):
            number = numbers[row]
            payload = payloads[row]
            is_object = row in object_rows and payload[:1] == OBJECT
            if task is None:
                if number in self.cancelling:
                    confirmed.append(number)
                if is_object:
                    unwanted.append(payload[1:])
            elif is_object:
                self.fetching[number] = (task, _rows(batch, numbers, payloads, [row]))
                self._finish(task)
                self._effects.append(e.FetchObject(number, payload[1:]))
            else:
                known.append(row)
        self._confirm(confirmed)
        if len(batch.statuses) and unwanted:
            wanted = {bytes(completed.payloads[0][1:]) for _, completed in self.fetching.values()}  # type: ignore[arg-type]
            unwanted = [object_id for object_id in unwanted if object_id not in wanted]
        if unwanted:
            self._effects.append(e.DeleteObjects(tuple(unwanted)))
        return known

    def _on_fetched(self, number: int, payload: e.Payload, failure: m.Status | None) -> None:
        entry = self.fetching.pop(number, None)
        if entry is None:
            # Cancelled while it was fetched.
            return
        task, completed = entry
        stored = completed.payloads[0]
        assert isinstance(stored, bytes)
        completed.tokens.append(task.token)
        completed.payloads = [payload]
        if failure is not None:
            completed.reported = completed.reported._replace(statuses=[failure])
        self._effects.append(completed)
        if failure is None and not (len(completed.reported.statuses) and self._is_awaited(stored)):
            self._effects.append(e.DeleteObjects((stored[1:],)))

    def _is_awaited(self, stored: e.Payload) -> bool:
        """Whether other rows of a graph, which failed for the same reason, wait for the same object."""
        return any(other.payloads[0] == stored for _, other in self.fetching.values())

    def _confirm(self, numbers: Sequence[int]) -> None:
        if numbers:
            for number in numbers:
                self._release(self.cancelling.pop(number))
            self._effects.append(e.CancelConfirmed(tuple(numbers)))

    def _finish(self, task: Task) -> None:
        """A task is answered: what it used is free."""
        self._release(task.objects)
        if isinstance(task.source, Graph):
            self._finish_graph_row(task.source, stop=None)

    def _drop_fetched(self, numbers: Sequence[int]) -> None:
        """Nobody wants these answers any more, which are objects."""
        dropped = [self.fetching.pop(number)[1] for number in numbers]
        stored = dict.fromkeys(
            bytes(one.payloads[0][1:])  # type: ignore[arg-type]
            for one in dropped
            if not (len(one.reported.statuses) and self._is_awaited(one.payloads[0]))
        )
        if stored:
            self._effects.append(e.DeleteObjects(tuple(stored)))

    def _finish_graph_row(self, graph: Graph, stop: list[int] | None) -> None:
        """One wanted row is answered, or cancelled (`stop` then collects what has to be stopped with the last one)."""
        graph.unanswered -= 1
        if graph.unanswered:
            return
        del self.table.graphs[graph.first_number]
        self._release(graph.objects)
        if stop is not None and not graph.pending:
            stop.extend(range(graph.first_number, graph.first_number + graph.rows))

    # --- ends

    def _fail_session(self, error: SessionError) -> None:
        text = f"the session with the scheduler at {self._address} cannot go on: {error}"
        self.closed = True
        self._give_up(e.Cause.DISCONNECTED, text, final=True, error=DisconnectedError(text))
        self.connection.close(text)

    def _disconnect(self, text: str, *, stop_tasks: bool = True) -> None:
        """Give up what is unanswered, and go on trying: the client is usable again when a session stands."""
        outstanding: list[int] = []
        permitted = 0
        for number, task in self.table.tasks.items():
            if self._has_left(number, task):
                outstanding.append(number)
            elif not isinstance(task.source, Graph):
                permitted += 1
        # Should the session resume, the scheduler still counts on what it has permitted and never seen.
        self.credit.give_back(permitted)
        self._give_up(e.Cause.DISCONNECTED, text, final=False, error=DisconnectedError(text))
        if stop_tasks and outstanding and self.established:
            # Should the session resume after all, nobody waits for these any more.
            self.connection.send(m.TaskCancel(self.client_id, outstanding))

    def _give_up(self, cause: e.Cause, text: str, *, final: bool, error: ScalerError) -> None:
        self.unusable = error
        entries = [(number, task.token) for number, task in self.table.tasks.items()]
        entries += [(number, task.token) for number, (task, _) in self.fetching.items()]
        for task in self.table.tasks.values():
            self._release(task.objects)
        for graph in self.table.graphs.values():
            self._release(graph.objects)
        self.table.tasks.clear()
        self.table.graphs.clear()
        self._drop_fetched(list(self.fetching))
        for group in self.table.groups():
            group.pending.clear()
            group.again.clear()
        self._confirm(list(self.cancelling))
        self._effects.append(e.Unusable(cause, text, final))
        self._effects.append(e.CreditArrived())
        if entries:
            self._effects.append(e.Abandoned([n for n, _ in entries], [t for _, t in entries], cause, text))

    def _fail_tasks_of_refused_objects(self) -> None:
        """Fail what needs an object that storage would not take; what is already submitted is stopped."""
        refused = dict(self.uses.refused)
        if not refused:
            return
        victims: dict[int, tuple[Task, str]] = {}
        for number, task in self.table.tasks.items():
            named = task.source.objects if isinstance(task.source, Graph) else task.objects
            reason = next((refused[object_id] for object_id in named if object_id in refused), None)
            if reason is not None:
                victims[number] = (task, reason)
        if not victims:
            return
        self._effects.append(
            e.Completed(
                list(victims),
                [task.token for task, _ in victims.values()],
                [reason.encode() for _, reason in victims.values()],
                Reported([m.Status.STORAGE_FAILED] * len(victims)),
            )
        )
        self.cancel(list(victims))

    # --- inside

    def _has_left(self, number: int, task: Task) -> bool:
        if isinstance(task.source, Graph):
            return not task.source.pending
        return number not in task.source.pending

    def _release(self, object_ids: Sequence[bytes]) -> None:
        if object_ids:
            free = self.uses.release(object_ids)
            if free:
                self._effects.append(e.DeleteObjects(free))

    def _send(self, message: m.Message) -> bool:
        """Send what must not be lost; False when that ended the session."""
        try:
            self.connection.send(message)
        except SessionError as error:
            self._fail_session(error)
            return False
        return True


def _rows(batch: m.ResultBatch, numbers: list[int], payloads: list[bytes], rows: Sequence[int]) -> e.Completed:
    """Return the part of a batch that these rows are, without tokens."""

    return e.Completed(
        [numbers[row] for row in rows],
        [],
        [payloads[row] for row in rows],
        reported_of(batch).pick(rows),
    )


class InvariantError(AssertionError):
    """A client core contradicts itself."""


def check_invariants(core: ClientCore) -> None:
    """Raise InvariantError unless the core's collections agree with each other."""
    table = core.table
    numbers = set(table.tasks)
    for name, others in (("fetched", set(core.fetching)), ("being cancelled", set(core.cancelling))):
        if numbers & others:
            raise InvariantError(f"tasks {sorted(numbers & others)[:5]} are unanswered and {name}")
    waiting: list[int] = [number for group in table.groups() for number in (*group.pending, *group.again)]
    if len(waiting) != len(set(waiting)):
        raise InvariantError("a task waits twice to leave")
    for group in table.groups():
        for number in (*group.pending, *group.again):
            if number in numbers and table.tasks[number].source is not group:
                raise InvariantError(f"task {number} waits in a group that is not its own")
    _check_graphs(table)
    needed = sum(len(task.objects) for task in table.tasks.values())
    needed += sum(len(objects) for objects in core.cancelling.values())
    needed += sum(len(graph.objects) for graph in table.graphs.values())
    if needed > sum(core.uses.counts.values()):
        raise InvariantError("tasks name objects that are not held")
    if any(count <= 0 for count in core.uses.counts.values()):
        raise InvariantError("an object is kept that nobody uses")
    if core.unusable is not None and (numbers or core.fetching):
        raise InvariantError("a client that takes no tasks has unanswered ones")
    if core.closed and core.unusable is None:
        raise InvariantError("a closed client takes tasks")
    if math.isinf(core.next_deadline()) and (numbers or core.cancelling) and not core.closed:
        raise InvariantError("tasks are unanswered and no deadline bounds them")


def _check_graphs(table: TaskTable) -> None:
    wanted: dict[int, int] = {}
    for number, task in table.tasks.items():
        if isinstance(task.source, Graph):
            wanted[task.source.first_number] = wanted.get(task.source.first_number, 0) + 1
            if table.graphs.get(task.source.first_number) is not task.source:
                raise InvariantError(f"task {number} belongs to a graph that is gone")
    for first, graph in table.graphs.items():
        if wanted.get(first, 0) != graph.unanswered:
            raise InvariantError(f"graph {first}: {graph.unanswered} rows unanswered, {wanted.get(first, 0)} known")
