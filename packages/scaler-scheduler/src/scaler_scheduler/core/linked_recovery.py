"""Linked tasks after a restart: those that agents have run on, and results that came meanwhile count.

What an agent holds it has with its inputs, which this scheduler may not know: their tasks may have been answered before. So an
announced row waits until an agent claims it, or until nobody can any more; then it begins as a new one. A claimed row that comes
back without a result is its client's again, which submits it with the values.

Rows that come after others which wait do so too, for they may need them. At their deadline rows wait no longer: they end, but for
those that an agent has claimed, which it is told to stop then, or of which it has sent the result.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

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
from scaler_scheduler.core.row_answers import WAITED_FOR_AGENTS, answer_to_all, overdue_text
from scaler_scheduler.core.state import SchedulerState

HELD_PER_TURN = 500
"""So many rows that have waited begin in a turn."""


class _Rows(NamedTuple):
    """The rows of one message."""

    message: m.GraphSubmit
    options: TaskOptions
    due: float
    """When their deadline is over; `inf`: they have none."""

    @property
    def size_bytes(self) -> int:
        return LINKED_BYTES * len(self.message.payloads) + len(self.message.payloads.data)


class _Held:
    """What waits of one client."""

    __slots__ = ("overdue", "size_bytes", "waiting", "wide")

    def __init__(self) -> None:
        self.waiting: OrderedDict[int, _Rows] = OrderedDict()
        """By the number of the first row, in the order in which they came."""
        self.overdue: deque[_Rows] = deque()
        """Those whose deadline is over: they begin as soon as there is time."""
        self.wide: dict[int, None] = {}
        """Those of `waiting`, by their numbers, that are several rows."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.overdue)

    def append(self, rows: _Rows) -> None:
        """These rows wait too. Of several messages with the same number, a mistake of their client, the first one stands."""
        number = rows.message.first_number
        if self.waiting.setdefault(number, rows) is rows:
            self.size_bytes += rows.size_bytes
            if len(rows.message.payloads) > 1:
                self.wide[number] = None

    def note_overdue(self, number: int, now: float) -> None:
        """The deadline of a task is over. A message whose first row it is waits no longer."""
        rows = self.waiting.get(number)
        if rows is not None and now >= rows.due:
            del self.waiting[number]
            self.wide.pop(number, None)
            self.overdue.append(rows)

    def replace(self, rows: _Rows, by: _Rows | None) -> None:
        """Rows that wait have changed; None: they wait no more."""
        number = rows.message.first_number
        if by is not None:
            self.waiting[number] = by
        else:
            del self.waiting[number]
            self.wide.pop(number, None)
            self.size_bytes -= rows.size_bytes

    def put_back(self, rows: _Rows) -> None:
        """Rows whose deadline is over have changed, and begin after the others."""
        self.overdue.append(rows)
        self.size_bytes += rows.size_bytes

    @property
    def first(self) -> _Rows:
        """Those of `waiting` that have waited longest."""
        return next(iter(self.waiting.values()))

    def popleft(self) -> _Rows:
        """Return the first ones, which wait no more: of those whose deadline is over, else of all."""
        rows = self.overdue.popleft() if self.overdue else self.waiting.popitem(last=False)[1]
        self.wide.pop(rows.message.first_number, None)
        self.size_bytes -= rows.size_bytes
        return rows


