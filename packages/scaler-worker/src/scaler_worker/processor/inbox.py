"""Tasks that the agent has handed over and that have not begun. The agent may take them back at any time.

Whenever tasks are given back the *generation* rises by one. Tasks of an earlier generation are still under way then; they are
dropped when they arrive.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from scaler_protocol.runtime.values import new_tuple
from scaler_worker.processor.chain_results import ChainResults
from scaler_worker.processor.channel import Channel
from scaler_worker.processor.functions import FunctionTable
from scaler_worker.processor.records import Kind, given_back_parts
from scaler_worker.processor.retirement import RetiredError
from scaler_worker.processor.task_records import Tasks, read_one_task, read_tasks


class Row(NamedTuple):
    """A task that waits for its turn. `position` is its row in `tasks`."""

    task_index: int
    position: int
    function: bytes
    payload: bytes | memoryview
    tasks: Tasks


class Inbox:
    """`rows` is a queue: the main thread takes from the left without the lock, a single operation of the deque."""

    def __init__(self, channel: Channel, functions: FunctionTable, chain_results: ChainResults) -> None:
        self.rows: deque[Row] = deque()
        self.came_alone = False
        """Whether the record that came last was of a single task."""
        self.gone_clients: list[bytes] = []
        """Clients that have left, whose environments are to end when nothing runs."""
        self._channel = channel
        self._functions = functions
        self._chain_results = chain_results
        # Rows move under this lock only when several do at once; the main thread takes single ones without it.
        self._lock = threading.Lock()
        self._generation = 0
        self._next_index = 0

    def take_in(self, kind: int, body: bytes) -> bool:
        """Have the tasks of a record wait for their turn; return whether it was one of tasks, or of clients.

        Raises RetiredError for tasks of a generation to come, which only a task can have announced.
        """
        if kind == Kind.ONE_TASK:
            tasks = read_one_task(body)
            self.came_alone = True
            with self._lock:
                if tasks.generation == self._generation:
                    row = (tasks.first_index, 0, tasks.functions[0], tasks.payloads[0], tasks)
                    self.rows.append(new_tuple(Row, row))
                    self._next_index = tasks.first_index + 1
                else:
                    self._check_void(tasks)
            return True
        if kind == Kind.TASKS:
            self._take_in_many(read_tasks(body))
            return True
        if kind == Kind.CLIENT_GONE:
            self.gone_clients.append(bytes(body))
            return True
        return False

    def _take_in_many(self, tasks: Tasks) -> None:
        # Bodies are kept even when the tasks are void: the agent counts them as delivered.
        self._functions.update(tasks.forgotten, tasks.new_functions)
        functions: Iterable[bytes]
        if len(tasks.function_indexes):
            table = tasks.functions
            functions = [table[index] for index in tasks.function_indexes]
        else:
            functions = itertools.repeat(tasks.functions[0])
        positions = range(len(tasks.payloads))
        first = tasks.first_index
        self.came_alone = len(positions) == 1
        rows = map(
            Row._make,
            zip(
                range(first, first + len(positions)),
                positions,
                functions,
                tasks.payloads,
                itertools.repeat(tasks),
                strict=False,
            ),
        )
        with self._lock:
            if tasks.generation == self._generation:
                self.rows.extend(rows)
                self._next_index = first + len(positions)
            else:
                self._check_void(tasks)
        self._chain_results.expect(tasks.inputs.values())

    def _check_void(self, tasks: Tasks) -> None:
        """Raise RetiredError if tasks are of a generation to come: dropped, they would never run anywhere."""
        if tasks.generation > self._generation:
            raise RetiredError("a task gave back tasks in the name of its processor")

    def give_back(self) -> None:
        """Drop all tasks and tell the agent so. On the control thread."""
        with self._lock:
            self._generation += 1
            # The main thread takes rows from the other end meanwhile; each goes to exactly one of us.
            while True:
                try:
                    self._next_index = self.rows.pop().task_index
                except IndexError:
                    break
            self._channel.send(Kind.GAVE_BACK, given_back_parts(self._generation, self._next_index))

    def give_back_blocked(self, running_index: int) -> None:
        """Drop all tasks and tell the agent that the running one, of this index, waits for tasks of its own."""
        with self._lock:
            self._generation += 1
            self.rows.clear()
            self._next_index = running_index + 1
            self._channel.send(Kind.BLOCKED, given_back_parts(self._generation, self._next_index))

    def abandon(self) -> None:
        """In a process forked from this one: the tasks are the other's, and a thread that is not here may hold the lock."""
        self._lock = threading.Lock()
        self.rows.clear()
