"""What always holds in a client core. For tests and the simulation."""

from __future__ import annotations

import math

from scaler.core.answers import Answers
from scaler.core.endings import Endings
from scaler.core.holdings import ObjectUses
from scaler.core.tasks import Graph, TaskTable
from scaler_protocol.runtime.core import InvariantError


def check_tasks(table: TaskTable, answers: Answers, endings: Endings) -> None:
    """Raise InvariantError unless each task is in one state only, and waits where it should."""
    numbers = set(table.tasks)
    if not table.large.adds_up(numbers):
        raise InvariantError("large payloads are counted of tasks that are answered, or wrongly")
    answered = (("fetched", set(answers.fetching)), ("left in storage", set(answers.left)))
    for state, others in (*answered, ("being cancelled", set(endings.unconfirmed))):
        if numbers & others:
            raise InvariantError(f"tasks {sorted(numbers & others)[:5]} are unanswered and {state}")
    waiting: list[int] = [number for group in table.groups() for number in (*group.pending, *group.again)]
    if len(waiting) != len(set(waiting)):
        raise InvariantError("a task waits twice to leave")
    for group in table.groups():
        for number in (*group.pending, *group.again):
            # Of tasks with options the source is a copy of the group, with the same queues.
            if number in numbers and table.tasks[number].source.pending is not group.pending:
                raise InvariantError(f"task {number} waits in a group that is not its own")


def check_graphs(table: TaskTable, endings: Endings) -> None:
    """Raise InvariantError unless each graph has as many unanswered rows as it counts, and its cancelled ones are known."""
    wanted: dict[int, int] = {}
    for number, task in table.tasks.items():
        if isinstance(task.source, Graph):
            wanted[task.source.first_number] = wanted.get(task.source.first_number, 0) + 1
            if table.graphs.get(task.source.first_number) is not task.source:
                raise InvariantError(f"task {number} belongs to a graph that is gone")
    for first, graph in table.graphs.items():
        if wanted.get(first, 0) != graph.unanswered:
            raise InvariantError(f"graph {first}: {graph.unanswered} rows unanswered, {wanted.get(first, 0)} known")
    if endings.canceled_rows != {number for graph in table.graphs.values() for number in graph.canceled}:
        raise InvariantError("cancelled rows are known of graphs that are answered, or not known")


def check_objects(table: TaskTable, uses: ObjectUses, endings: Endings) -> None:
    """Raise InvariantError unless every object that somebody needs is held, and no other one is."""
    needed = sum(len(task.objects) for task in table.tasks.values())
    needed += sum(len(objects) for objects in endings.unconfirmed.values())
    needed += sum(len(graph.objects) + len(graph.answers) for graph in table.graphs.values())
    if needed > sum(uses.counts.values()):
        raise InvariantError("tasks name objects that are not held")
    if any(count <= 0 for count in uses.counts.values()):
        raise InvariantError("an object is kept that nobody uses")
    if not uses.results <= uses.counts.keys():
        raise InvariantError("a result is known as stored that nobody uses")


def check_deadlines(kept: float, due: float, *, bounded: bool) -> None:
    """Raise InvariantError where the deadline the core keeps is too late, or `bounded` is true and there is none."""
    if kept > due:
        raise InvariantError(f"the core would look at {kept}, but something is due at {due}")
    if bounded and math.isinf(kept):
        raise InvariantError("tasks are unanswered and no deadline bounds them")
