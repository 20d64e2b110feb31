"""Dask's graph conventions, as rows in an order in which each comes after those it needs. Pure.

A graph maps keys to computations. A computation is

    (callable, argument, …)     a task
    key                         another node's value
    [computation, …]            a list of values; tuples and dictionaries likewise
    anything else               itself

Nodes that stand for themselves are no rows: their values go where they are needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from scaler.errors import GraphError, GraphKeyError
from scaler_protocol.payloads import Call, InputReference

_DONE = -1


class GraphPlan:
    """What has to be computed for some keys of a graph.

    `order` has the keys of rows, each after those it needs; `row_of` is the inverse.
    """

    def __init__(self, graph: Mapping[Any, Any], keys: Sequence[Any]) -> None:
        """Raises GraphKeyError for keys that are not in the graph, GraphError for duplicates and cycles."""
        self._graph = graph
        seen: set[Hashable] = set()
        for key in keys:
            if key in seen:
                raise GraphError(f"key {key!r} is asked for twice")
            seen.add(key)
            if key not in graph:
                raise GraphKeyError(f"key {key!r} is not in the graph")
        self.order: list[Hashable] = []
        self.row_of: dict[Hashable, int] = {}
        self._visit(keys)

    def is_key(self, value: Any) -> bool:
        """Whether a value names a node."""
        try:
            return value in self._graph
        except TypeError:
            return False

    def resolve(self, key: Hashable) -> Hashable:
        """Follow nodes that are only other nodes' names; the plan is free of cycles."""
        while self.is_key(self._graph[key]) and not is_task(self._graph[key]):
            key = self._graph[key]
        return key

    def dependencies(self, computation: Any) -> Iterator[Hashable]:
        """Yield the keys a computation names, with repetitions; those inside literals' nodes are not looked for."""
        stack = [computation]
        while stack:
            value = stack.pop()
            if is_task(value):
                stack.extend(reversed(value[1:]))
            elif self.is_key(value):
                yield value
            elif type(value) is list or type(value) is tuple:
                stack.extend(reversed(value))
            elif type(value) is dict:
                stack.extend(reversed(value.values()))

    def _visit(self, keys: Sequence[Any]) -> None:
        """Depth first, without recursion: chains are long. A key with an iterator on the stack is being visited."""
        graph = self._graph
        finished: set[Hashable] = set()
        visiting: set[Hashable] = set()
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
                    raise GraphError(f"the graph has a cycle: {_arrows(cycle)}")
                elif following not in finished:
                    visiting.add(following)
                    stack.append((following, self.dependencies(graph[following])))

    def _is_row(self, key: Hashable) -> bool:
        """Whether a node has to be computed: it is a task, or a container that names nodes."""
        computation = self._graph[key]
        if is_task(computation):
            return True
        return not self.is_key(computation) and next(self.dependencies(computation), _DONE) is not _DONE


class RowInputs:
    """The predecessors of one row, numbered as its arguments name them."""

    def __init__(self, plan: GraphPlan, graph: Mapping[Any, Any]) -> None:
        self.rows: list[int] = []
        self._plan = plan
        self._graph = graph
        self._index: dict[int, int] = {}

    def index_of(self, key: Hashable) -> int | None:
        """Return which input of the row a node is; None for a node that is no row."""
        row = self._plan.row_of.get(key)
        if row is None:
            return None
        index = self._index.get(row)
        if index is None:
            index = self._index[row] = len(self.rows)
            self.rows.append(row)
        return index

    def expression(self, value: Any) -> Any:
        """Return `value` with the keys and tasks in it replaced by what stands for them."""
        if is_task(value):
            return Call(value[0], tuple(map(self.expression, value[1:])))
        if self._plan.is_key(value):
            key = self._plan.resolve(value)
            index = self.index_of(key)
            return self._graph[key] if index is None else InputReference(index)
        if type(value) is list:
            return [self.expression(item) for item in value]
        if type(value) is tuple:
            return tuple(self.expression(item) for item in value)
        if type(value) is dict:
            return {name: self.expression(item) for name, item in value.items()}
        return value


def is_task(value: Any) -> bool:
    """Whether a value is a task: a tuple that begins with something callable."""
    return type(value) is tuple and len(value) > 0 and callable(value[0])


def _arrows(cycle: Sequence[Any]) -> str:
    shown = [repr(key) for key in cycle]
    if len(shown) > 10:
        shown = [*shown[:5], "…", *shown[-4:]]
    return " -> ".join(shown)
