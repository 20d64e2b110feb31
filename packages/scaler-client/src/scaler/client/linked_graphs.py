"""Graphs whose nodes have futures inside: their rows need tasks that were submitted before.

A graph of some thousand rows leaves with the numbers of these tasks, and the scheduler holds back what needs them. A larger one,
which has to leave in portions, is submitted with their values once the client has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scaler.client.dependent_future import DependentFuture
from scaler.client.engine import Engine
from scaler.client.future import FutureSource, ScalerFuture
from scaler.client.linked_calls import end_with, passed_on, require_own_future, submit_when_done
from scaler.core.graph import OUTSIDE_FIRST
from scaler.core.task_history import Before
from scaler.errors import ClientCancelledException
from scaler.serialization.arguments import Packer
from scaler_protocol.payloads.framing import frame_arguments, identity
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried, carried_columns
from scaler_protocol.wire.columns import EMPTY
from scaler_protocol.wire.columns import Packed as PackedColumn
from scaler_protocol.wire.graph_portions import PORTION_ROWS


def require_own(client: FutureSource, future: ScalerFuture) -> None:
    """Raise SerializationError for another client's future."""
    require_own_future(client, future, "the graph has")


class LinkedGraph:
    """See `dependent_future.LinkedCall`; that of all futures of one graph."""

    inputs: Sequence[ScalerFuture] = ()
    """Nothing is said of the tasks in between: which of many a row needed is not known here."""

    def __init__(
        self,
        engine: Engine,
        packer: Packer,
        graph: m.GraphSubmit,
        needed: Sequence[ScalerFuture],
        futures: Mapping[int, DependentFuture],
        carried: Carried,
    ) -> None:
        """`graph`: as `GraphPlan` numbers what rows need; `needed`: those outside; `futures`: those of wanted rows."""
        self._engine = engine
        self._packer = packer
        self._graph = graph
        """Its objects have one use each, which ends with this."""
        self._needed = needed
        self._futures = futures
        self._carried = carried
        self._waits = False
        self._before: Before | None = None
        """As what it was submitted last, by row of `graph`; None also where its tasks ask for nothing that counts on."""

    def send_values_of(self, numbers: Sequence[int]) -> None:
        """See `LinkedCall`. Each of the futures is asked."""
        if self._waits:
            return
        unknown = set(numbers)
        self._waits = True
        submit_when_done(self, [one for one in self._needed if one.number in unknown and not _is_known(one)])

    def end(self, error: Exception) -> None:
        """See `Submittable`."""
        for future in self._futures.values():
            if not future.has_ended:
                end_with(future, error)

    def submit(self) -> None:
        """Submit it, and end the futures that will never have a value. Raises what `TaskIntake.submit_graph` raises."""
        self._waits = False
        rows = self._rows_left()
        futures = {row: one for row, one in self._futures.items() if not one.has_ended}
        if not futures:
            return
        pending = [one for one in self._needed if not _is_known(one)]
        if pending and len(rows) > PORTION_ROWS:
            self._waits = True
            submit_when_done(self, pending)
            return
        message, places = self._message(rows, sorted(futures))
        before = self._before
        if before is not None:
            before = Before(before.first_number, {places[row]: before.numbers[row] for row in rows})
        tokens = [futures[row] for row in sorted(futures)]
        first = self._engine.tasks.submit_graph(message, tokens, before=before)
        # It may have been answered, and submitted once more, before this thread comes here.
        if message.options and (self._before is None or self._before.first_number < first):
            self._before = Before(first, {row: first + places[row] for row in rows})

    def _rows_left(self) -> dict[int, list[int]]:
        """Return what each row needs, but for rows that need what has failed or was cancelled: these end."""
        graph = self._graph
        rows: dict[int, list[int]] = {}
        ended: dict[int, ScalerFuture] = {
            OUTSIDE_FIRST + index: one for index, one in enumerate(self._needed) if one.has_ended and not one.has_value
        }
        start = 0
        for row, count in enumerate(graph.dependency_counts):
            rows[row] = list(graph.dependencies[start : start + count])
            start += count
        has_grown = bool(ended)
        while has_grown:
            # Nearly always once, and once in vain: few rows need one that comes later.
            has_grown = False
            for row, needs in list(rows.items()):
                culprit = next((ended[one] for one in needs if one in ended), None)
                if culprit is not None:
                    has_grown = True
                    del rows[row]
                    ended[row] = culprit
                    self._end_row(row, culprit)
        return rows

    def _end_row(self, row: int, culprit: ScalerFuture) -> None:
        future = self._futures.get(row)
        if future is None or future.has_ended:
            return
        if culprit.cancelled():
            future.end_cancelled(ClientCancelledException(f"task {culprit.number}, which it needs, was cancelled"))
        else:
            future.end_failed_by(culprit)

    def _message(self, rows: Mapping[int, list[int]], wanted: Sequence[int]) -> tuple[m.GraphSubmit, Mapping[int, int]]:
        """Return the graph with these rows, behind rows that pass on the values of what is done by now, and their places."""
        engine, packer, graph = self._engine, self._packer, self._graph
        named = {one for needs in rows.values() for one in needs if one >= OUTSIDE_FIRST}
        outside = {one: self._needed[one - OUTSIDE_FIRST] for one in sorted(named)}
        objects: list[bytes] = []
        payloads: list[bytes] = []
        positions: list[int] = []
        places: dict[int, int] = {}
        for one, future in outside.items():
            if future.has_value:
                argument, inner = passed_on(engine, packer, future, objects)
                for dependent in self._futures.values() if inner else ():
                    dependent.hold_until_restored(inner)
                positions.extend([len(payloads)] * (len(objects) - len(positions)))
                places[one] = len(payloads)
                payloads.append(frame_arguments([argument], {}))
        values = len(payloads)
        places.update(zip(rows, range(values, values + len(rows)), strict=True))
        count = values + len(rows)
        earlier = [one for one in outside if one not in places]
        places.update(zip(earlier, range(count, count + len(earlier)), strict=True))
        all_payloads = graph.payloads.split()
        payloads += [all_payloads[row] for row in rows]
        for row, object_id in zip(graph.object_positions, graph.objects, strict=True):
            if row in rows:
                objects.append(engine.objects.hold(object_id))
                positions.append(places[row])
        functions = graph.functions
        indexes = [graph.function_indexes[row] if len(graph.function_indexes) else 0 for row in rows]
        if values:
            passing_on = packer.function(identity)
            engine.tasks.define(passing_on)
            if passing_on.function_id not in functions:
                functions = (*functions, passing_on.function_id)
            indexes = [functions.index(passing_on.function_id)] * values + indexes
        message = replace(
            graph,
            functions=functions,
            payloads=PackedColumn.of(payloads),
            dependency_counts=[0] * values + [len(needs) for needs in rows.values()],
            dependencies=[places[one] for needs in rows.values() for one in needs],
            wanted=[places[row] for row in wanted],
            function_indexes=EMPTY if len(functions) == 1 else indexes,
            object_positions=positions,
            objects=tuple(objects),
            earlier=[outside[one].number for one in earlier],
            **carried_columns([self._carried] * count),
        )
        return message, places


def _is_known(future: ScalerFuture) -> bool:
    return future.has_ended or future.has_value
