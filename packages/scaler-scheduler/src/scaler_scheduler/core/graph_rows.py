"""Graphs in motion: their rows become tasks, finish or fail, and the client gets the results it wants."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import NamedTuple

from scaler_protocol.errors import SessionError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import NOTHING_REPORTED, Reported, reported_of
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.dispatch import Dispatch
from scaler_scheduler.core.graph_arrival import STEP_ROWS, GraphArrival
from scaler_scheduler.core.graphs import FailedRows, Graph, RowResult, RowState
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.linked_rows import LinkedRows
from scaler_scheduler.core.linked_tasks import LinkedTasks
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task, TaskOptions, TaskState
from scaler_scheduler.core.recovery import NAMED, Claim, is_answer, status_of
from scaler_scheduler.core.row_answers import WAITED_FOR_AGENTS, RowAnswers, answer_to_all, batch_of, overdue_text
from scaler_scheduler.core.state import SchedulerState

WORK_PER_TURN = 5000
"""Of making a graph ready, how much is done at once: rows and dependencies looked at."""

FAILING_PER_TURN = 1000
"""Of the rows that end because one has failed, so many are looked at in a turn, which takes about 2 ms."""

FAILING_STEP = 250
"""As many of one failure, while others wait."""

ROOT_ROWS = 500
"""Rows that are looked at in one step of beginning a graph."""

ROOT_WORK = 10
"""Making a task of a row is so much work."""


class _Beginning(NamedTuple):
    """A graph of which all portions are here."""

    client: ClientRecord
    steps: Iterator[int]
    """Does a little of what is left with each element, which says how much that was."""


class _Ended:
    """Tasks that a failure has ended and whose client has still to be told."""

    __slots__ = ("numbers", "parts")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.parts = 1
        """Graphs in which it goes on."""


NOT_RUN_AGAIN = b"it may have begun before the scheduler was restarted, and is not run again (idempotent=False)"


class _Failure(NamedTuple):
    """A row that has failed, while what needs it ends too. What follows it elsewhere has one of its own."""

    client: ClientRecord
    graph: Graph[AgentRecord]
    status: m.Status
    payload: bytes
    attempt: int
    objects: Sequence[bytes]
    """Named by the payload, at most one."""
    failed: FailedRows
    ended: _Ended


class _Unneeded(NamedTuple):
    """Rows that only those needed that have ended: they end too."""

    client: ClientRecord
    graph: Graph[AgentRecord]
    rows: deque[int]
    is_cancellation: bool
    """Whether those were cancelled. Only then what agents have is stopped."""


class GraphRows:
    """Works on the graphs of clients. `Graph` keeps the rows of one, `TaskLifecycle` the tasks they become."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle) -> None:
        self.agents_are_back_at = state.started_at + state.config.recovery_grace_seconds
        self.held: dict[GraphArrival, TaskOptions] = {}
        """Graphs of an earlier scheduler that wait until then, or until their deadline. Call `begin_held` while there are any."""
        self._beginning: deque[_Beginning] = deque()
        """They take turns."""
        self.taking_up: dict[Graph[AgentRecord], ClientRecord] = {}
        """Those of which it is not known yet what agents have, and have sent, or whose deadline was over then: until their rows
        have ended. So long they release no row, and no deadline ends one for which there is no task."""
        self.adopting: dict[Graph[AgentRecord], ClientRecord] = {}
        """Graphs of which agents have rows that may come back, and for whose inputs others would have to run then."""
        self._options: dict[Graph[AgentRecord], TaskOptions] = {}
        """Of submitted graphs that are not over: what the tasks of their rows share."""
        self._failing: deque[_Failure] = deque()
        """Of which rows have still to end. They take turns."""
        self._failing_left = FAILING_PER_TURN
        """How many rows may still be looked at in this turn."""
        self._unneeded: deque[_Unneeded] = deque()
        """They take turns with what fails."""
        self._now = 0.0
        """When graphs were last worked on."""
        self._outbox = state.outbox
        self._functions = state.functions
        self._marks = state.marks
        self._pressure = state.pressure
        self._log = state.monitor.graphs
        self._recovery = state.recovery
        self._lost_attempts = state.lost_attempts
        self._lifecycle = lifecycle
        self._dispatch = Dispatch(state)
        self.linked = LinkedRows(state, lifecycle)
        self.forget_recent = self.linked.forget_recent
        self._answers = RowAnswers()
        self._holds_answers = False
        """Whether answers wait for others."""

    def take(
        self, message: m.GraphSubmit, options: TaskOptions, now: float, refusal: bytes = b"", due: float = inf
    ) -> None:
        """Take in a portion of a graph, which begins with the last one.

        The first one says `refusal`: why its rows do not run, if they do not; and `due`: when their deadline is over.
        """
        client = options.client
        if not message.first_row:
            # One that is not there as a whole was given up by its client.
            given_up = [arrival for arrival in client.arriving if not arrival.is_complete]
            client.arriving[:] = [arrival for arrival in client.arriving if arrival.is_complete]
            for arrival in given_up:
                whole = range(arrival.first_number, arrival.first_number + arrival.row_count)
                self._lifecycle.forget_failures(client, [n for n in client.retried_before if n in whole])
                for row in list(arrival.followed):
                    number = arrival.first_number + row
                    if _stands_in(client, number):
                        self._fail_stand_in(client, number, m.Status.CANCELED, b"", 0, (), _Ended(), now)
            client.arriving.append(GraphArrival(message, refusal, due))
        if not client.arriving or client.arriving[-1].first_number != message.first_number:
            raise SessionError(f"a portion of graph {message.first_number}, of which the first one has not come")
        arrival = client.arriving[-1]
        arrival.take(message)
        if arrival.is_complete:
            if arrival.is_reannounced and now < min(self.agents_are_back_at, arrival.due):
                self.held[arrival] = options
                return
            self._beginning.append(_Beginning(client, self._begin(arrival, options)))
            # A small one is ready at once.
            self.go_on(now)

    def begin_held(self, now: float) -> None:
        """Agents have had the time to say what they have of graphs: these begin."""
        if now >= self.agents_are_back_at:
            for arrival in list(self.held):
                self._begin_held(arrival)

    def begin_overdue(self, arrival: GraphArrival) -> None:
        """The deadline of a graph is over that has not begun. It waits for agents no longer: what they have not claimed ends."""
        if arrival in self.held:
            self._begin_held(arrival)

    def _begin_held(self, arrival: GraphArrival) -> None:
        options = self.held.pop(arrival)
        self._beginning.append(_Beginning(options.client, self._begin(arrival, options)))

    def takes_up(self, client: ClientRecord) -> bool:
        """Whether a graph of a client has come again and not begun: what agents have of it has still to be looked for."""
        return any(options.client is client for options in self.held.values()) or any(
            one.client is client for one in self._beginning
        )

    @property
    def is_busy(self) -> bool:
        """Whether graphs are made ready, or rows have ended or have still to: call `end_turn`."""
        return bool(self._beginning or self._failing or self._unneeded) or self._failing_left < FAILING_PER_TURN

    def end_turn(self, now: float) -> None:
        """Do the next of what it takes to begin graphs and to end rows, not so much that others have to wait."""
        self.go_on(now)
        left = self._failing_left
        while self._failing and left > 0:
            failure = self._failing.popleft()
            self._failing_left = min(left, FAILING_STEP)
            left -= self._failing_left
            self._go_on_failing(failure, now)
            left += self._failing_left
            if not failure.failed.is_over:
                self._failing.append(failure)
        self._failing_left = left
        self._end_unneeded(now)
        self._failing_left = FAILING_PER_TURN

    def go_on(self, now: float) -> None:
        """Do the next of what it takes to begin graphs."""
        self._now = now
        work = 0
        while self._beginning and work < WORK_PER_TURN:
            done = next(self._beginning[0].steps, None)
            if done is None:
                self._beginning.popleft()
            else:
                self._beginning.rotate(-1)
                work += done

    def _begin(self, arrival: GraphArrival, options: TaskOptions) -> Iterator[int]:
        """Begin a graph. If an earlier scheduler knew it, agents may still hold tasks of it. Yields as `_Beginning` says."""
        client = options.client
        yield from arrival.build()
        graph: Graph[AgentRecord] = Graph(arrival)
        client.arriving.remove(arrival)
        client.graphs.append(graph)
        self._log.begin(graph, self._now)
        if client.links is not None:
            client.links.begin_graph(graph)
        self._options[graph] = options
        self.taking_up[graph] = client
        if options.runs_once:
            graph.let_run_once()
        for row in arrival.canceled:
            if graph.states[row] == RowState.WAITING:
                self.fail(client, graph, row, m.Status.CANCELED, b"", 0, self._now)
            yield ROOT_WORK
        if graph.is_reannounced:
            for start in range(0, graph.row_count, STEP_ROWS):
                rows = range(start, min(start + STEP_ROWS, graph.row_count))
                found = self._recover(client, graph, rows, options, arrival.due)
                yield len(rows) + ROOT_WORK * found
            # Until all agents are back, one of them may still have such a row.
            if options.runs_once and self._now >= self.agents_are_back_at:
                yield from self._fail_waiting(client, graph, m.Status.WORKER_DIED, lambda row: NOT_RUN_AGAIN)
        if arrival.refusal:
            yield from self._fail_waiting(client, graph, m.Status.GROUP_LIMIT, lambda row: arrival.refusal)
        yield from graph.end_unread()
        self._forget_failures(client, graph)
        self._deliver(client, graph, ())
        if self._now >= arrival.due:
            yield from self._fail_waiting(
                client, graph, m.Status.TIMED_OUT, lambda row: self._overdue_text(graph, row, options)
            )
        self.taking_up.pop(graph, None)
        while graph.has_unreleased_roots:
            roots = graph.release_roots(ROOT_ROWS)
            self.queue(graph, roots, options, self._now)
            yield ROOT_ROWS + ROOT_WORK * len(roots)

    def _fail_waiting(
        self, client: ClientRecord, graph: Graph[AgentRecord], status: m.Status, payload_of: Callable[[int], bytes]
    ) -> Iterator[int]:
        """All rows of a graph fail that have not been released. Yields as `_Beginning` says."""
        for start in range(0, graph.row_count, ROOT_ROWS):
            rows = range(start, min(start + ROOT_ROWS, graph.row_count))
            with self.answered_together():
                waiting = [row for row in rows if graph.states[row] == RowState.WAITING]
                for row in waiting:
                    if graph.states[row] == RowState.WAITING:
                        self.fail(client, graph, row, status, payload_of(row), 0, self._now)
            yield ROOT_ROWS + ROOT_WORK * len(waiting)

    def _overdue_text(self, graph: Graph[AgentRecord], row: int, options: TaskOptions) -> bytes:
        """Return the error of a row that has not been released when its deadline is over."""
        if graph.is_reannounced and self._now < self.agents_are_back_at:
            state = WAITED_FOR_AGENTS
        else:
            state = f"waited for {'other tasks' if graph.is_behind(row) else 'a worker'}"
        described = self._functions.described(graph.first_number + row, graph.function_of(row))
        return overdue_text(described, 0.0 if options.asks is None else options.asks.deadline_seconds, state)

    def _forget_failures(self, client: ClientRecord, graph: Graph[AgentRecord]) -> None:
        """Forget what an earlier scheduler has counted of rows that have ended, some of them without a task."""
        before = client.retried_before
        if before:
            self._lifecycle.forget_failures(client, [n for n in before if graph.has_ended(n - graph.first_number)])

    def link(self, message: m.GraphSubmit, options: TaskOptions, now: float) -> None:
        """Take in rows of which some need the results of tasks that the client submitted earlier.

        Where one of those is not known any more, its answer is on its way to the client, or an earlier scheduler has given it:
        then nothing is taken in, and the client is asked for the values.
        """
        client = options.client
        links = self.linked.links_of(client)
        # Its parts, and what an earlier scheduler left of it, are as in any submitted graph.
        arrival = GraphArrival(message)
        arrival.take(message)
        submitted: Graph[AgentRecord] = Graph(arrival)
        if submitted.is_reannounced:
            self._stop_earlier(client, submitted, range(submitted.row_count))
        if options.runs_once and submitted.is_reannounced:
            self.linked.end_unclaimed(client, message, NOT_RUN_AGAIN)
            self._forget(client, links, message.earlier)
            self._give_back(client)
            return
        unknown = [number for number in message.earlier if not self.linked.may_need(number, options)]
        if unknown:
            self.linked.ask_for_values(client, message, unknown)
            self._forget(client, links, message.earlier)
            self._give_back(client)
            return
        first, rows = submitted.first_number, submitted.row_count
        released = []
        for row in range(rows):
            needs = tuple(
                [first + one if one < rows else message.earlier[one - rows] for one in submitted.dependencies_of(row)]
            )
            content = submitted.content(row)
            if links.add(first + row, options, content, needs, wanted=bool(submitted.wanted[row])):
                released.append(first + row)
        if options.runs_once:
            links.note_once(range(first, first + rows))
        self.queue(links, released, options, now)

    def _recover(
        self, client: ClientRecord, graph: Graph[AgentRecord], rows: Iterable[int], options: TaskOptions, due: float
    ) -> int:
        """Take up what agents have of these rows since before this scheduler, and their results. Return how many that are.

        Agents stop what they have if the deadline is over, which it is when it is `due`.
        """
        found = 0
        overdue: list[Task] = []
        recovery = self._recovery
        with self.answered_together():
            for row in rows if recovery.has_some_of(client.id) else ():
                number = graph.first_number + row
                result = recovery.take_result(client.id, number)
                claim = recovery.take_claim(client.id, number)
                if result is None and claim is None:
                    continue
                found += 1
                is_waiting = graph.states[row] == RowState.WAITING
                if result is not None and is_waiting and is_answer(result, options.asks):
                    self._settle(client, graph, row, result, options)
                    if claim is not None:
                        # Another attempt of it.
                        self.stop(client, number, claim)
                    continue
                if result is not None:
                    self.free_objects(client, result.objects)
                if claim is not None and not is_waiting:
                    # Cancelled meanwhile, or it needs what was.
                    self.stop(client, number, claim)
                elif claim is not None:
                    graph.note_attempt(claim.attempt)
                    graph.take_over(row)
                    (task,) = self._lifecycle.enter_rows(graph, [row], options, self._now)
                    self._lifecycle.adopt(task, claim.agent, claim.attempt)
                    self.adopting[graph] = client
                    if self._now >= due:
                        overdue.append(task)
        self.stop_overdue(overdue)
        return found

    def stop_overdue(self, tasks: Iterable[Task]) -> None:
        """Have agents stop those of these tasks of one client that they have: their deadline is over."""
        to_agents: dict[AgentRecord, list[Task]] = {}
        for task in tasks:
            if task.agent is not None and not task.canceled:
                self._lifecycle.note_cancellation(task, overdue=True)
                to_agents.setdefault(task.agent, []).append(task)
        for agent, stopped in to_agents.items():
            self._dispatch.cancel(agent, stopped)

    def _settle(
        self,
        client: ClientRecord,
        graph: Graph[AgentRecord],
        row: int,
        batch: m.ResultBatch,
        options: TaskOptions,
    ) -> None:
        """Here is the result of a row that ran under an earlier scheduler."""
        payload, objects, attempt = bytes(batch.payloads.data), batch.objects, batch.attempts[0]
        status = status_of(batch)
        if status in NAMED:
            payload = f"{self._functions.described(batch.numbers[0], graph.content(row).function)}: ".encode() + payload
        if status is not m.Status.SUCCESS:
            self.fail(client, graph, row, status, payload, attempt, self._now, objects)
            return
        reported = reported_of(batch).pick([0]) if graph.wanted[row] else NOTHING_REPORTED
        object_bytes = batch.object_bytes[0] if objects and len(batch.object_bytes) else 0
        result = RowResult(payload, tuple(objects), reported, attempt, object_bytes)
        self._lifecycle.forget_failures(client, batch.numbers)
        self._ended_well(client, graph, row, result, graph.settle(row, result), options, self._now)

    def stop(self, client: ClientRecord, number: int, claim: Claim) -> None:
        """Nobody wants the attempt that an agent has claimed, of a task that its client has announced."""
        self._lifecycle.note_refused_attempt(client, number, claim.attempt)
        # It may be done all the same, and what it has made is deleted then.
        self._lost_attempts.note(claim.agent, client.id, number, claim.attempt)
        self._outbox.send(claim.agent, m.TaskCancel(client.id, [number], [claim.attempt]))

    def _stop_earlier(self, client: ClientRecord, graph: Graph[AgentRecord], rows: Iterable[int]) -> None:
        """All rows run anew: stop what agents still hold of them, and never give an attempt's number twice."""
        for row in rows:
            number = graph.first_number + row
            claim = self._recovery.take_claim(client.id, number)
            if claim is not None:
                self.stop(client, number, claim)

    def queue(self, graph: Graph[AgentRecord], rows: Sequence[int], options: TaskOptions, now: float) -> None:
        """Queue tasks for released rows."""
        if graph in self.taking_up:
            # Agents may have them, or their deadline is over.
            graph.release_later(rows)
        elif isinstance(graph, LinkedTasks):
            for shared, some in graph.by_shared(sorted(rows)).items():
                self._lifecycle.queue(self._lifecycle.enter_rows(graph, some, shared, now))
        elif rows:
            self._lifecycle.queue(self._lifecycle.enter_rows(graph, sorted(rows), options, now))

    def queue_again(self, graph: Graph[AgentRecord], rows: Sequence[int], now: float) -> None:
        """Queue tasks for rows that are released once more."""
        if rows and isinstance(graph, LinkedTasks):
            for shared, some in graph.by_shared(rows).items():
                self.queue(graph, some, shared, now)
        elif rows:
            self.queue(graph, rows, self._options[graph], now)

    def close_all(self, client: ClientRecord) -> None:
        """The client is gone."""
        self._log.drop(client)
        for graph in client.graphs:
            del self._options[graph]
        client.graphs.clear()
        self.linked.forget_all(client)
        client.arriving.clear()
        self.held = {arrival: options for arrival, options in self.held.items() if options.client is not client}
        self.taking_up = {graph: one for graph, one in self.taking_up.items() if one is not client}
        self.adopting = {graph: one for graph, one in self.adopting.items() if one is not client}
        self._beginning = deque(one for one in self._beginning if one.client is not client)
        self._failing = deque(one for one in self._failing if one.client is not client)
        self._unneeded = deque(one for one in self._unneeded if one.client is not client)

    def label_of(self, graph: Graph[AgentRecord], row: int) -> str:
        """Return the label of a row that has not ended; empty: it has none."""
        options = self._options.get(graph)
        if isinstance(graph, LinkedTasks):
            options = next(iter(graph.by_shared([row])), None)
        return "" if options is None or options.note is None else options.note.label

    def cancel(self, client: ClientRecord, numbers: Iterable[int], now: float, reason: bytes = b"") -> None:
        """Cancel rows that wait for their predecessors; any other number is passed over. `reason`: for the client."""
        ordered = sorted(set(numbers))
        links = client.links
        if links is not None:
            for number in ordered:
                if links.states[number] == RowState.WAITING:
                    self.fail(client, links, number, m.Status.CANCELED, reason, 0, now)
        for arrival in client.arriving:
            first = arrival.first_number
            here = ordered[bisect_left(ordered, first) : bisect_left(ordered, first + arrival.rows_here)]
            wanted = [number for number in here if arrival.cancel(number - first)]
            if wanted:
                self._outbox.send(client, answer_to_all(client.id, wanted, m.Status.CANCELED, reason))
        for graph in list(client.graphs):
            first = graph.first_number
            for number in ordered[bisect_left(ordered, first) : bisect_left(ordered, first + graph.row_count)]:
                if graph.states[number - first] == RowState.WAITING:
                    self.fail(client, graph, number - first, m.Status.CANCELED, reason, 0, now)

    def finish(
        self,
        task: Task,
        status: m.Status,
        agent: AgentRecord,
        batch: m.ResultBatch,
        row_in_batch: int,
        payload: bytes,
        objects: Sequence[bytes],
        now: float,
    ) -> list[int]:
        """The unassigned task of a row has ended. Return the rows this releases: the caller queues them, all at once.

        Only within `answered_together`.
        """
        graph, client = task.graph, task.options.client
        assert graph is not None
        row = task.number - graph.first_number
        self._lifecycle.drop(task, status, now, payload, agent.name, batch, row_in_batch)
        if status is not m.Status.SUCCESS:
            self.fail(client, graph, row, status, payload, task.attempt, now, objects)
            return []
        # Only the client reads the figures, and most rows are not for it.
        reported = reported_of(batch).pick([row_in_batch]) if graph.wanted[row] else NOTHING_REPORTED
        object_bytes = batch.object_bytes[row_in_batch] if objects and len(batch.object_bytes) else 0
        result = RowResult(payload, tuple(objects), reported, task.attempt, object_bytes)
        duration = batch.durations[row_in_batch] if len(batch.durations) else 0
        graph.note_made(task.function, objects)
        if objects:
            self._pressure.made_objects = True
            if graph.wanted[row]:
                # The client may keep it in storage, and name it in later tasks.
                client.places.note_made(objects, object_bytes, agent)
        released, freed = graph.complete(row, result, agent, duration)
        self._ended_well(client, graph, row, result, freed, task.options, now)
        return released

    def _ended_well(
        self,
        client: ClientRecord,
        graph: Graph[AgentRecord],
        row: int,
        result: RowResult,
        freed: Sequence[bytes],
        options: TaskOptions,
        now: float,
    ) -> None:
        """A row is done, and nobody reads `freed` any more: tell whoever waits for its result outside of its graph."""
        if freed:
            self.free_objects(client, freed)
        if row in graph.followed:
            to_links, freed_again = self.linked.pass_on(client, graph, row, result)
            self.free_objects(client, freed_again)
            assert client.links is not None
            self.queue(client.links, to_links, options, now)
        if graph.wanted[row] or graph.holders or not graph.unfinished or graph is client.links:
            # Objects its inputs consist of may have waited for this one to read them.
            self._now = now
            self._deliver(client, graph, (row, *graph.dependencies_of(row)))
            if graph is client.links:
                self._give_back(client)

    def fail(
        self,
        client: ClientRecord,
        graph: Graph[AgentRecord],
        row: int,
        status: m.Status,
        payload: bytes,
        attempt: int,
        now: float,
        objects: Sequence[bytes] = (),
    ) -> None:
        """A row failed, and its own task is dropped. The client is told for every wanted row that needed it.

        `objects` are those its payload names, at most one, where the failure is large: the client's to delete.
        """
        failed = graph.fail(row)
        self._begin_failing(_Failure(client, graph, status, payload, attempt, objects, failed, _Ended()), now)

    def _fail_stand_in(
        self,
        client: ClientRecord,
        number: int,
        status: m.Status,
        payload: bytes,
        attempt: int,
        objects: Sequence[bytes],
        ended: _Ended,
        now: float,
    ) -> None:
        """A row that linked tasks need has ended without a result: so do they."""
        links = client.links
        assert links is not None
        failed = links.fail_stand_in(number)
        self._begin_failing(_Failure(client, links, status, payload, attempt, objects, failed, ended), now)

    def _begin_failing(self, failure: _Failure, now: float) -> None:
        self._go_on_failing(failure, now)
        if not failure.failed.is_over:
            self._failing.append(failure)

    def _go_on_failing(self, failure: _Failure, now: float) -> None:
        """End the next rows of those that need the ones that have failed."""
        client, graph, status, payload, attempt, objects, failed, ended = failure
        self._failing_left = graph.fail_more(failed, self._failing_left)
        self.free_objects(client, failed.freed)
        for row in failed.rows:
            behind = client.tasks.get(graph.first_number + row)
            if behind is not None:
                # Its agent skips it, or runs it in vain where what failed is only the storing of this row's result.
                if behind.agent is not None:
                    self._lost_attempts.note(behind.agent, client.id, behind.number, behind.attempt)
                    self._lifecycle.unassign(behind)
                elif behind.state is TaskState.DELAYED:
                    # What it read was lost while it waits for its next attempt, or before, and will not come back.
                    self._lifecycle.withdraw(behind)
                self._lifecycle.drop(behind, m.Status.CANCELED, now, b"")
        # Rows that waited may have failed before, and come back.
        self._lifecycle.forget_failures(client, [graph.first_number + row for row in failed.rows])
        ended.numbers += [graph.first_number + row for row in failed.wanted]
        for number in [graph.first_number + row for row in failed.followed]:
            if _stands_in(client, number):
                ended.parts += 1
                self._fail_stand_in(client, number, status, payload, attempt, objects, ended, now)
        ended.parts -= failed.is_over
        if not objects:
            reported = Reported(statuses=[status])
            for number in ended.numbers:
                self._answers.add(client, number, RowResult(payload, (), reported, attempt))
            ended.numbers.clear()
        elif not ended.parts:
            self._answer_with_object(failure)
        inputs = {dependency for row in failed.rows for dependency in graph.dependencies_of(row)}
        self._now = now
        self._deliver(client, graph, sorted(inputs))
        if not self._holds_answers:
            self._send_answers()
        self._forget(client, graph, failed.rows)
        if failed.unneeded:
            is_cancellation = status is m.Status.CANCELED
            self._unneeded.append(_Unneeded(client, graph, deque(failed.unneeded), is_cancellation))
        failed.clear()
        self._give_back(client)
        # Linked tasks that wait count against their client's limit, and nothing is placed when they end.
        self._marks.credit_due = True

    def _end_unneeded(self, now: float) -> None:
        """End the next of the rows that nobody needs any more, and so, later, those that only they need."""
        to_agents: dict[AgentRecord, list[Task]] = {}
        with self.answered_together():
            while self._unneeded and self._failing_left > 0:
                client, graph, rows, is_cancellation = self._unneeded[0]
                if not rows:
                    self._unneeded.popleft()
                    continue
                row = rows.popleft()
                self._failing_left -= 1
                if not graph.is_unneeded(row):
                    # It has ended meanwhile, or a linked task needs it.
                    continue
                task = client.tasks.get(graph.first_number + row)
                if task is None or task.agent is None:
                    if task is not None:
                        self._lifecycle.withdraw(task)
                    self._end_unneeded_row(client, graph, row, task, now, is_cancellation=is_cancellation)
                elif is_cancellation and not task.canceled:
                    graph.note_stopped(row)
                    self._lifecycle.note_cancellation(task)
                    to_agents.setdefault(task.agent, []).append(task)
        for agent, tasks in to_agents.items():
            self._dispatch.cancel(agent, tasks)

    def take_stopped(self, task: Task) -> bool:
        """Return whether an unassigned task was stopped because nobody needed its row. Once for each: the caller ends it."""
        return task.graph is not None and task.graph.take_stopped(task.number - task.graph.first_number)

    def end_if_unneeded(self, task: Task, now: float) -> bool:
        """End an unassigned task if nobody needs its row. Return False if somebody does by now, as another result was lost."""
        assert task.graph is not None
        row = task.number - task.graph.first_number
        if not task.graph.is_unneeded(row):
            return False
        self._end_unneeded_row(task.options.client, task.graph, row, task, now, is_cancellation=True)
        return True

    def _end_unneeded_row(
        self,
        client: ClientRecord,
        graph: Graph[AgentRecord],
        row: int,
        task: Task | None,
        now: float,
        *,
        is_cancellation: bool,
    ) -> None:
        """End a row that nobody needs, and the task that stands for it, which no agent and no queue has."""
        if task is not None:
            self._lifecycle.drop(task, m.Status.CANCELED, now, b"")
        freed, unneeded = graph.end_unneeded(row, 0 if task is None else task.attempt)
        self._lifecycle.forget_failures(client, (graph.first_number + row,))
        self.free_objects(client, freed)
        self._now = now
        self._deliver(client, graph, sorted({*graph.dependencies_of(row)}))
        if not self._holds_answers:
            self._send_answers()
        self._forget(client, graph, (row,))
        if unneeded:
            self._unneeded.append(_Unneeded(client, graph, deque(unneeded), is_cancellation))
        self._give_back(client)
        self._marks.credit_due = True

    def _answer_with_object(self, failure: _Failure) -> None:
        """All that a large failure has ended is told in one message: the client deletes the object with it."""
        client, objects, numbers = failure.client, failure.objects, failure.ended.numbers
        count = len(numbers)
        if not count:
            self.free_objects(client, objects)
            return
        answer = m.ResultBatch(
            client.id,
            numbers,
            [failure.attempt] * count,
            Packed.of([failure.payload] * count),
            [failure.status] * count,
            object_positions=range(count),
            objects=(objects[0],) * count,
        )
        self._outbox.send(client, answer)

    def _deliver(self, client: ClientRecord, graph: Graph[AgentRecord], rows: Sequence[int]) -> None:
        """Answer with wanted results that may go now, and forget the graph when it is done. The caller sends the answers."""
        for row in rows:
            result = graph.read_by_client(row)
            if result is None:
                continue
            number = graph.first_number + row
            if client.recent is None:
                self._answers.add(client, number, result)
                continue
            # It may be named soon, and small ones are remembered.
            answer = batch_of(client.id, [(number, result)])
            client.recent.note(answer)
            self._outbox.send(client, answer)
        self._forget(client, graph, rows)
        if graph.finished and graph in client.graphs:
            client.graphs.remove(graph)
            # It may have ended before it has begun as a whole.
            self._forget_failures(client, graph)
            self._log.end(client, graph, self._now)
            del self._options[graph]
            self.adopting.pop(graph, None)

    @contextmanager
    def answered_together(self) -> Iterator[None]:
        """Rows that end meanwhile are answered in as few messages as possible, at the end."""
        self._holds_answers = True
        try:
            yield
        finally:
            self._holds_answers = False
            self._send_answers()

    def _send_answers(self) -> None:
        for client, batch in self._answers.take():
            self._outbox.send(client, batch)

    def _forget(self, client: ClientRecord, graph: Graph[AgentRecord], rows: Sequence[int]) -> None:
        if graph is client.links:
            self.linked.forget(client, rows)

    def _give_back(self, client: ClientRecord) -> None:
        """No linked task reads some results of graphs any more: they go to whoever still waits for them, or are deleted."""
        for number, graph in () if client.links is None else client.links.take_unread():
            row = number - graph.first_number
            self.linked.forget(client, [number])
            self.free_objects(client, graph.unfollow(row))
            if isinstance(graph, Graph):
                self._deliver(client, graph, (row,))
        if not self._holds_answers:
            self._send_answers()

    def free_objects(self, client: ClientRecord, objects: Sequence[bytes]) -> None:
        """Have objects of a client deleted that nobody reads any more."""
        if objects:
            self._outbox.to_store(m.ObjectDelete(0, client.id, tuple(objects)))


def _stands_in(client: ClientRecord, number: int) -> bool:
    """Whether linked tasks still need this row: the end of another one may have ended all that do."""
    return client.links is not None and client.links.stands_in(number)
