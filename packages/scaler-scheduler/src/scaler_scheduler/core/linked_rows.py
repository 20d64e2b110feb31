"""How linked tasks begin: which tasks of their client they need, and what is passed on to them from submitted graphs.

A task that is named becomes a row of `LinkedTasks`, wherever it is. One that is a row of a submitted graph stays that: it is
followed there, and has a stand-in among the linked tasks, which ends as the row does. Where its result is an object, the graph
has a reader more, until all linked tasks that need it are done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.task_lists import pack_numbers
from scaler_scheduler.core.graph_arrival import GraphArrival
from scaler_scheduler.core.graphs import Graph, ReleasedRow, RowResult, RowState
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.linked_tasks import LinkedTasks
from scaler_scheduler.core.recent_answers import RecentAnswers
from scaler_scheduler.core.records import AgentRecord, ClientRecord, TaskOptions
from scaler_scheduler.core.row_answers import answer_to_all
from scaler_scheduler.core.state import SchedulerState


class LinkedRows:
    """See the module. `GraphRows` moves the rows then, as those of other graphs."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle) -> None:
        self._outbox = state.outbox
        self._lifecycle = lifecycle

    def links_of(self, client: ClientRecord) -> LinkedTasks[AgentRecord, TaskOptions]:
        """Return the linked tasks of a client, which has some from now on."""
        links = client.links
        if links is None:
            links = client.links = LinkedTasks()
        if client.recent is None:
            client.recent = RecentAnswers()
        return links

    def may_need(self, number: int, options: TaskOptions) -> bool:
        """Whether a row may need this task, which becomes one of the linked tasks where it is none yet."""
        client = options.client
        links = self.links_of(client)
        if links.knows(number):
            return True
        task = client.tasks.get(number)
        graph = client.graph_of(number) if task is None else task.graph
        if graph is not None and self._follow(links, graph, number, options):
            return True
        if task is None or graph is not None:
            result = None if client.recent is None else client.recent.find(number)
            if result is not None:
                links.revive(number, result, options)
            return result is not None
        self._lifecycle.join(task, links)
        if task.options.runs_once:
            links.note_once([number])
        content = ReleasedRow(task.function, task.payload, task.objects, task.carried, 0, 0)
        links.join(number, task.options, content)
        return True

    def _follow(
        self,
        links: LinkedTasks[AgentRecord, TaskOptions],
        graph: Graph[AgentRecord] | GraphArrival,
        number: int,
        options: TaskOptions,
    ) -> bool:
        """A row of a submitted graph is needed. Return whether it has no answer yet."""
        row = number - graph.first_number
        result = None
        if isinstance(graph, Graph):
            result = graph.results.get(row)
            is_over = graph.states[row] == RowState.DONE and (result is None or row in graph.given)
            if is_over or graph.states[row] == RowState.FAILED:
                return False
        if result is not None and not result.objects:
            links.revive(number, result, options)
            return True
        graph.follow(row)
        links.stand_in(number, graph, options)
        if isinstance(graph, Graph) and result is not None:
            # It is done: its result goes to rows that come.
            links.revive(number, result, options, graph.holders[row])
        return True

    def pass_on(
        self, client: ClientRecord, graph: Graph[AgentRecord], row: int, result: RowResult
    ) -> tuple[Sequence[int], Sequence[bytes]]:
        """A row that is followed is done. Return the linked tasks that this releases, and objects nobody reads any more."""
        links = client.links
        assert links is not None
        released = links.complete_stand_in(graph.first_number + row, result, graph.holders.get(row, ()))
        # A small result has been copied, so that the graph may go.
        return released, () if result.objects else graph.unfollow(row)

    def ask_for_values(self, client: ClientRecord, message: m.GraphSubmit, unknown: Sequence[int]) -> None:
        """The client is to submit these rows anew, with the values of tasks that are not known any more."""
        numbers = [message.first_number + row for row in message.wanted]
        first = message.first_number
        self._lifecycle.forget_failures(client, range(first, first + len(message.payloads)))
        self._outbox.send(client, answer_to_all(client.id, numbers, m.Status.SKIPPED, pack_numbers(unknown)))

    def end_unclaimed(self, client: ClientRecord, message: m.GraphSubmit, text: bytes) -> None:
        """These rows came back after a restart, no agent has them, and they may not run a second time."""
        numbers = [message.first_number + row for row in message.wanted]
        self._lifecycle.forget_failures(client, numbers)
        self._outbox.send(client, answer_to_all(client.id, numbers, m.Status.WORKER_DIED, text))

    def note_answer(self, client: ClientRecord, answer: m.ResultBatch) -> None:
        """The client is sent this: it may name these tasks soon."""
        if client.recent is None:
            client.recent = RecentAnswers()
        client.recent.note(answer)

    def forget(self, client: ClientRecord, rows: Iterable[int]) -> None:
        """Forget those of these linked tasks that are over and that nobody reads any more."""
        if client.links is not None:
            client.links.forget(rows)
            if not client.links.states:
                client.links = None

    def forget_recent(self, client: ClientRecord) -> None:
        """A client without tasks names none of those it was answered: the answers have arrived by now."""
        if client.recent is not None and not client.tasks and client.links is None:
            client.recent = None

    def forget_all(self, client: ClientRecord) -> None:
        """The client is gone."""
        client.links = None
