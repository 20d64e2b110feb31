"""`GraphTemplate`: a graph that is checked, ordered and pickled once, and runs often."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Protocol, Self

from scaler.client.dependent_future import DependentFuture
from scaler.client.engine import Engine
from scaler.client.future import FutureSource, ScalerFuture
from scaler.client.graph_run import GraphEncoder
from scaler.client.joined_rows import RowCall, calls_of, join_rows
from scaler.client.linked_calls import held_by, passed_on, require_own_future
from scaler.client.linked_graphs import LinkedGraph
from scaler.client.object_reference import InnerReferences, ObjectReference
from scaler.core.graph import CONSTANT_TYPES, OUTSIDE_FIRST, GraphPlan, parts_inside
from scaler.core.graph_template import Form, Rows, make_form, spread
from scaler.core.tasks import FUNCTIONS_MAX, TaskGroup
from scaler.errors import GraphError, GraphKeyError, SerializationError
from scaler.serialization.arguments import Packer
from scaler.serialization.pickled import Packed
from scaler_protocol.payloads.framing import Argument, Source, frame_arguments, identity
from scaler_protocol.runtime.names import shown, shown_type
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import join_records
from scaler_protocol.wire.columns import EMPTY, Column
from scaler_protocol.wire.columns import Packed as PackedColumn

FORMS_MAX = 16
"""Of so many sets of given nodes a template keeps the form."""


class GraphRunner(Protocol):
    """What a template needs of its client's `Operations`."""

    @property
    def engine(self) -> Engine:
        """What messages leave through."""

    def require_open(self) -> None:
        """Raise where the client cannot be used."""

    def results_of(self, futures: Mapping[Any, ScalerFuture], /) -> dict[Any, Any]:
        """Wait for the results of a graph."""


class PreparedGraph(NamedTuple):
    """A graph as it is sent, with the uses of objects that it names."""

    rows: Rows
    functions: tuple[bytes, ...]
    """Of the rows, and behind them, unless it is one of them, `identity`."""
    passes_on: int
    """The place of `identity` among them."""
    targets: Mapping[Hashable, Hashable]
    """The keys asked for, in their order, and the nodes that have their values."""
    literals: Mapping[Hashable, Argument]
    """The nodes that are data."""
    constants: Mapping[Hashable, Any]
    """The values of those asked for that need no row."""
    nodes: frozenset[Hashable]
    """All keys of the graph."""
    calls: Sequence[RowCall | None]
    """One per row, where one task may compute several of them: see `joined_rows`."""
    nodes_max: int
    held: tuple[bytes, ...]
    """Uses of objects that runs name."""
    inner: tuple[bytes, ...]
    """Uses of objects whose references are inside of values."""


class _Sendable(NamedTuple):
    """A form as columns of its message, without the rows that pass values on."""

    form: Form
    lengths: list[int]
    data: bytes
    counts: array[int]
    dependencies: array[int]
    functions: tuple[bytes, ...]
    function_indexes: Column
    positions: list[int]
    objects: list[bytes]
    placeholders: Mapping[Hashable, bytes]
    """By given node: what stands for its object, which is another one in each run."""


def prepare_graph(
    engine: Engine, packer: Packer, graph: Mapping[Any, Any], keys: Any, client: FutureSource, nodes_max: int = 1
) -> PreparedGraph:
    """Check, order and pickle what `keys` need. Raises as `submit_graph`; SerializationError for futures too.

    `nodes_max`: how many nodes one task may compute.
    """
    if not isinstance(graph, Mapping):
        raise TypeError(f"a graph is a dictionary of keys and computations, not a {shown_type(graph)}")
    graph = dict(graph)
    plan = GraphPlan(graph, keys)
    asked = {key: plan.find(key) for key in plan.asked}
    computations, literals = spread(plan, graph)
    plan = GraphPlan(computations, list(asked))
    encoder = GraphEncoder(engine, packer, plan, computations, client)
    held: list[bytes] = []
    inner: tuple[bytes, ...] = ()
    arguments: dict[Hashable, Argument] = {}
    try:
        for key in plan.order:
            encoder.add_row(key)
        with InnerReferences() as references:
            for key, value in literals.items():
                try:
                    arguments[key] = packer.argument(identity, 0, value, held, "the value")
                except SerializationError as error:
                    raise SerializationError(f"node {shown(key)}: {error}") from error
        if references:
            inner = engine.objects.hold_inner(references)
        message = encoder.message(TaskGroup(m.TaskKind.CALL, 0, (), b"", 0), [], ())
        passes_on = packer.function(identity)
        engine.tasks.define(passes_on)
    except BaseException as error:
        encoder.release()
        engine.objects.release((*held, *inner))
        if isinstance(error, SerializationError) and parts_inside(graph, lambda part: isinstance(part, ScalerFuture)):
            raise SerializationError(
                f"{error}; a graph that is prepared cannot have futures inside: prepare it with another value there, and give "
                "the result of the future to each run"
            ) from error
        raise
    functions = tuple(dict.fromkeys((*message.functions, passes_on.function_id)))
    if len(functions) > FUNCTIONS_MAX:
        raise GraphError(f"the graph has more than {FUNCTIONS_MAX - 1} different functions")
    return PreparedGraph(
        rows=_rows_of(message, plan, encoder.function_objects),
        functions=functions,
        passes_on=functions.index(passes_on.function_id),
        targets=asked,
        literals=arguments,
        constants={
            key: literals[key] for key in asked.values() if key in literals and type(literals[key]) in CONSTANT_TYPES
        },
        nodes=frozenset(graph),
        calls=calls_of(plan, computations, packer) if nodes_max > 1 else (),
        nodes_max=nodes_max,
        held=(*encoder.objects, *held),
        inner=(*encoder.inner, *inner),
    )


