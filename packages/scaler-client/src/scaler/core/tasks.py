"""Unanswered tasks: what is needed to announce each of them, again if need be, and the batches they leave in.

Submitting one task must cost next to nothing: one tuple, one dictionary entry, one element of a list. The columns are
made when a batch leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from scaler_protocol import messages as m
from scaler_protocol.columns import EMPTY, Packed

BATCH_TASKS_MAX = 4096
"""Tasks in one message at most, so that no message keeps the scheduler busy for long."""

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Payload bytes in one message; the last task may exceed it."""

FUNCTIONS_MAX = 0xFFFF
"""Functions one batch can name: their indexes are U16."""


@dataclass(slots=True, eq=False)
class TaskGroup:
    """What the tasks of one batch share, and those that wait to leave. Get it from `TaskTable.group`."""

    kind: int
    depth: int
    capabilities: m.Capabilities
    serializer: bytes
    flags: int
    pending: list[int] = field(default_factory=list)
    """Numbers that have not left, ascending; may name tasks that were cancelled since."""
    again: list[int] = field(default_factory=list)
    """Numbers that left in an earlier session and must be announced again."""


@dataclass(slots=True, eq=False)
class Graph:
    """A submitted graph: kept whole until its wanted rows are answered."""

    submit: m.GraphSubmit
    objects: tuple[bytes, ...]
    unanswered: int
    pending: bool = True
    again: bool = False

    @property
    def first_number(self) -> int:
        return self.submit.first_number

    @property
    def rows(self) -> int:
        return len(self.submit.payloads)


class Task(NamedTuple):
    """One unanswered task. Rows of a graph have no function and payload of their own."""

    source: TaskGroup | Graph
    function: bytes
    payload: bytes
    objects: tuple[bytes, ...]
    token: object


class TaskTable:
    """Owns the unanswered tasks by number, and their order of leaving."""

    def __init__(self, client_id: bytes) -> None:
        self.tasks: dict[int, Task] = {}
        self.graphs: dict[int, Graph] = {}
        self.next_number = 1
        self._client_id = client_id
        self._groups: dict[tuple[int, int, m.Capabilities, bytes, int], TaskGroup] = {}

    def group(self, kind: int, depth: int, capabilities: m.Capabilities, serializer: bytes, flags: int) -> TaskGroup:
        """Return the one group of tasks with these properties."""
        key = (kind, depth, capabilities, serializer, flags)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = TaskGroup(*key)
        return group

    def groups(self) -> list[TaskGroup]:
        return list(self._groups.values())

    def add_graph(self, submit: m.GraphSubmit, tokens: list[object]) -> Graph:
        """Take a graph in; `tokens` has one element per wanted row. Its numbers follow the last used one."""
        submit.first_number = self.next_number
        graph = Graph(submit, tuple(submit.objects), len(submit.wanted))
        self.next_number += graph.rows
        self.graphs[submit.first_number] = graph
        for row, token in zip(submit.wanted, tokens, strict=True):
            self.tasks[submit.first_number + row] = Task(graph, b"", b"", (), token)
        return graph

    def announce_again(self) -> None:
        """The other end knows nothing of us: everything unanswered leaves once more, in the order of numbers."""
        for group in self._groups.values():
            # What has not left stays a first announcement: no worker can hold it.
            unsent = set(group.pending)
            group.again = [n for n, task in self.tasks.items() if task.source is group and n not in unsent]
        for graph in self.graphs.values():
            graph.again = graph.again or not graph.pending

    def batches(self) -> Iterator[m.TaskBatch | m.GraphSubmit]:
        """Yield what waits to leave, as messages. A caller that stops early gets the rest next time."""
        for group in self._groups.values():
            while group.again:
                numbers = self._take(group.again)
                if numbers:
                    yield self._batch(group, numbers, group.flags | m.TaskFlag.REANNOUNCED)
            while group.pending:
                numbers = self._take(group.pending)
                if numbers:
                    yield self._batch(group, numbers, group.flags)
        for graph in self.graphs.values():
            if graph.pending or graph.again:
                submit = graph.submit
                if graph.again:
                    wanted = [row for row in submit.wanted if submit.first_number + row in self.tasks]
                    submit = replace(submit, wanted=wanted, flags=submit.flags | m.TaskFlag.REANNOUNCED)
                graph.pending = graph.again = False
                yield submit

    def _take(self, waiting: list[int]) -> list[int]:
        """Remove from the head of `waiting` what one message may carry; leave out what was cancelled meanwhile."""
        tasks = self.tasks
        head = waiting[:BATCH_TASKS_MAX]
        numbers = [number for number in head if number in tasks]
        size = 0
        for position, number in enumerate(numbers):
            size += len(tasks[number].payload)
            if size > BATCH_BYTES_MAX and position + 1 < len(numbers):
                del waiting[: head.index(numbers[position + 1])]
                return numbers[: position + 1]
        del waiting[: len(head)]
        return numbers

    def _batch(self, group: TaskGroup, numbers: list[int], flags: int) -> m.TaskBatch:
        tasks = [self.tasks[number] for number in numbers]
        table: dict[bytes, int] = {}
        for task in tasks:
            if task.function not in table:
                table[task.function] = len(table)
        positions: list[int] = []
        objects: list[bytes] = []
        for position, task in enumerate(tasks):
            if task.objects:
                positions.extend([position] * len(task.objects))
                objects.extend(task.objects)
        return m.TaskBatch(
            client=self._client_id,
            numbers=numbers,
            functions=tuple(table),
            payloads=Packed.of([task.payload for task in tasks]),
            function_indexes=EMPTY if len(table) == 1 else [table[task.function] for task in tasks],
            depth=group.depth,
            kind=group.kind,
            flags=flags,
            capabilities=group.capabilities,
            serializer=group.serializer,
            object_positions=positions,
            objects=tuple(objects),
        )
