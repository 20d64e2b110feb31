"""What operators ask for: that tasks of others are cancelled. Their clients are told who did it.

Of very many tasks, some are looked at in each turn, so that nobody waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from scaler_protocol.ids import short
from scaler_protocol.runtime.counted import counted
from scaler_protocol.wire import messages as m
from scaler_scheduler.core.graph_arrival import GraphArrival
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.graphs import Graph, RowState
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task
from scaler_scheduler.core.sessions import Handler
from scaler_scheduler.core.shutdown import Shutdown
from scaler_scheduler.core.state import SchedulerState

BY_OPERATOR = b"cancelled by an operator"
"""The text of the error that the client's future has."""

LOOKED_PER_TURN = 5_000
"""So many tasks are looked at in one turn."""

REQUESTS_MAX = 100
"""Most requests that are under way."""


class _UnderWay(NamedTuple):
    sender: bytes
    message: m.CancelRequest
    looked_at: Iterator[tuple[ClientRecord, int | None]]
    """Clients and numbers; None where the next task is none of those that are meant."""


class OperatorRequests:
    """Finds the tasks that are meant. `ClientRequests` cancels them, as it does for their own clients."""

    def __init__(
        self,
        state: SchedulerState,
        rows: GraphRows,
        shutdown: Shutdown,
        cancel: Callable[[ClientRecord, m.TaskCancel, float, bytes], None],
    ) -> None:
        self._protected = state.config.protected
        self._clients = state.clients
        self._functions = state.functions
        self._outbox = state.outbox
        self._rows = rows
        self._shutdown = shutdown
        self._cancel = cancel
        self._under_way: deque[_UnderWay] = deque()
        self._counts: dict[tuple[bytes, int], int] = {}
        """Tasks that each request under way has cancelled, by sender and number."""
        self.handlers: Mapping[type[Any], Handler[ClientRecord]] = {m.CancelRequest: self._on_request}

    @property
    def is_busy(self) -> bool:
        """Whether `go_on` has something to do."""
        return bool(self._under_way)

    def _on_request(self, client: ClientRecord, message: m.CancelRequest, now: float) -> None:
        refusal = self._refusal(client, message)
        if refusal:
            self._outbox.send(client, m.CancelReply(message.request, error=refusal))
            return
        self._counts[client.id, message.request] = 0
        self._under_way.append(_UnderWay(client.id, message, self._looked_at(message)))

    def _refusal(self, client: ClientRecord, message: m.CancelRequest) -> str:
        if self._protected or not self._shutdown.may_be_asked_by(client.id):
            return "this scheduler is protected (--protected): nobody cancels tasks of others"
        if not (message.owner or message.function or message.label):
            return "the request names no client, function or label"
        if len(message.numbers) and not message.owner:
            return "the request names numbers of tasks, and not their client"
        if message.owner and message.owner not in self._clients:
            return f"no client {short(message.owner)} is connected"
        if len(self._under_way) >= REQUESTS_MAX or (client.id, message.request) in self._counts:
            return "too many requests are under way; try again"
        return ""

    def go_on(self, now: float) -> None:
        """Cancel the next tasks of the request that came first."""
        sender, message, looked_at = self._under_way[0]
        found: dict[ClientRecord, list[int]] = {}
        looked = 0
        for client, number in islice(looked_at, LOOKED_PER_TURN):
            looked += 1
            if number is not None and self._clients.get(client.id) is client:
                found.setdefault(client, []).append(number)
        for client, numbers in found.items():
            self._counts[sender, message.request] += len(numbers)
            self._cancel(client, m.TaskCancel(client.id, numbers), now, BY_OPERATOR)
        if looked < LOOKED_PER_TURN:
            self._under_way.popleft()
            self._answer(sender, message, self._counts.pop((sender, message.request)))

    def _answer(self, sender: bytes, message: m.CancelRequest, count: int) -> None:
        client = self._clients.get(sender)
        name = short(sender) if client is None else client.name
        self._outbox.log("info", f"{name} has cancelled {counted(count, 'task')} as an operator: {_described(message)}")
        if client is not None:
            self._outbox.send(client, m.CancelReply(message.request, count))

    def _looked_at(self, message: m.CancelRequest) -> Iterator[tuple[ClientRecord, int | None]]:
        owners = [self._clients.get(message.owner)] if message.owner else list(self._clients.values())
        for client in owners:
            if client is None:
                continue
            if len(message.numbers):
                yield from self._of_numbers(client, message)
            else:
                yield from self._tasks_of(client, message)
                yield from self._rows_of(client, message)

    def _of_numbers(self, client: ClientRecord, message: m.CancelRequest) -> Iterator[tuple[ClientRecord, int | None]]:
        for number in dict.fromkeys(message.numbers):
            yield client, number if self._is_unfinished(client, number, message) else None

    def _is_unfinished(self, client: ClientRecord, number: int, message: m.CancelRequest) -> bool:
        """Whether this task is not finished, nor cancelled already, and fits what else the request names."""
        task = client.tasks.get(number)
        if task is not None:
            return self._is_task_meant(message, task)
        graph = client.graph_of(number)
        if graph is None and client.links is not None and client.links.knows(number):
            graph = client.links
        if isinstance(graph, GraphArrival):
            return not (message.function or message.label)
        return graph is not None and self._is_row_meant(message, graph, number - graph.first_number)

    def _tasks_of(self, client: ClientRecord, message: m.CancelRequest) -> Iterator[tuple[ClientRecord, int | None]]:
        # Of those that wait, the newest first: otherwise workers would begin some while others are cancelled.
        for task in list(reversed(client.tasks.values())):
            yield client, task.number if self._is_task_meant(message, task) else None

    def _rows_of(self, client: ClientRecord, message: m.CancelRequest) -> Iterator[tuple[ClientRecord, int | None]]:
        """Rows of graphs that wait for others, and are no tasks yet."""
        for graph in list(client.all_graphs()):
            for row in list(graph.rows_in(RowState.WAITING)):
                yield client, graph.first_number + row if self._is_row_meant(message, graph, row) else None
        if not (message.function or message.label):
            for arrival in list(client.arriving):
                yield from ((client, arrival.first_number + row) for row in range(arrival.rows_here))

    def _is_task_meant(self, message: m.CancelRequest, task: Task) -> bool:
        label = "" if task.options.note is None else task.options.note.label
        return not task.canceled and self._is_meant(message, task.function, label)

    def _is_row_meant(self, message: m.CancelRequest, graph: Graph[AgentRecord], row: int) -> bool:
        return graph.states[row] == RowState.WAITING and self._is_meant(
            message, graph.function_of(row), self._rows.label_of(graph, row) if message.label else ""
        )

    def _is_meant(self, message: m.CancelRequest, function: bytes, label: str) -> bool:
        if message.label and message.label != label:
            return False
        return not message.function or message.function == self._functions.name(function)


def _described(message: m.CancelRequest) -> str:
    """Return which tasks are meant, for people."""
    parts = [f"of client {short(message.owner)}"] if message.owner else []
    if len(message.numbers):
        parts.append(
            "of number " + ", ".join(map(str, message.numbers[:5])) + (" …" if len(message.numbers) > 5 else "")
        )
    if message.function:
        parts.append(f"of function {message.function}")
    if message.label:
        parts.append(f"of label {message.label}")
    return ", ".join(parts)
