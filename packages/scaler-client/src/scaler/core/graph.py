"""Dask's graph conventions, as rows in an order in which each comes after those it needs. Pure.

A graph maps keys to computations. A computation is

    (callable, argument, …)     a task
    key                         another node's value
    [computation, …]            a list of values; tuples and dictionaries likewise
    anything else               itself

Whatever equals a key names its node, inside data too: so it is in Dask. Nodes that stand for themselves are no rows: their
values go where they are needed.

Users' values are looked at in two ways only: they are looked up among the keys, which asks for their hash and perhaps
compares them, and whatever that raises means that they name nothing. Nothing here recurses, as data may be nested deeply,
and nothing follows a container twice, as containers may be shared or hold themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from scaler.errors import GraphCycleError, GraphError, GraphKeyError
from scaler_protocol.payloads.expressions import (
    OPEN,
    HoldsItselfError,
    join_container,
    parts_of_container,
    rebuild,
)
from scaler_protocol.payloads.framing import Call, InputReference
from scaler_protocol.runtime.names import shown, shown_type

NO_KEY: Any = object()
"""What `GraphPlan.find` returns for a value that names no node. None, -1 and the like may be keys."""

OUTSIDE: Any = object()
"""The computation of a node whose value a task has that is not one of the graph. Its key stands for that task."""
OUTSIDE_FIRST = 1 << 31
"""From here on, what a row needs is a node outside, by its place in `GraphPlan.outside`."""

_DONE: Any = object()
_TASK: Any = object()

_DASK_MODULE = "dask._task_spec"
CONSTANT_TYPES = frozenset({str, bytes, int, float, bool, complex, type(None)})
"""Types of values that nobody can change, so that they are their own copies, and that name nothing inside of them."""


class GraphPlan:
    """What has to be computed for some keys of a graph.

    `asked` maps the keys asked for, in their order, to the nodes that have their values. `order` has the keys of rows, each
    after those it needs; `row_of` is the inverse.
    """

    def __init__(self, graph: Mapping[Any, Any], keys: Any) -> None:
        """`keys`: an iterable of keys, or a single one.

        Raises GraphKeyError for keys that are not in the graph or asked for twice, GraphCycleError for cycles, GraphError
        for what is no key and for nodes that cannot be computed.
        """
        self._graph = graph
        self._names: dict[Any, Any] = dict(zip(graph, graph, strict=True))
        self._checked_types: set[int] = set()
        self.order: list[Hashable] = []
        self.row_of: dict[Hashable, int] = {}
        self.outside: dict[Hashable, int] = {}
        """The keys of nodes outside that rows need, numbered."""
        wanted = self._find_asked(_listed(keys, self._names))
        self._visit(list(wanted.values()))
        self.asked = {key: self.resolve(node) for key, node in wanted.items()}

    def find(self, value: Any) -> Any:
        """Return the key that a value names, as the graph has it, or NO_KEY."""
        try:
            return self._names.get(value, NO_KEY)
        except Exception:
            # Without a hash, or compared to a key in a way of its own.
            return NO_KEY

    def resolve(self, key: Hashable) -> Hashable:
        """Follow nodes that are only other nodes' names; the plan is free of cycles."""
        while True:
            computation = self._graph[key]
            following = NO_KEY if is_task(computation) else self.find(computation)
            if following is NO_KEY:
                return key
            key = following

    def source_of(self, key: Hashable) -> int | None:
        """Return the row that has a node's value, or its place outside. None for a node that stands for itself."""
        row = self.row_of.get(key)
        if row is None and self._graph[key] is OUTSIDE:
            return OUTSIDE_FIRST + self.outside.setdefault(key, len(self.outside))
        return row

    def dependencies(self, computation: Any) -> Iterator[Hashable]:
        """Yield the keys a computation names; those inside literals' nodes are not looked for."""
        return self._mentioned(computation, tasks=False)

    def names_something(self, computation: Any) -> bool:
        """Whether a computation names nodes or holds tasks, so that it must be evaluated by the worker."""
        if type(computation) in CONSTANT_TYPES:
            return self.find(computation) is not NO_KEY
        return next(self._mentioned(computation, tasks=True), _DONE) is not _DONE

    def _mentioned(self, computation: Any, *, tasks: bool) -> Iterator[Any]:
        """Yield the keys a computation names, and `_TASK` for each task in it where `tasks`."""
        find, plain, checked = self.find, CONSTANT_TYPES, self._checked_types
        stack = [computation]
        seen: set[int] = set()
        while stack:
            value = stack.pop()
            kind = type(value)
            if kind is tuple:
                if is_task(value):
                    if id(type(value[0])) not in checked:
                        self._require_known(value[0], computation)
                    if tasks:
                        yield _TASK
                    parts: Iterable[Any] = value[:0:-1]
                else:
                    key = find(value)
                    if key is not NO_KEY:
                        yield key
                        continue
                    parts = reversed(value)
            elif kind is list:
                parts = reversed(value)
            elif kind is dict:
                parts = reversed(value.values())
            else:
                if kind not in plain and id(kind) not in checked:
                    self._require_known(value, computation)
                key = find(value)
                if key is not NO_KEY:
                    yield key
                continue
            if id(value) not in seen:
                seen.add(id(value))
                stack.extend(parts)

    def _require_known(self, value: Any, computation: Any) -> None:
        """Raise for Dask's own task objects, which would be passed on as if they were data."""
        kind = type(value)
        if any(vars(base).get("__module__") == _DASK_MODULE for base in kind.__mro__):
            where = path_to(computation, lambda part: part is value)
            raise _UnknownComputationError(
                f"{where} is a {shown_type(value)}: Dask's task objects are not understood here: compute the graph with "
                "scaler.dask.get(client), or write it as a tuple of a callable and its arguments, as a key, or as plain data"
            )
        self._checked_types.add(id(kind))

    def _find_asked(self, keys: Sequence[Any]) -> dict[Any, Any]:
        """Return the graph's own key for each key asked for."""
        wanted: dict[Any, Any] = {}
        for key in keys:
            try:
                known, duplicate = self._names.get(key, NO_KEY), key in wanted
            except Exception as error:
                nested = isinstance(key, list | set | dict)
                hint = ": keys must be one flat list" if nested else f": it cannot be looked up ({error})"
                raise GraphError(f"{shown(key)} was asked for, which is no key{hint}") from None
            if known is NO_KEY:
                raise GraphKeyError(f"key {shown(key)} is not in the graph")
            if duplicate:
                raise GraphKeyError(f"key {shown(key)} is asked for twice")
            wanted[key] = known
        return wanted

    def _visit(self, keys: Sequence[Any]) -> None:
        """Depth first, without recursion: chains are long. A key with an iterator on the stack is being visited."""
        graph = self._graph
        finished: set[Hashable] = set()
        visiting: set[Hashable] = set()
        current = NO_KEY
        try:
            for key in keys:
                if key in finished:
                    continue
                stack: list[tuple[Hashable, Iterator[Hashable]]] = [(key, self.dependencies(graph[key]))]
                visiting.add(key)
                while stack:
                    current, needed = stack[-1]
                    following = next(needed, _DONE)
                    if following is _DONE:
                        stack.pop()
                        visiting.discard(current)
                        finished.add(current)
                        if self._is_row(current):
                            self.row_of[current] = len(self.order)
                            self.order.append(current)
                    elif following in visiting:
                        path = [name for name, _ in stack]
                        cycle = [*path[path.index(following) :], following]
                        raise GraphCycleError(f"the graph has a cycle: {arrows(cycle)}", cycle)
                    elif following not in finished:
                        visiting.add(following)
                        stack.append((following, self.dependencies(graph[following])))
        except _UnknownComputationError as error:
            raise GraphError(f"node {shown(current)}: {error}") from None

    def _is_row(self, key: Hashable) -> bool:
        """Whether a node has to be computed: it is a task, or a container that names nodes."""
        computation = self._graph[key]
        if is_task(computation):
            return True
        if type(computation) in CONSTANT_TYPES or self.find(computation) is not NO_KEY:
            return False
        return self.names_something(computation)


