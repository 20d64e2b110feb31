"""One call of `get`: a planned graph to rows, and its wanted rows to futures."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from scaler.client.dependent_future import DependentFuture
from scaler.client.engine import Engine
from scaler.client.future import FutureSource, ScalerFuture
from scaler.client.kept_future import KeptFuture
from scaler.client.linked_calls import held_by
from scaler.client.linked_graphs import LinkedGraph, require_own
from scaler.client.object_reference import InnerReferences, ObjectReference
from scaler.client.object_uses import take_out_inner
from scaler.core.graph import NO_KEY, OUTSIDE, GraphPlan, RowInputs, is_task, parts_inside
from scaler.core.tasks import FUNCTIONS_MAX, TaskGroup
from scaler.errors import GraphError, SerializationError
from scaler.serialization.argument_list import ArgumentList
from scaler.serialization.arguments import Packer
from scaler.serialization.faults import explain
from scaler.serialization.signatures import Check
from scaler_protocol.payloads.framing import Argument, Source, frame_arguments, identity
from scaler_protocol.runtime.names import name_of, shown, shown_type
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried, carried_columns
from scaler_protocol.wire.call_options import join_records
from scaler_protocol.wire.columns import EMPTY, Packed

_INDEX_MAX = 0xFFFF


def submit_graph(
    engine: Engine,
    packer: Packer,
    graph: Mapping[Any, Any],
    keys: Any,
    *,
    group: TaskGroup,
    client: FutureSource,
    carried: Carried,
    make_kept: Callable[[], ScalerFuture] | None = None,
) -> dict[Hashable, ScalerFuture]:
    """Submit what `keys` need and return their futures, in order. Nothing is submitted when anything is wrong.

    `carried`: what each row carries. `make_kept` makes the futures where `core.tasks.Graph.keeps`; there, nodes may have no
    futures inside.
    """
    if not isinstance(graph, Mapping):
        raise TypeError(f"a graph is a dictionary of keys and computations, not a {shown_type(graph)}")
    # A mapping may be of the user's own making; and nobody is to change it meanwhile.
    graph = dict(graph)
    plan = GraphPlan(graph, keys)
    make_future = make_kept or (lambda: ScalerFuture(client))
    try:
        return _submit(GraphEncoder(engine, packer, plan, graph, client), plan, graph, group, make_future, carried)
    except SerializationError:
        # Only a graph that cannot be sent as it is has futures inside.
        outside = parts_inside(graph, lambda value: isinstance(value, ScalerFuture))
        if not outside or make_kept is not None:
            raise
    graph.update(dict.fromkeys(outside, OUTSIDE))
    plan = GraphPlan(graph, list(plan.asked))
    return _submit(
        GraphEncoder(engine, packer, plan, graph, client), plan, graph, group, lambda: DependentFuture(client), carried
    )


def _submit(
    encoder: GraphEncoder,
    plan: GraphPlan,
    graph: Mapping[Any, Any],
    group: TaskGroup,
    make_future: Callable[[], ScalerFuture],
    carried: Carried,
) -> dict[Hashable, ScalerFuture]:
    targets = plan.asked
    # A reference stands for an object that lives in storage: whoever wants it gets it through a task.
    for target in targets.values():
        value = graph[target]
        if isinstance(value, Future):
            raise SerializationError(explain(f"node {shown(target)}", value, TypeError()))
        if type(value) is ObjectReference or value is OUTSIDE:
            encoder.add_literal_row(target)
    futures: dict[Hashable, ScalerFuture] = {}
    by_row: dict[int, ScalerFuture] = {}
    try:
        for key in plan.order:
            encoder.add_row(key)
        for key, target in targets.items():
            row = encoder.row_of(target)
            if row is None:
                future = make_future()
                future.end_with(graph[target])
            else:
                future = by_row.get(row) or by_row.setdefault(row, make_future())
            futures[key] = future
        if by_row:
            outside = [key for key in plan.outside if isinstance(key, ScalerFuture)]
            inner = (*encoder.inner, *held_by([*encoder.passed, *outside]))
            if inner:
                for future in by_row.values():
                    future.hold_until_restored(inner)
            encoder.submit(group, by_row, carried)
    except BaseException:
        encoder.release()
        raise
    return futures


class GraphEncoder:
    """Collects the columns of a graph's message. Rows that pass a referenced object on come last.

    `objects` is a column too: each element has its row in `_object_positions`, and one use counted.
    """

    def __init__(
        self, engine: Engine, packer: Packer, plan: GraphPlan, graph: Mapping[Any, Any], client: FutureSource
    ) -> None:
        self.objects: list[bytes] = []
        self.inner: tuple[bytes, ...] = ()
        """Objects whose references are inside values of the graph."""
        self.function_objects: dict[int, tuple[bytes, ...]] = {}
        """Those of `objects` that functions consist of, by the function's index."""
        self.passed: set[ScalerFuture] = set()
        """Futures outside whose values are sent."""
        self._engine = engine
        self._packer = packer
        self._plan = plan
        self._graph = graph
        self._client = client
        self._payloads: list[bytes] = []
        self._function_indexes = array("H")
        self._functions: dict[bytes, int] = {}
        self._index_by_identity: dict[int, int] = {}
        self._checks: list[Check | None] = []
        """Of each function, by its index."""
        self._dependency_counts = array("I")
        self._dependencies = array("I")
        self._object_positions = array("I")
        self._literal_rows: dict[Hashable, int] = {}
        self._literals: dict[Hashable, Argument] = {}

    def row_of(self, key: Hashable) -> int | None:
        """Return the row that has a node's value; None for a node that stands for itself."""
        row = self._plan.row_of.get(key)
        return self._literal_rows.get(key) if row is None else row

    def add_literal_row(self, key: Hashable) -> None:
        """Make room for a row, behind all planned ones, that passes a literal on."""
        if key not in self._literal_rows:
            self._literal_rows[key] = len(self._plan.order) + len(self._literal_rows)

    def add_row(self, key: Hashable) -> None:
        """Encode the next row of the plan. Raises SerializationError, GraphError and TypeError, which name the node."""
        computation = self._graph[key]
        function, arguments = (computation[0], computation[1:]) if is_task(computation) else (identity, (computation,))
        self._append(key, function, arguments)

    def _append(self, key: Hashable, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        inputs = RowInputs(self._plan, self._graph)
        named: list[bytes] = []
        function_index = self._function_index(function)
        check = self._checks[function_index]
        if check is not None:
            try:
                check(*arguments)
            except TypeError as error:
                raise TypeError(f"node {shown(key)}: {error}") from None
        try:
            if any(map(self._plan.names_something, arguments)):
                listed = self._packer.argument_list(function, named)
                with InnerReferences() as references:
                    for position, value in enumerate(arguments):
                        self._add_argument(function, position, value, inputs, listed)
                    positional = listed.finish()
                if references:
                    self.inner += self._engine.objects.hold_inner(references)
                what = f"the list of the arguments of {name_of(function)}"
                packed = self._packer.framed(frame_arguments(positional, {}), named, what)
            else:
                packed = self._packer.call(function, tuple(arguments), {})
        except (SerializationError, GraphError) as error:
            self.objects += named
            raise type(error)(f"node {shown(key)}: {error}") from error
        except BaseException:
            self.objects += named
            raise
        self._add(packed.objects)
        self._function_indexes.append(function_index)
        row = len(self._payloads)
        self._object_positions.extend([row] * (len(self.objects) - len(self._object_positions)))
        self._payloads.append(bytes(packed.payload))
        self._dependency_counts.append(len(inputs.rows))
        self._dependencies.extend(inputs.rows)

    def _add_argument(
        self, function: Any, position: int, value: Any, inputs: RowInputs, arguments: ArgumentList
    ) -> None:
        plan = self._plan
        name = NO_KEY if is_task(value) else plan.find(value)
        if name is not NO_KEY:
            key = plan.resolve(name)
            is_value = isinstance(key, ScalerFuture) and self._has_value(key)
            index = None if is_value else inputs.index_of(key)
            if index is None:
                arguments.add(self._literal(function, position, key, arguments.objects))
                return
            if index <= _INDEX_MAX:
                arguments.add(Argument(Source.INPUT, index.to_bytes(2, "little")))
                return
        if plan.names_something(value):
            arguments.add_expression(position, value, inputs.expression(value))
        else:
            arguments.add_value(position, value)

    def _literal(self, function: Any, position: int, key: Hashable, named: list[bytes]) -> Argument:
        """Return the argument a literal node is. A large one is stored once, however many rows use it."""
        known = self._literals.get(key)
        if known is None:
            if isinstance(key, ScalerFuture) and self._graph[key] is OUTSIDE:
                self.passed.add(key)
                known = self._packer.result_of(function, position, key, named)
            else:
                known = self._packer.argument(function, position, self._graph[key], named)
            self._literals[key] = known
        elif known.source is Source.OBJECT:
            named.append(self._engine.objects.hold(known.data))
        return known

    def _has_value(self, future: ScalerFuture) -> bool:
        require_own(self._client, future)
        future.is_named = True
        return future.has_value

    def _function_index(self, function: Callable[..., Any]) -> int:
        # The graph keeps its functions alive, so that within one graph identity is enough.
        index = self._index_by_identity.get(id(function))
        if index is not None:
            return index
        pickled = self._packer.function(function)
        self._add(pickled.objects)
        index = self._functions.get(pickled.function_id)
        if index is None:
            index = self._functions[pickled.function_id] = len(self._functions)
            if index >= FUNCTIONS_MAX:
                raise GraphError(f"the graph has more than {FUNCTIONS_MAX} different functions")
            self._checks.append(pickled.check)
            if pickled.objects:
                self.function_objects[index], _ = take_out_inner(pickled.objects)
            self._engine.tasks.define(pickled)
        self._index_by_identity[id(function)] = index
        return index

    def _add(self, objects: Sequence[bytes]) -> None:
        if objects:
            named, inner = take_out_inner(objects)
            self.objects += named
            self.inner += inner

    def submit(self, group: TaskGroup, futures: Mapping[int, ScalerFuture], carried: Carried) -> None:
        """Submit all rows; `futures`: those of wanted rows."""
        message = self.message(group, list(futures), carried)
        needed = [key for key in self._plan.outside if isinstance(key, ScalerFuture)]
        for one in needed:
            require_own(self._client, one)
        linked = {row: one for row, one in futures.items() if isinstance(one, DependentFuture)}
        if not needed:
            keeps = any(isinstance(one, KeptFuture) for one in futures.values())
            self._engine.tasks.submit_graph(message, list(futures.values()), keeps=keeps)
            return
        call = LinkedGraph(self._engine, self._packer, message, needed, linked, carried)
        for future in linked.values():
            future.call = call
        call.submit()

    def release(self) -> None:
        """Nothing was submitted: end the uses of objects."""
        self._engine.objects.release((*self.objects, *self.inner))

    def message(self, group: TaskGroup, wanted: list[int], carried: Carried) -> m.GraphSubmit:
        """Return the message, complete but for its first number."""
        for key in self._literal_rows:
            value = self._graph[key]
            self._append(key, identity, (key if value is OUTSIDE else value,))
        return m.GraphSubmit(
            client=self._engine.client_id,
            first_number=0,
            functions=tuple(self._functions),
            payloads=Packed.of(self._payloads),
            dependency_counts=self._dependency_counts,
            dependencies=self._dependencies,
            wanted=wanted,
            function_indexes=EMPTY if len(self._functions) == 1 else self._function_indexes,
            capabilities=group.capabilities,
            serializer=group.serializer,
            flags=group.flags,
            depth=group.depth,
            options=join_records([group.options]),
            object_positions=self._object_positions,
            objects=tuple(self.objects),
            **carried_columns([carried] * len(self._payloads)),
        )
