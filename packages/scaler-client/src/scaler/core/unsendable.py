"""What becomes of a message that cannot be written, so that it costs the tasks in it and nothing else. Pure.

What users hand over is checked before; this is for what nobody thought of. The number of the message in its session is
used up, so something harmless has to leave in its place: else the other end would ask for it for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from scaler.core.tasks import TaskTable
from scaler_protocol.wire import messages as m


def tasks_in(message: m.Message, table: TaskTable) -> list[int]:
    """Return the numbers of the unanswered tasks that cannot run without this message."""
    numbers: Iterable[int] = ()
    if isinstance(message, m.TaskBatch):
        numbers = message.numbers
    elif isinstance(message, m.GraphSubmit):
        # Without this portion the scheduler never begins the graph.
        graph = table.graphs.get(message.first_number)
        numbers = () if graph is None else [message.first_number + row for row in graph.wanted]
    elif isinstance(message, m.FunctionDefine):
        lost = set(message.ids)
        graphs = {first for first, graph in table.graphs.items() if lost.intersection(graph.submit.functions)}
        numbers = (
            number
            for number, task in table.tasks.items()
            if task.function in lost
            or getattr(task.source, "serializer", b"") in lost
            or getattr(task.source, "first_number", None) in graphs
        )
    return [number for number in numbers if number in table.tasks]