class RowInputs:
    """The predecessors of one row, numbered as its arguments name them."""

    def __init__(self, plan: GraphPlan, graph: Mapping[Any, Any]) -> None:
        self.rows: list[int] = []
        self._plan = plan
        self._graph = graph
        self._index: dict[int, int] = {}

    def index_of(self, key: Hashable) -> int | None:
        """Return which input of the row a node is; None for a node that is no row."""
        row = self._plan.source_of(key)
        if row is None:
            return None
        index = self._index.get(row)
        if index is None:
            index = self._index[row] = len(self.rows)
            self.rows.append(row)
        return index

    def expression(self, value: Any) -> Any:
        """Return `value` with the keys and tasks in it replaced by what stands for them; what names nothing stays itself.

        Raises GraphError for a container that names nodes and holds itself.
        """
        try:
            return rebuild(value, self._resolve, _parts_of, _join)
        except HoldsItselfError as error:
            raise GraphError(f"a {shown_type(error.container)} holds itself, and names other nodes") from None

    def _resolve(self, value: Any) -> Any:
        kind = type(value)
        if kind is list or kind is dict or is_task(value):
            return OPEN
        key = self._plan.find(value)
        if key is not NO_KEY:
            return self._stand_in(key)
        return OPEN if kind is tuple else value

    def _stand_in(self, key: Hashable) -> Any:
        target = self._plan.resolve(key)
        index = self.index_of(target)
        return self._graph[target] if index is None else InputReference(index)


