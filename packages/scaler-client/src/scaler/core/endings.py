"""What becomes free when a task ends, however it ends: its objects, its graph, its cancellation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scaler.core import effects
from scaler.core.holdings import ObjectUses
from scaler.core.tasks import Graph, Task, TaskTable
from scaler_protocol.runtime.core import Outbox


class Endings:
    """Frees what tasks used. Owns the cancelled tasks whose end was not confirmed."""

    def __init__(self, table: TaskTable, uses: ObjectUses, outbox: Outbox[effects.Effect]) -> None:
        self.unconfirmed: dict[int, tuple[bytes, ...]] = {}
        """Cancelled tasks of which no confirmation has come, with the objects they still use."""
        self.canceled_rows: set[int] = set()
        """Numbers of cancelled rows of graphs with other rows that are unanswered: schedulers know them as cancelled so long."""
        self._table = table
        self._uses = uses
        self._outbox = outbox

    @property
    def free_something(self) -> bool:
        """Whether `finish` has anything to do for a task. Where not, it need not be called."""
        return bool(self._uses.counts or self._table.graphs)

    def finish(self, task: Task) -> None:
        """A task is answered: free what it used."""
        self.release(task.objects)
        if isinstance(task.source, Graph):
            self.finish_graph_row(task.source, stop=None)

    def finish_graph_row(self, graph: Graph, stop: list[int] | None) -> None:
        """A wanted row is answered, or cancelled: `stop` then collects the numbers to be stopped with the last such row."""
        graph.unanswered -= 1
        if graph.unanswered:
            return
        del self._table.graphs[graph.first_number]
        self._table.has_left(graph)
        self.canceled_rows.difference_update(graph.canceled)
        self.release((*graph.objects, *graph.answers))
        if stop is not None:
            stop.extend(range(graph.first_number, graph.first_number + graph.rows_left))

    def ended_among(self, numbers: Iterable[int]) -> list[int]:
        """Return those of these tasks that have ended here, and that a scheduler knows, or will know, as cancelled."""
        return [number for number in numbers if number in self.unconfirmed or number in self.canceled_rows]

    def release(self, object_ids: Sequence[bytes]) -> None:
        """Undo one use of each object; what nobody uses any more is deleted."""
        if object_ids:
            free = self._uses.release(object_ids)
            if free:
                self._outbox.add(effects.DeleteObjects(free))

    def keep_answer(self, task: Task, object_id: bytes) -> None:
        """A task is answered with an object. Where other rows of its graph may read that, it is kept until these are over."""
        graph = task.source
        if isinstance(graph, Graph) and graph.unanswered > 1 and not len(graph.submit.earlier):
            self._uses.hold(object_id)
            self._uses.note_result(object_id)
            self._uses.awaited.add(object_id)
            graph.answers.append(object_id)

    def keep_for_others(self, number: int, object_id: bytes) -> bool:
        """As `keep_answer`, for a row that was cancelled while its answer was on its way. Return whether it is kept."""
        for graph in self._table.graphs.values():
            if graph.first_number <= number < graph.first_number + graph.rows and not len(graph.submit.earlier):
                self._uses.hold(object_id)
                self._uses.note_result(object_id)
                graph.answers.append(object_id)
                return True
        return False

    def confirm(self, numbers: Sequence[int]) -> None:
        """These cancelled tasks do not run any more: free what they used."""
        if numbers:
            for number in numbers:
                self.release(self.unconfirmed.pop(number))
            self._outbox.add(effects.CancelConfirmed(tuple(numbers)))
