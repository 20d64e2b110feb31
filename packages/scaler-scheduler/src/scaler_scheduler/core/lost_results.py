"""Results that are lost with the store of a worker host: rows of graphs whose results are still needed run again.

A client keeps the payloads of no row, but a graph does, until it is over. So a row whose result is lost can run again, and so can
the rows before it whose results are dropped by now. Each loss counts as a failed attempt of the row.

A linked task whose inputs are not here any more is its client's to submit again: the client has their values.

Anything else that is lost ends with an error where it is read: a result that its client has.
"""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.runtime.counted import counted
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.task_lists import pack_numbers
from scaler_scheduler.core import events
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.graphs import Graph, RowState
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.records import AgentRecord, ClientRecord, TaskState
from scaler_scheduler.core.state import SchedulerState

GONE_AT_ONCE_MAX = 10_000
"""Most objects that one message to object storage names."""


class LostResults:
    """Looks for the rows whose results are lost, and has them run again."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle, rows: GraphRows) -> None:
        self._clients = state.clients
        self._outbox = state.outbox
        self._attempts_max = state.config.max_task_attempts
        self._lifecycle = lifecycle
        self._rows = rows

    def on_lost(self, event: events.ObjectsLost, now: float) -> None:
        """No store has these objects any more. Those that nobody needs are passed over, also if they are told twice."""
        lost = set(event.ids)
        for client in self._clients.values():
            for graph in list(client.all_graphs()):
                # Only rows whose results name objects have holders. What stands in for others follows them.
                rows = [
                    row
                    for row in graph.holders
                    if not lost.isdisjoint(graph.results[row].objects) and not graph.stands_in(row)
                ]
                if rows:
                    self._run_again(client, graph, rows, event, now)

    def on_store_replaced(self) -> None:
        """Tell the new object storage server which results an earlier one had: those that it has not, it need not wait for.

        They were stored before this scheduler heard of them. Those of tasks that are over their clients name.
        """
        gone = {
            object_id: None
            for client in self._clients.values()
            for graph in client.all_graphs()
            for row in graph.holders
            for object_id in graph.results[row].objects
        }
        ids = tuple(gone)
        for start in range(0, len(ids), GONE_AT_ONCE_MAX):
            self._outbox.to_store(m.ObjectsGone(ids[start : start + GONE_AT_ONCE_MAX]))

    def take_up_returned(self, now: float) -> None:
        """Rows that agents have had since before this scheduler may have come back: run what they need, for them to run."""
        for graph, client in list(self._rows.adopting.items()):
            for found in graph.take_needed_again():
                self._rows.free_objects(client, found.freed)
                for one in found.hopeless:
                    if graph.states[one] == RowState.WAITING:
                        number = graph.first_number + one
                        text = f"task {number} has to run again after a restart of the scheduler, and what it needs has failed"
                        self._rows.fail(client, graph, one, m.Status.MISSING_OBJECT, text.encode(), 0, now)
                self._rows.queue_again(graph, graph.release_again(found.rows), now)
            if not graph.with_inputs:
                self._rows.adopting.pop(graph, None)

    def _run_again(
        self,
        client: ClientRecord,
        graph: Graph[AgentRecord],
        lost: Sequence[int],
        event: events.ObjectsLost,
        now: float,
    ) -> None:
        ids = {row: graph.results[row].objects for row in lost}
        found = graph.lose(lost, self._attempts_max)
        # A host that comes back has them still.
        self._rows.free_objects(client, found.freed)
        self._outbox.log(
            "warning",
            f"{client.name}: {counted(len(lost), 'result')} {'was' if len(lost) == 1 else 'were'} lost with the store of "
            f"{event.host}; {counted(len(found.rows), 'row')} of a graph {'runs' if len(found.rows) == 1 else 'run'} again",
        )
        for row in found.rows:
            self._take_back(client, graph, row)
        links = client.links
        if links is not None and links is not graph:
            for row in graph.followed.intersection(lost):
                links.lose_stand_in(graph.first_number + row)
                self._take_back(client, links, graph.first_number + row)
        for row in found.hopeless:
            if graph.states[row] == RowState.WAITING:
                if (
                    graph is client.links
                    and graph.losses[row] < self._attempts_max
                    and not graph.may_run_once_only(row)
                ):
                    # The client has what it needs.
                    payload = pack_numbers(client.links.needs_of(row))
                    self._rows.fail(client, graph, row, m.Status.SKIPPED, payload, 0, now)
                    continue
                text = self._hopeless_text(graph, row, ids.get(row, ()), event.host)
                self._rows.fail(client, graph, row, m.Status.MISSING_OBJECT, text.encode(), 0, now)
        self._rows.queue_again(graph, graph.release_again(found.rows), now)

    def _take_back(self, client: ClientRecord, graph: Graph[AgentRecord], row: int) -> None:
        """What needs a row that runs again, and has not begun, waits for it."""
        for dependent in graph.dependents_of(row):
            if graph.states[dependent] == RowState.RELEASED:
                task = client.tasks[graph.first_number + dependent]
                # One that waits for its next attempt does so to the end, and then waits for the row if need be.
                if task.agent is None and task.state is not TaskState.DELAYED:
                    self._lifecycle.withdraw(task)
                    self._lifecycle.requeue(task)

    def _hopeless_text(self, graph: Graph[AgentRecord], row: int, objects: Sequence[bytes], host: str) -> str:
        number, losses = graph.first_number + row, graph.losses[row]
        if graph.may_run_once_only(row):
            return (
                f"task {number}: its result is needed again, as results were lost with the store of {host}, and it is not run "
                "again (idempotent=False)"
            )
        if losses < self._attempts_max:
            return (
                f"task {number}: its result is needed again, as results were lost with the store of {host}, and what it needs "
                "has failed"
            )
        return (
            f"task {number}: attempt {losses} of {self._attempts_max} failed; its result, object {objects[0].hex()}, was lost "
            f"with the store of {host}"
        )
