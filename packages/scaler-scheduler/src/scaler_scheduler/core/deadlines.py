"""Tasks that end at the time their client has set, wherever they are then: `deadline_seconds`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.answers import Answers
from scaler_scheduler.core.graph_arrival import GraphArrival
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.graphs import Graph, RowState
from scaler_scheduler.core.linked_recovery import LinkedRecovery
from scaler_scheduler.core.records import AgentRecord, ClientRecord, LineKey, Task
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.core.timers import PORTION
from scaler_scheduler.core.unservable import UnservableTasks

LOOK_AGAIN_SECONDS = 1.0
"""When tasks are looked for again that nobody needs so far, and that agents were told to stop."""


NO_TIMES: Mapping[int, float] = {}


class Deadlines:
    """Notes deadlines when tasks arrive, and ends what is not done in time."""

    def __init__(
        self,
        state: SchedulerState,
        rows: GraphRows,
        answers: Answers,
        linked_recovery: LinkedRecovery,
        unservable: UnservableTasks,
    ) -> None:
        self._clients = state.clients
        self._timers = state.timers
        self._marks = state.marks
        self._rows = rows
        self._answers = answers
        self._linked_recovery = linked_recovery
        self._unservable = unservable

    def note(
        self, client: ClientRecord, tasks: Iterable[Task], now: float, waited: Mapping[int, float] = NO_TIMES
    ) -> None:
        """Tasks have arrived, of which some may have a deadline. `waited`: how many seconds ago some were submitted."""
        by_seconds: dict[float, list[int]] = {}
        for task in tasks:
            asks = task.options.asks
            if asks is not None and asks.deadline_seconds:
                seconds = asks.deadline_seconds - waited.get(task.number, 0.0)
                by_seconds.setdefault(seconds, []).append(task.number)
        for seconds, numbers in by_seconds.items():
            self._timers.set_deadline(client.id, numbers, now + seconds)

    def note_rows(self, client: ClientRecord, numbers: range, due: float) -> None:
        """Rows have arrived, all of which are to end when it is `due`; `inf`: they have no deadline."""
        if due < inf:
            self._timers.set_deadline(client.id, numbers, due)

    def end_late(self, client: ClientRecord, tasks: Sequence[Task], now: float, waited: Mapping[int, float]) -> None:
        """End those of a client's new tasks whose deadline was over when they arrived, before any of them is queued."""
        late = []
        for task in tasks:
            asks = task.options.asks
            if asks is not None and 0 < asks.deadline_seconds <= waited.get(task.number, 0.0):
                late.append(task)
        if late:
            self._rows.stop_overdue(late)
            self._answers.end_late(
                [task for task in late if client.tasks.get(task.number) is task and not task.agent], now
            )
            # Others may submit what these would have kept waiting.
            self._marks.credit_due = True

    def end_overdue(self, now: float) -> bool:
        """End tasks whose deadline is over. Of very many, the next ones with each call: return whether that was all."""
        left = PORTION
        reasons: dict[LineKey, str] = {}
        with self._rows.answered_together():
            while left > 0:
                overdue = self._timers.take_overdue(now)
                if overdue is None:
                    return True
                client_id, numbers = overdue
                left -= len(numbers)
                client = self._clients.get(client_id)
                if client is not None:
                    self._end(client, numbers, now, reasons)
        return self._timers.next_overdue() > now

    def _end(self, client: ClientRecord, numbers: Sequence[int], now: float, reasons: dict[LineKey, str]) -> None:
        """End tasks of a client. `reasons`: what is known by now of why tasks wait."""
        at_agents: list[Task] = []
        not_ended: list[int] = []
        for number in numbers:
            task = client.tasks.get(number)
            if task is None:
                self._end_row(client, number, now)
            elif task.agent is None:
                line = task.options.line
                if line not in reasons:
                    reasons[line] = self._unservable.reason(line, now)
                text = self._answers.overdue(task, "waited", reasons[line])
                self._answers.withdraw(task, m.Status.TIMED_OUT, text, now)
            elif not task.canceled:
                at_agents.append(task)
            elif task.graph is not None and number - task.graph.first_number in task.graph.stopped:
                # Nobody needs it, so far.
                not_ended.append(number)
        self._rows.stop_overdue(at_agents)
        if not_ended:
            self._timers.set_deadline(client.id, not_ended, now + LOOK_AGAIN_SECONDS)

    def forget_ended(self) -> None:
        """Forget the deadlines of tasks that have ended, once they are many."""
        spans: dict[bytes, list[tuple[int, int]]] = {}

        def is_open(client_id: bytes, numbers: Sequence[int]) -> bool:
            client = self._clients.get(client_id)
            if client is None:
                return False
            tasks = client.tasks
            if (
                numbers[0] in tasks
                or client in self._linked_recovery.held
                or any(number in tasks for number in numbers)
            ):
                return True
            if client.links is not None and any(map(client.links.knows, numbers)):
                return True
            known = spans.get(client_id)
            if known is None:
                graphs: list[Graph[AgentRecord] | GraphArrival] = [*client.graphs, *client.arriving]
                known = spans[client_id] = sorted(
                    (graph.first_number, graph.first_number + graph.row_count) for graph in graphs
                )
            # Rows of a graph have entries of their own.
            place = bisect_right(known, (numbers[0], inf)) - 1
            return place >= 0 and numbers[0] < known[place][1]

        self._timers.forget_ended(is_open, lambda: sum(len(client.tasks) for client in self._clients.values()))

    def _end_row(self, client: ClientRecord, number: int, now: float) -> None:
        """End a row that no task stands for. What has not begun begins, to end or to be stopped where an agent has it."""
        where = client.graph_of(number)
        if where is None and client.links is not None and client.links.knows(number):
            # Looked for there last: what only stands in there for a row ends with that row.
            where = client.links
        if where is None:
            self._linked_recovery.begin_overdue(client, number, now)
        elif isinstance(where, GraphArrival):
            self._rows.begin_overdue(where)
        elif where not in self._rows.taking_up and where.states[number - where.first_number] == RowState.WAITING:
            row = number - where.first_number
            state = "a worker" if where.is_unreleased_root(row) else "other tasks"
            text = (
                f"task {number}: it was not done when its deadline was over (deadline_seconds); it waited for {state}"
            )
            self._rows.fail(client, where, row, m.Status.TIMED_OUT, text.encode(), 0, now)