class LinkedRecovery:
    """See the module."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle, rows: GraphRows) -> None:
        self._clients = state.clients
        self._functions = state.functions
        self._recovery = state.recovery
        self._outbox = state.outbox
        self._marks = state.marks
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

    def take(self, message: m.GraphSubmit, options: TaskOptions, now: float, due: float = inf) -> None:
        """Take in rows that need earlier tasks, and that are to end when it is `due`. Raises SessionError where too many wait."""
        client = options.client
        held = self.held.get(client)
        if held is None:
            if not message.flags & m.TaskFlag.REANNOUNCED:
                self._rows.link(message, options, now)
                return
            held = self.held[client] = _Held()
        held.append(_Rows(message, options, due))
        if len(held) > CLIENT_TASKS_MAX or held.size_bytes > CLIENT_GRAPH_BYTES_MAX:
            raise SessionError(f"{len(held)} tasks with earlier ones as arguments, of {held.size_bytes} bytes, wait")
        held.note_overdue(message.first_number, now)
        self.go_on(now)

    def begin_overdue(self, client: ClientRecord, number: int, now: float) -> None:
        """The deadline of a task is over, which may wait here: it waits no longer. Call `go_on`."""
        held = self.held.get(client)
        if held is not None:
            held.note_overdue(number, now)

    def go_on(self, now: float) -> None:
        """Begin what need not wait any more, and give back what came back."""
        left = HELD_PER_TURN
        for client, held in list(self.held.items()):
            if self._clients.get(client.id) is not client:
                del self.held[client]
                continue
            while held and left and (held.overdue or now >= self.ends_at or self._is_known(client, held.first)):
                left -= 1
                self._begin(held.popleft(), now)
            if not held:
                del self.held[client]
        self.is_busy = not left and bool(self.held)
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
        canceled = dict.fromkeys(numbers)
        for number in [*(number for number in canceled if number in held.waiting), *held.wide]:
            rows = held.waiting.get(number)
            if rows is not None:
                held.replace(rows, self._without(rows, canceled, reason))
        for _ in range(len(held.overdue)):
            left = self._without(held.popleft(), canceled, reason)
            if left is not None:
                held.put_back(left)

    def _without(self, rows: _Rows, canceled: Collection[int], reason: bytes) -> _Rows | None:
        """Return these rows without those of them that are cancelled; None: none is wanted any more."""
        message, client = rows.message, rows.options.client
        mine = {row for row in message.wanted if message.first_number + row in canceled}
        if not mine:
            return rows
        numbers = [message.first_number + row for row in sorted(mine)]
        self._lifecycle.forget_failures(client, numbers)
        self._outbox.send(client, answer_to_all(client.id, numbers, m.Status.CANCELED, reason))
        message = replace(message, wanted=[row for row in message.wanted if row not in mine])
        if message.wanted:
            return rows._replace(message=message)
        self._stop(client, message)
        return None

    def _is_known(self, client: ClientRecord, rows: _Rows) -> bool:
        message = rows.message
        if not message.flags & m.TaskFlag.REANNOUNCED:
            return True
        last = message.first_number + len(message.payloads) - 1
        return len(message.wanted) == 1 and self._recovery.knows(client.id, last)

    def _begin(self, rows: _Rows, now: float) -> None:
        message, options, due = rows
        client = options.client
        last = len(message.payloads) - 1
        number = message.first_number + last
        others = range(message.first_number, number)
        is_reannounced = bool(message.flags & m.TaskFlag.REANNOUNCED)
        if (
            is_reannounced
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
                if now >= due:
                    self._rows.stop_overdue([task])
                return
        # Of those that may not run twice it is certain by then that no agent has them.
        is_lost = is_reannounced and options.runs_once and now >= self.ends_at
        if now < due or is_lost:
            self._rows.link(message, options, now)
            return
        self._stop(client, message)
        state = WAITED_FOR_AGENTS if is_reannounced and now < self.ends_at else "waited for other tasks"
        self._end_overdue(message, options, state)

    def _end_overdue(self, message: m.GraphSubmit, options: TaskOptions, state: str) -> None:
        """Answer rows that have not begun when their deadline is over; `state` says what they did."""
        client, functions, indexes = options.client, message.functions, message.function_indexes
        seconds = 0.0 if options.asks is None else options.asks.deadline_seconds
        numbers = [message.first_number + row for row in message.wanted]
        texts = []
        for row, number in zip(message.wanted, numbers, strict=True):
            function = functions[indexes[row] if len(indexes) else 0]
            texts.append(overdue_text(self._functions.described(number, function), seconds, state))
        count = len(numbers)
        statuses = [m.Status.TIMED_OUT] * count
        self._outbox.send(client, m.ResultBatch(client.id, numbers, [0] * count, Packed.of(texts), statuses))
        self._marks.credit_due = True

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

    def _stop(self, client: ClientRecord, message: m.GraphSubmit) -> None:
        """Nobody wants these rows any more: stop what agents say they hold. Those that have yet to say so are told then."""
        numbers = range(message.first_number, message.first_number + len(message.payloads))
        self._lifecycle.forget_failures(client, numbers)
        for number in numbers:
            claim = self._recovery.take_claim(client.id, number)
            if claim is not None:
                self._rows.stop(client, number, claim)
            result = self._recovery.take_result(client.id, number)
            if result is not None:
                self._rows.free_objects(client, result.objects)


def _content(message: m.GraphSubmit, row: int) -> ReleasedRow:
    arrival = GraphArrival(message)
    arrival.take(message)
    submitted: Graph[AgentRecord] = Graph(arrival)
    return submitted.content(row)
