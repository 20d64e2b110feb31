"""Linked tasks after a restart: those that agents have run on, and results that came meanwhile count.

What an agent holds it has with its inputs, which this scheduler may not know: their tasks may have been answered before. So an
announced row waits until an agent claims it, or until nobody can any more; then it begins as a new one. A claimed row that comes
back without a result is its client's again, which submits it with the values.

Rows that come after others which wait do so too, for they may need them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from scaler_protocol.errors import SessionError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.task_lists import pack_numbers
from scaler_scheduler.core.graph_arrival import GraphArrival
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.graphs import Graph, ReleasedRow
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.limits import CLIENT_GRAPH_BYTES_MAX, CLIENT_TASKS_MAX
from scaler_scheduler.core.linked_tasks import LINKED_BYTES
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task, TaskOptions
from scaler_scheduler.core.recovery import NAMED, is_answer, status_of
from scaler_scheduler.core.state import SchedulerState

HELD_PER_TURN = 500
"""So many rows that have waited begin in a turn."""


class _Held:
    """What waits of one client."""

    __slots__ = ("messages", "size_bytes")

    def __init__(self) -> None:
        self.messages: deque[tuple[m.GraphSubmit, TaskOptions]] = deque()
        self.size_bytes = 0

    def append(self, message: m.GraphSubmit, options: TaskOptions) -> None:
        """These rows wait too."""
        self.messages.append((message, options))
        self.size_bytes += _size_of(message)

    def keep(self, messages: deque[tuple[m.GraphSubmit, TaskOptions]]) -> None:
        """Only these wait by now."""
        self.messages = messages
        self.size_bytes = sum(_size_of(message) for message, _ in messages)

    def popleft(self) -> tuple[m.GraphSubmit, TaskOptions]:
        """Return the first ones, which wait no more."""
        message, options = self.messages.popleft()
        self.size_bytes -= _size_of(message)
        return message, options


class LinkedRecovery:
    """See the module."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle, rows: GraphRows) -> None:
        self._clients = state.clients
        self._functions = state.functions
        self._recovery = state.recovery
        self._outbox = state.outbox
        self._lifecycle = lifecycle
        self._rows = rows
        self._linked = rows.linked
        self.ends_at = state.started_at + state.config.recovery_grace_seconds
        self.held: dict[ClientRecord, _Held] = {}
        """What waits, until `ends_at` at the latest. Call `go_on` each turn while there is anything here or in `adopting`."""
        self.adopting: dict[ClientRecord, None] = {}
        """Clients of which agents hold rows that this scheduler has no inputs for."""
        self.is_busy = False
        """Whether more may begin at once: call `go_on`."""

    def take(self, message: m.GraphSubmit, options: TaskOptions, now: float) -> None:
        """Take in rows that need earlier tasks. Raises SessionError where too many wait."""
        client = options.client
        held = self.held.get(client)
        if held is None:
            if not message.flags & m.TaskFlag.REANNOUNCED:
                self._rows.link(message, options, now)
                return
            held = self.held[client] = _Held()
        held.append(message, options)
        if len(held.messages) > CLIENT_TASKS_MAX or held.size_bytes > CLIENT_GRAPH_BYTES_MAX:
            raise SessionError(
                f"{len(held.messages)} tasks with earlier ones as arguments, of {held.size_bytes} bytes, wait"
            )
        self.go_on(now)

    def go_on(self, now: float) -> None:
        """Begin what need not wait any more, and give back what came back."""
        left = HELD_PER_TURN
        for client, held in list(self.held.items()):
            messages = held.messages
            if self._clients.get(client.id) is not client:
                messages.clear()
            while messages and left and (now >= self.ends_at or self._is_known(client, messages[0][0])):
                message, options = held.popleft()
                left -= 1
                self._begin(message, options, now)
            if not messages:
                del self.held[client]
        self.is_busy = not left
        for client in list(self.adopting):
            links = client.links
            if links is None or not links.has_adopted:
                del self.adopting[client]
                continue
            for number, needs in links.take_returned():
                # So do those that need it: by the time they ask for it, it has another number.
                payload = pack_numbers(needs)
                self._rows.fail(client, links, number, m.Status.SKIPPED, payload, 0, now)

    def cancel(self, client: ClientRecord, numbers: Sequence[int], reason: bytes = b"") -> None:
        """Cancel rows that wait here; any other number is passed over. `reason`: for the client."""
        held = self.held.get(client)
        if held is None:
            return
        canceled = set(numbers)
        kept: deque[tuple[m.GraphSubmit, TaskOptions]] = deque()
        for message, options in held.messages:
            mine = [row for row in message.wanted if message.first_number + row in canceled]
            if mine:
                message = replace(message, wanted=[row for row in message.wanted if row not in mine])
                numbers_here = [message.first_number + row for row in mine]
                self._lifecycle.forget_failures(client, numbers_here)
                self._answer_cancelled(client, numbers_here, reason)
                if not message.wanted:
                    self._stop(client, message)
                    continue
            kept.append((message, options))
        held.keep(kept)

    def _is_known(self, client: ClientRecord, message: m.GraphSubmit) -> bool:
        if not message.flags & m.TaskFlag.REANNOUNCED:
            return True
        last = message.first_number + len(message.payloads) - 1
        return len(message.wanted) == 1 and self._recovery.knows(client.id, last)

    def _begin(self, message: m.GraphSubmit, options: TaskOptions, now: float) -> None:
        client = options.client
        last = len(message.payloads) - 1
        number = message.first_number + last
        others = range(message.first_number, number)
        if (
            message.flags & m.TaskFlag.REANNOUNCED
            and list(message.wanted) == [last]
            and self._recovery.knows(client.id, number)
            and not any(self._recovery.knows(client.id, other) for other in others)
        ):
            result = self._recovery.take_result(client.id, number)
            if result is not None and is_answer(result, options.asks):
                self._answer_with(message, options, result, now)
                return
            if result is not None:
                self._rows.free_objects(client, result.objects)
            claim = self._recovery.take_claim(client.id, number)
            if claim is not None:
                links = self._linked.links_of(client)
                links.adopt(number, options, _content(message, last), tuple(message.earlier))
                if options.runs_once:
                    links.note_once([number])
                self.adopting[client] = None
                (task,) = self._lifecycle.enter_rows(links, [number], options, now)
                self._lifecycle.adopt(task, claim.agent, claim.attempt)
                return
        self._rows.link(message, options, now)

    def _answer_with(self, message: m.GraphSubmit, options: TaskOptions, result: m.ResultBatch, now: float) -> None:
        """An agent has sent the result before its client was back."""
        client = options.client
        content = _content(message, len(message.payloads) - 1)
        task = Task(result.numbers[0], content.function, content.payload, options)
        if status_of(result) in NAMED:
            text = f"{self._functions.described(task.number, task.function)}: ".encode() + bytes(result.payloads.data)
            result.payloads = Packed.of([text])
        self._lifecycle.enter(client, [task])
        self._lifecycle.drop(task, status_of(result), now, bytes(result.payloads.data))
        self._linked.note_answer(client, result)
        self._outbox.send(client, result)

    def _answer_cancelled(self, client: ClientRecord, numbers: list[int], reason: bytes) -> None:
        count = len(numbers)
        said = Packed.of([reason] * count)
        self._outbox.send(client, m.ResultBatch(client.id, numbers, [0] * count, said, [m.Status.CANCELED] * count))

    def _stop(self, client: ClientRecord, message: m.GraphSubmit) -> None:
        """Nobody wants these rows any more: stop what agents say they hold. Those that have yet to say so are told then."""
        numbers = range(message.first_number, message.first_number + len(message.payloads))
        self._lifecycle.forget_failures(client, numbers)
        for number in numbers:
            claim = self._recovery.take_claim(client.id, number)
            if claim is not None:
                self._lifecycle.note_refused_attempt(client, number, claim.attempt)
                self._outbox.send(claim.agent, m.TaskCancel(client.id, [number], [claim.attempt]))
            result = self._recovery.take_result(client.id, number)
            if result is not None:
                self._rows.free_objects(client, result.objects)


def _size_of(message: m.GraphSubmit) -> int:
    return LINKED_BYTES * len(message.payloads) + len(message.payloads.data)


def _content(message: m.GraphSubmit, row: int) -> ReleasedRow:
    arrival = GraphArrival(message)
    arrival.take(message)
    submitted: Graph[AgentRecord] = Graph(arrival)
    return submitted.content(row)