def _parts_of(container: Any) -> Sequence[Any]:
    return container[1:] if is_task(container) else parts_of_container(container)


def _join(original: Any, parts: Sequence[Any], values: list[Any]) -> Any:
    return Call(original[0], tuple(values)) if is_task(original) else join_container(original, parts, values)


def is_task(value: Any) -> bool:
    """Whether a value is a task: a tuple that begins with something callable."""
    return type(value) is tuple and len(value) > 0 and callable(value[0])


def parts_inside(graph: Mapping[Any, Any], is_wanted: Callable[[Any], bool]) -> list[Any]:
    """Return the values in the nodes of a graph, and in their tasks, lists, tuples and dictionaries, that are wanted."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    stack: list[Any] = [graph]
    while stack:
        value = stack.pop()
        if type(value) is dict:
            parts: Iterable[Any] = value.values()
        elif type(value) is list or type(value) is tuple:
            parts = value
        else:
            if is_wanted(value):
                found[id(value)] = value
            continue
        if id(value) not in seen:
            seen.add(id(value))
            stack.extend(parts)
    return list(found.values())


def path_to(computation: Any, is_wanted: Callable[[Any], bool]) -> str:
    """Say where inside a computation a part is: "it" for the computation itself."""
    stack: list[tuple[Any, str]] = [(computation, "")]
    seen: set[int] = set()
    while stack:
        value, path = stack.pop()
        if is_wanted(value):
            return path or "it"
        kind = type(value)
        if id(value) in seen or kind not in (tuple, list, dict):
            continue
        seen.add(id(value))
        if kind is dict:
            stack.extend((part, f"{path}[{shown(name)}]") for name, part in value.items())
        elif not path and is_task(value):
            stack.append((value[0], "its function"))
            stack.extend((part, f"argument {position}") for position, part in enumerate(value[1:], 1))
        else:
            stack.extend((part, f"{path}[{position}]") for position, part in enumerate(value))
    return "a part of it"


class _UnknownComputationError(Exception):
    """A computation holds what stands for a task elsewhere and is none here."""


def _listed(keys: Any, names: Mapping[Any, Any]) -> list[Any]:
    """Return the keys asked for: a text or anything else that is a key by itself means that one."""
    if isinstance(keys, str | bytes):
        return [keys]
    try:
        single = keys in names
    except Exception:
        single = False
    if single:
        return [keys]
    try:
        iterator = iter(keys)
    except TypeError:
        return [keys]
    return list(iterator)


def arrows(path: Sequence[Any]) -> str:
    """Return what people see of a path: its keys, of a long one the first and the last."""
    texts = [shown(key) for key in path]
    if len(texts) > 10:
        texts = [*texts[:5], "…", *texts[-4:]]
    return " -> ".join(texts)