def _rows_of(message: m.GraphSubmit, plan: GraphPlan, function_objects: Mapping[int, Sequence[bytes]]) -> Rows:
    # All without the uses, which the template has.
    of_functions = {index: tuple(map(bytes, ids)) for index, ids in function_objects.items()}
    apart = {object_id for ids in of_functions.values() for object_id in ids}
    objects: dict[int, tuple[bytes, ...]] = {}
    for row, object_id in zip(message.object_positions, message.objects, strict=True):
        if object_id not in apart:
            objects[row] = (*objects.get(row, ()), bytes(object_id))
    needs: list[Sequence[int]] = []
    start = 0
    for count in message.dependency_counts:
        needs.append(message.dependencies[start : start + count])
        start += count
    rows = range(len(message.payloads))
    return Rows(
        keys=plan.order,
        payloads=message.payloads.split(),
        needs=needs,
        function_indexes=message.function_indexes or [0] * len(rows),
        objects=[objects.get(row, ()) for row in rows],
        function_objects=of_functions,
        outside=list(plan.outside),
    )


class GraphTemplate:
    """A graph that is sent again with each run, and that nothing else is done for again. Get it from `Client.prepare`.

    Any number of threads may run it, and runs may overlap. It keeps the pickled graph, and its large values in object storage,
    until `close()`, the end of a `with` block, or until nobody has it any more.
    """

    def __init__(
        self,
        operations: GraphRunner,
        packer: Packer,
        graph: PreparedGraph,
        client: FutureSource,
        group: Callable[[], TaskGroup],
    ) -> None:
        """`group` returns what the rows of a run are submitted in."""
        self._operations = operations
        self._packer = packer
        self._graph: PreparedGraph | None = graph
        self._client = client
        self._group = group
        self._forms: dict[tuple[frozenset[Hashable], ...], _Sendable] = {}
        """By the nodes given, those of them that are objects, and those that were given as references."""

    def run(self, inputs: Mapping[Any, Any] | None = None, *, block: bool = True) -> dict[Any, Any]:
        """Run the graph, and return what `client.get` of the prepared graph and keys returns with `inputs` in it.

        `inputs` maps keys of the graph to values, in place of what the graph has there; all other nodes are as they were
        prepared. Nodes that only a given one needs do not run. Values are data, whatever they are: nothing in them names a
        node, no tuple in them is a task. An `ObjectReference` stands for its object, and a future of this client for its
        result: what needs it waits for it. With `block=False` the values returned are futures.

        Raises GraphKeyError for keys that are not in the graph, SerializationError for values that cannot be sent (other
        clients' futures, and any inside of values), ValueError after `close()`, and what the client raises that is closed or
        has lost its scheduler.
        """
        self._operations.require_open()
        graph = self._graph
        if graph is None:
            raise ValueError("this template is closed")
        futures = self._submit(graph, self._checked(graph, {} if inputs is None else inputs))
        return self._operations.results_of(futures) if block else dict(futures)

    def close(self) -> None:
        """Forget the graph and let go of its objects. Runs that have begun go on. Idempotent."""
        graph, self._graph = self._graph, None
        self._forms.clear()
        if graph is not None and not self._operations.engine.forked:
            self._operations.engine.objects.release(graph.held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a graph template cannot be pickled: prepare the graph where it runs")

    def __repr__(self) -> str:
        graph = self._graph
        if graph is None:
            return f"<{type(self).__name__}: closed>"
        return f"<{type(self).__name__} of {len(graph.rows.keys)} tasks for {len(graph.targets)} keys>"

    # --- internal

    def _checked(self, graph: PreparedGraph, inputs: Mapping[Any, Any]) -> dict[Hashable, Any]:
        """Return the inputs by the graph's own keys."""
        if not isinstance(inputs, Mapping):
            raise TypeError(f"inputs are a dictionary of keys and values, not a {shown_type(inputs)}")
        given = dict(inputs)
        unknown = [key for key in given if key not in graph.nodes]
        if unknown:
            raise GraphKeyError(f"input {shown(unknown[0])} is not a node of the graph")
        for key, value in given.items():
            if isinstance(value, ScalerFuture):
                require_own_future(self._client, value, f"input {shown(key)} is")
            elif isinstance(value, Future):
                raise SerializationError(
                    f"input {shown(key)} is a future of another kind, which a run cannot wait for: give its result()"
                )
        return given

    def _submit(self, graph: PreparedGraph, given: dict[Hashable, Any]) -> dict[Hashable, ScalerFuture]:
        inputs = _Inputs(self._operations.engine, self._packer, given)
        sendable = self._sendable(graph, inputs)
        form = sendable.form
        futures: dict[Hashable, ScalerFuture] = {}
        by_row: dict[int, ScalerFuture] = {}
        future_type = DependentFuture if inputs.needed else ScalerFuture
        for key, node in graph.targets.items():
            row = form.row_of.get(node)
            if row is None:
                futures[key] = future = ScalerFuture(self._client)
                future.end_with(given[node] if node in given else graph.constants[node])
            else:
                futures[key] = by_row.get(row) or by_row.setdefault(row, future_type(self._client))
        if not by_row:
            return futures
        message = self._message(graph, sendable, inputs, list(by_row))
        inner = (*graph.inner, *inputs.inner)
        if inner:
            for future in by_row.values():
                future.hold_until_restored(inner)
        linked = {row: one for row, one in by_row.items() if isinstance(one, DependentFuture)}
        if linked:
            needed = list(inputs.needed.values())
            call = LinkedGraph(self._operations.engine, self._packer, message, needed, linked, ())
            for one in linked.values():
                one.call = call
            call.submit()
            return futures
        # Uses of objects that are not submitted end with the message.
        self._operations.engine.tasks.submit_graph(message, list(by_row.values()))
        return futures

    def _message(
        self, graph: PreparedGraph, sendable: _Sendable, inputs: _Inputs, wanted: Sequence[int]
    ) -> m.GraphSubmit:
        """Return the message of a run, complete but for its first number."""
        hold, form = self._operations.engine.objects.hold, sendable.form
        data, objects = sendable.data, []
        for key, placeholder in sendable.placeholders.items():
            data = data.replace(placeholder, inputs.arguments[key].data)
        given = {placeholder: key for key, placeholder in sendable.placeholders.items()}
        for object_id in sendable.objects:
            objects.append(inputs.use_of(given[object_id]) if object_id in given else hold(object_id))
        positions = list(sendable.positions)
        payloads: list[bytes] = []
        counts, dependencies = array("I", sendable.counts), array("I", sendable.dependencies)
        outside = {key: OUTSIDE_FIRST + index for index, key in enumerate(inputs.needed)}
        for row, key in enumerate(form.passed, len(sendable.lengths)):
            if key in outside:
                counts[row] = 1
                dependencies.append(outside[key])
            if key in inputs.arguments:
                packed = inputs.packed(key)
                payload = bytes(packed.payload)
                objects += packed.objects
            else:
                argument = graph.literals[key]
                payload = frame_arguments([argument], {})
                if argument.source is Source.OBJECT:
                    objects.append(hold(argument.data))
            positions.extend([row] * (len(objects) - len(positions)))
            payloads.append(payload)
        group = self._group()
        return m.GraphSubmit(
            client=self._operations.engine.client_id,
            first_number=0,
            functions=sendable.functions,
            payloads=PackedColumn([*sendable.lengths, *map(len, payloads)], b"".join((data, *payloads))),
            dependency_counts=counts,
            dependencies=dependencies,
            wanted=wanted,
            function_indexes=sendable.function_indexes,
            capabilities=group.capabilities,
            serializer=group.serializer,
            flags=group.flags,
            depth=group.depth,
            options=join_records([group.options]),
            object_positions=array("I", positions),
            objects=tuple(objects),
        )

    def _sendable(self, graph: PreparedGraph, inputs: _Inputs) -> _Sendable:
        """Return the form of a run; made where no run before has given the same nodes in the same ways."""
        names = (frozenset(inputs.arguments), inputs.objects, inputs.references)
        known = self._forms.get(names)
        if known is None:
            given, objects, references = names

            def passes_on(key: Hashable) -> bool:
                return key in references if key in given else key not in graph.constants

            placeholders = {key: new_id() for key in objects}
            in_place = {key: value for key, value in graph.literals.items() if key not in given}
            in_place |= {key: Argument(Source.OBJECT, placeholder) for key, placeholder in placeholders.items()}
            form = make_form(graph.rows, in_place, list(graph.targets.values()), given, passes_on)
            if graph.calls:
                form = join_rows(
                    graph.rows, graph.calls, form, in_place, given, partial(self._is_unchanged, graph), graph.nodes_max
                )
            known = _sendable_form(graph, form, placeholders)
            for oldest in list(self._forms)[: max(0, len(self._forms) + 1 - FORMS_MAX)]:
                self._forms.pop(oldest, None)
            self._forms[names] = known
        return known

    def _is_unchanged(self, graph: PreparedGraph, row: int) -> bool:
        """Whether the function of a row is still the one that was prepared: what it consists of may change."""
        call = graph.calls[row]
        prepared = graph.functions[graph.rows.function_indexes[row]]
        return call is not None and self._packer.function(call.function).function_id == prepared


class _Inputs:
    """The values that a run gives, as arguments."""

    def __init__(self, engine: Engine, packer: Packer, given: Mapping[Hashable, Any]) -> None:
        self._hold = engine.objects.hold
        self._packer = packer
        self.arguments: dict[Hashable, Argument] = {}
        self._uses: dict[Hashable, list[bytes]] = {}
        """Of those that are objects, until somebody takes them."""
        self.inner: tuple[bytes, ...] = ()
        """Uses of objects whose references are inside of the values."""
        self.needed: dict[Hashable, ScalerFuture] = {}
        """The nodes whose values are results that are not there."""
        for key, value in given.items():
            named = self._uses[key] = []
            if isinstance(value, ScalerFuture):
                self._add_future(engine, key, value, named)
                continue
            try:
                with InnerReferences() as references:
                    self.arguments[key] = packer.argument(identity, 0, value, named, "the value")
            except SerializationError as error:
                raise SerializationError(f"input {shown(key)}: {error}") from error
            if references:
                self.inner += engine.objects.hold_inner(references)
        self.objects = frozenset([key for key, value in self.arguments.items() if value.source is Source.OBJECT])
        """The nodes whose values are objects."""
        self.references = frozenset(
            [key for key, value in given.items() if isinstance(value, ObjectReference | ScalerFuture)]
        )
        """Those that were given as references or futures: whoever asks for one of these gets it through a task."""

    def _add_future(self, engine: Engine, key: Hashable, future: ScalerFuture, named: list[bytes]) -> None:
        self.inner += tuple(held_by([future]))
        future.is_named = True
        if future.has_value:
            self.arguments[key], inner = passed_on(engine, self._packer, future, named)
            self.inner += inner
        else:
            self.needed[key] = future
            self.arguments[key] = Argument(Source.INPUT, bytes(2))

    def use_of(self, key: Hashable) -> bytes:
        """Return the object that a value is, with one use counted."""
        uses = self._uses[key]
        return uses.pop() if uses else self._hold(self.arguments[key].data)

    def packed(self, key: Hashable) -> Packed:
        """Return the arguments of a row that passes a value on."""
        named = [self.use_of(key)] if key in self.objects else []
        return self._packer.framed(frame_arguments([self.arguments[key]], {}), named, f"input {shown(key)}")


def _sendable_form(graph: PreparedGraph, form: Form, placeholders: Mapping[Hashable, bytes]) -> _Sendable:
    indexes = [graph.rows.function_indexes[row] for row in form.rows] + [graph.passes_on] * len(form.passed)
    return _Sendable(
        form=form,
        lengths=[len(payload) for payload in form.payloads],
        data=b"".join(form.payloads),
        counts=array("I", [len(needs) for needs in form.needs] + [0] * len(form.passed)),
        dependencies=array("I", [one for needs in form.needs for one in needs]),
        functions=tuple([graph.functions[index] for index in sorted(set(indexes))]),
        function_indexes=_places(indexes),
        positions=[row for row, objects in enumerate(form.objects) for _ in objects],
        objects=[one for objects in form.objects for one in objects],
        placeholders=placeholders,
    )


def _places(indexes: Sequence[int]) -> Column:
    """Return the place of each among those that occur, in ascending order; nothing where only one does."""
    places = {index: place for place, index in enumerate(sorted(set(indexes)))}
    return array("H", [places[index] for index in indexes]) if len(places) > 1 else EMPTY
