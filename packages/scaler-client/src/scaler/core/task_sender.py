"""Decides when the tasks that wait to leave do so, and in which messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from scaler.core.holdings import Functions
from scaler.core.tasks import LARGE_PAYLOAD_BYTES, Graph, Task, TaskGroup, TaskTable
from scaler_protocol.session import Connection
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope
from scaler_protocol.wire.task_lists import portions_of

OUTBOX_BYTES_MAX = 64 * 1024 * 1024
"""Unacknowledged bytes beyond which batches wait in this core instead of in the network's queues."""

WINDOW_TASKS = 50_000
"""Unanswered tasks the scheduler is given at most: half a second of work for the fastest scheduler.

Graphs do not count, unless they need earlier tasks.
"""

WINDOW_BYTES = 96 * 1024 * 1024
"""Bytes of large payloads that are unanswered at most: so much of one client lies at scheduler and workers."""

BATCH_TASKS_MIN = 192
"""So many waiting tasks leave at once; fewer may be held back for a moment, see `flush_or_hold`."""

PIPELINE_TASKS = 512
"""While so many tasks are under way, workers have enough to do, so that fewer than `BATCH_TASKS_MIN` tasks may be held back."""

HOLD_SECONDS = 0.002
"""The longest time for which tasks are held back."""


class TaskSender:
    """See the module. Changes the table of tasks only in that it marks what has left."""

    def __init__(
        self,
        connection: Connection,
        table: TaskTable,
        functions: Functions,
        send: Callable[[m.Message], bool],
    ) -> None:
        """`send` sends a message that must not be lost; it returns False when that ended the session."""
        self.hold_until = math.inf
        """Until when a few tasks are held back at the latest; infinity while none are."""
        self._connection = connection
        self._table = table
        self._functions = functions
        self._send = send
        self._window_full = False
        self._withdrawn: set[int] = set()
        """Tasks that are not to begin any more, or were answered since: another scheduler must be told so, too."""

    def note_withdrawn(self, numbers: Iterable[int]) -> None:
        """These tasks, which have left, are not to begin any more."""
        self._withdrawn.intersection_update(self._table.tasks)
        self._withdrawn.update(numbers)

    def has_left(self, number: int, task: Task) -> bool:
        """Whether an unanswered task was sent, in this session or an earlier one."""
        if isinstance(task.source, Graph):
            return task.source.has_left(number)
        return number not in task.source.pending

    def waits_again(self, number: int, task: Task) -> bool:
        """Whether an unanswered task was sent in an earlier session, and not in this one. Of graphs `has_left` knows."""
        return not isinstance(task.source, Graph) and number in task.source.again

    def message_ahead(self, number: int, task: Task, position: int) -> tuple[Envelope, m.TaskBatch] | None:
        """See `ClientCore.message_ahead`."""
        connection = self._connection
        session = connection.session
        group: TaskGroup = task.source  # type: ignore[assignment]
        pending = group.pending
        if (
            not connection.established
            or task.function not in self._functions.defined
            or group.serializer
            or len(pending.numbers) > pending.start
            or session.outbox_bytes >= OUTBOX_BYTES_MAX
        ):
            return None
        return session.next_envelope(position), self._table.batch(group, [number], [task], group.flags)

    def flush(self) -> None:
        """Turn all waiting tasks into messages, unless the session does not stand or much is unacknowledged."""
        self.hold_until = math.inf
        connection = self._connection
        if not connection.established:
            return
        table, functions = self._table, self._functions
        while connection.session.outbox_bytes < OUTBOX_BYTES_MAX:
            is_full = self._window_is_full()
            is_overfull = is_full and self._is_overfull()
            waiting = table.next_batch(only_graphs=is_overfull, only_urgent=is_full)
            if waiting is None:
                return
            message, mark_left = waiting
            needed = (*message.functions, message.serializer) if message.serializer else message.functions
            if not functions.defined.issuperset(needed):
                definition = functions.definition(needed, message.serializer)
                if definition is not None and not self._send(definition):
                    return
            if not self._send(message):
                return
            mark_left()
            if isinstance(message, m.GraphSubmit) and not self._cancel_again(message):
                return
            if self._withdrawn and isinstance(message, m.TaskBatch) and not self._withdraw_again(message):
                return
            if (
                isinstance(message, m.TaskBatch)
                and max(message.payloads.lengths) >= LARGE_PAYLOAD_BYTES
                and not message.flags & m.TaskFlag.DETACHED
            ):
                table.note_large(message)

    def _withdraw_again(self, batch: m.TaskBatch) -> bool:
        """Tasks have left. Where they do once more, say which are not to begin; False as for `send`."""
        numbers = self._withdrawn.intersection(batch.numbers) if batch.flags & m.TaskFlag.REANNOUNCED else ()
        if not numbers:
            return True
        cancel = m.TaskCancel(batch.client, sorted(numbers), waiting_only=True)
        return all(map(self._send, portions_of(cancel)))

    def _cancel_again(self, portion: m.GraphSubmit) -> bool:
        """A portion of a graph has left. After the last one, say which rows were cancelled before; False as for `send`."""
        graph = self._table.graphs.get(portion.first_number)
        if graph is None or not graph.canceled or graph.pending or graph.again:
            return True
        return all(map(self._send, portions_of(m.TaskCancel(portion.client, graph.canceled))))

    def flush_or_hold(self, now: float) -> None:
        """As `flush`, but hold a few tasks back for a moment, to form a batch, while many are under way.

        Without this every batch of results would send off the few tasks submitted since the last one. Small batches of tasks
        make small batches of results, and each batch costs every process on the way as much as dozens of tasks.
        """
        table = self._table
        self._flush_or_hold(table, now)
        table.history.set_time(now)

    def _flush_or_hold(self, table: TaskTable, now: float) -> None:
        waiting = table.waiting_count() if table.tasks else 0
        if not (waiting or table.graphs):
            self.hold_until = math.inf
            return
        if (
            0 < waiting < BATCH_TASKS_MIN
            and len(table.tasks) - waiting >= PIPELINE_TASKS
            and now < self.hold_until
            and self._connection.established
        ):
            if self.hold_until == math.inf:
                self.hold_until = now + HOLD_SECONDS
            return
        self.flush()

    def _window_is_full(self) -> bool:
        """Whether so many tasks are unanswered that the others should wait here, where they take less room."""
        if self._table.large.under_way_bytes >= WINDOW_BYTES:
            return True
        unanswered = len(self._table.tasks)
        if unanswered <= WINDOW_TASKS * 3 // 4:
            # However many of them wait, too few are under way.
            self._window_full = False
            return False
        under_way = self._under_way()
        if under_way >= WINDOW_TASKS:
            self._window_full = True
        elif under_way <= WINDOW_TASKS * 3 // 4:
            # Not before: then many leave in one batch, instead of one for each answer.
            self._window_full = False
        return self._window_full

    def _is_overfull(self) -> bool:
        """Whether so much is unanswered that even urgent tasks should wait here: twice as much as of others."""
        return self._table.large.under_way_bytes >= 2 * WINDOW_BYTES or self._under_way() >= 2 * WINDOW_TASKS

    def _under_way(self) -> int:
        return len(self._table.tasks) - self._table.waiting_count() - self._table.linked_waiting
