"""When graphs began, and how the last ones ended: for monitors. A graph costs a few operations, its rows none."""

from __future__ import annotations

from collections import deque

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.graphs import Graph, RowState
from scaler_scheduler.core.records import AgentRecord, ClientRecord

ENDED_KEPT = 50
"""Ended graphs that monitors are told of."""


class GraphLog:
    """The graphs of all clients. Times are the scheduler's."""

    def __init__(self) -> None:
        self._began: dict[Graph[AgentRecord], float] = {}
        self._ended: deque[tuple[m.GraphStatus, float, float]] = deque(maxlen=ENDED_KEPT)

    def begin(self, graph: Graph[AgentRecord], now: float) -> None:
        """All of a graph is here."""
        self._began[graph] = now

    def end(self, client: ClientRecord, graph: Graph[AgentRecord], now: float) -> None:
        """A graph is over."""
        began = self._began.pop(graph, now)
        self._ended.append((status_of(client, graph), began, now))

    def drop(self, client: ClientRecord) -> None:
        """The client is gone, and with it its graphs that are not over."""
        for graph in client.graphs:
            self._began.pop(graph, None)

    def unfinished(self, client: ClientRecord, graph: Graph[AgentRecord], unix_offset: float) -> m.GraphStatus:
        """Return how far a graph is. `unix_offset`: what makes a Unix time of the scheduler's."""
        status = status_of(client, graph)
        began = self._began.get(graph)
        status.began_seconds = 0.0 if began is None else began + unix_offset
        return status

    def ended(self, unix_offset: float) -> tuple[m.GraphStatus, ...]:
        """Return the graphs that ended last, the newest last."""
        for status, began, now in self._ended:
            status.began_seconds, status.ended_seconds = began + unix_offset, now + unix_offset
        return tuple(status for status, _, _ in self._ended)


def status_of(client: ClientRecord, graph: Graph[AgentRecord]) -> m.GraphStatus:
    """Return how far a graph is, without times."""
    return m.GraphStatus(
        client=client.id,
        first_number=graph.first_number,
        rows=graph.row_count,
        waiting=graph.waiting,
        released=graph.unfinished - graph.waiting,
        done=graph.states.count(RowState.DONE),
        failed=graph.states.count(RowState.FAILED),
        held_results=len(graph.results),
    )
