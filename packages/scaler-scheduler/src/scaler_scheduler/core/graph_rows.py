"""Graphs in motion: their rows become tasks, finish or fail, and the client gets the results it wants."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import NOTHING_REPORTED, reported_of
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.graphs import Graph, RowResult, RowState
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task, TaskOptions
from scaler_scheduler.core.state import SchedulerState


class GraphRows:
    """Works on the graphs of clients. `Graph` keeps the rows of one, `TaskLifecycle` the tasks they become."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle) -> None:
        self._outbox = state.outbox
        self._recovery = state.recovery
        self._lost_attempts = state.lost_attempts
        self._lifecycle = lifecycle

    def open(self, graph: Graph[AgentRecord], options: TaskOptions, now: float) -> None:
        """Begin a submitted graph. If an earlier scheduler knew it, agents may still hold tasks of it."""
        client = options.client
        client.graphs.append(graph)
        if graph.is_reannounced:
            self._stop_earlier(client, graph)
        self.queue(graph, graph.release_roots(), options, now)

    def _stop_earlier(self, client: ClientRecord, graph: Graph[AgentRecord]) -> None:
        """All rows run anew: stop what agents still hold of them, and never give an attempt's number twice."""
        for number in range(graph.first_number, graph.first_number + graph.row_count):
            claim = self._recovery.take_claim(client.id, number)
            if claim is not None:
                graph.note_attempt(claim.attempt)
                self._outbox.send(claim.agent, m.TaskCancel(client.id, [number], [claim.attempt]))

    def queue(self, graph: Graph[AgentRecord], rows: Sequence[int], options: TaskOptions, now: float) -> None:
        """Queue tasks for released rows."""
        if rows:
            self._lifecycle.queue(self._lifecycle.enter_rows(graph, rows, options, now))

    def close_all(self, client: ClientRecord) -> None:
        """The client is gone."""
        client.graphs.clear()

    def cancel(self, client: ClientRecord, numbers: Iterable[int], now: float) -> None:
        """Cancel rows that wait for their predecessors; any other number is passed over."""
        ordered = sorted(set(numbers))
        for graph in list(client.graphs):
            first = graph.first_number
            for number in ordered[bisect_left(ordered, first) : bisect_left(ordered, first + graph.row_count)]:
                if graph.states[number - first] == RowState.WAITING:
                    self.fail(client, graph, number - first, m.Status.CANCELED, b"", 0, now)

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
        """The unassigned task of a row has ended. Return the rows this releases: the caller queues them, all at once."""
        graph, client = task.graph, task.options.client
        assert graph is not None
        row = task.number - graph.first_number
        self._lifecycle.drop(task, status, now, payload, agent.name, batch, row_in_batch)
        if status is not m.Status.SUCCESS:
            self.fail(client, graph, row, status, payload, task.attempt, now, objects)
            return []
        # Only the client reads the figures, and most rows are not for it.
        reported = reported_of(batch).pick([row_in_batch]) if graph.wanted[row] else NOTHING_REPORTED
        result = RowResult(payload, tuple(objects), reported, task.attempt)
        duration = batch.durations[row_in_batch] if len(batch.durations) else 0
        released, freed = graph.complete(row, result, agent, duration)
        if freed:
            self.free_objects(client, freed)
        if graph.wanted[row] or graph.holders or not graph.unfinished:
            # Objects its inputs consist of may have waited for this one to read them.
            self._deliver(client, graph, (row, *graph.dependencies_of(row)))
        return released

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
        self.free_objects(client, failed.freed)
        for later in failed.rows[1:]:
            behind = client.tasks.get(graph.first_number + later)
            if behind is not None:
                # Its agent skips it, or runs it in vain where what failed is only the storing of this row's result.
                if behind.agent is not None:
                    self._lost_attempts.note(behind.agent, behind)
                    self._lifecycle.unassign(behind)
                self._lifecycle.drop(behind, m.Status.CANCELED, now, b"")
        if failed.wanted:
            count = len(failed.wanted)
            self._outbox.send(
                client,
                m.ResultBatch(
                    client.id,
                    [graph.first_number + wanted for wanted in failed.wanted],
                    [attempt] * count,
                    Packed.of([payload] * count),
                    [status] * count,
                    object_positions=list(range(count)) if objects else (),
                    objects=(objects[0],) * count if objects else (),
                ),
            )
        else:
            self.free_objects(client, objects)
        inputs = {dependency for failed_row in failed.rows for dependency in graph.dependencies_of(failed_row)}
        self._deliver(client, graph, sorted(inputs))

    def _deliver(self, client: ClientRecord, graph: Graph[AgentRecord], rows: Iterable[int]) -> None:
        """Send wanted results that may go now, and forget the graph when it is done."""
        for row in rows:
            result = graph.read_by_client(row)
            if result is None:
                continue
            self._outbox.send(
                client,
                m.ResultBatch(
                    client.id,
                    [graph.first_number + row],
                    [result.attempt],
                    Packed.of([result.payload]),
                    object_positions=[0] * len(result.objects),
                    objects=result.objects,
                    **result.reported._asdict(),
                ),
            )
        if graph.finished and graph in client.graphs:
            client.graphs.remove(graph)

    def free_objects(self, client: ClientRecord, objects: Sequence[bytes]) -> None:
        """Have objects of a client deleted that nobody reads any more."""
        if objects:
            self._outbox.to_store(m.ObjectDelete(0, client.id, tuple(objects)))
