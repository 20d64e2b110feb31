"""Dask's graphs as graphs of `Client.get`: each node that computes something is a task, which gets its inputs by name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, convert_legacy_graph

from scaler.core.graph import arrows
from scaler.dask.annotations import Annotations
from scaler.dask.fused import fused
from scaler.dask.kept import KeptNode
from scaler.errors import GraphKeyError
from scaler_protocol.payloads.mapped_calls import Opaque, call_with_inputs, call_with_retries
from scaler_protocol.runtime.names import shown


class Rows:
    """What some keys of a Dask graph need.

    `nodes` are the graph's own, `computations` what `Client.get` takes. `values` has those of the wanted keys that are data in
    the graph, and so need no task. `capabilities` are what workers must offer.
    """

    def __init__(self, graph: Any, wanted: Iterable[Hashable], *, keep: bool = False) -> None:
        """`graph`: a mapping, or what has one as `__dask_graph__()`. Raises GraphKeyError for keys that are not in it.

        `keep`: values that are kept on the cluster already are wanted as the nodes that stand for them.
        """
        annotations = Annotations(graph)
        self.capabilities = annotations.capabilities
        self._retries = annotations.retries
        if not isinstance(graph, Mapping):
            graph = graph.__dask_graph__()
        self.nodes: dict[Hashable, GraphNode] = convert_legacy_graph(graph)
        self.computations: dict[Hashable, Any] = {}
        self.values: dict[Hashable, Any] = {}
        self.wanted: list[Hashable] = []
        """The wanted keys that need a task."""
        for key in dict.fromkeys(wanted):
            self._add(key)
            source = self._source(key)
            if type(source) is DataNode:
                self.values[key] = source.value
            elif keep and type(source) is KeptNode:
                self.values[key] = source.renamed(key)
            else:
                self.wanted.append(key)

    def _add(self, key: Hashable) -> None:
        """Add a key and all that it needs."""
        pending = [key]
        readers: dict[Hashable, Hashable] = {}
        """Of each key that something needs, what it was that needed it first."""
        while pending:
            key = pending.pop()
            if key in self.computations:
                continue
            node = self.nodes.get(key)
            if node is None:
                path = [key]
                while path[-1] in readers:
                    path.append(readers[path[-1]])
                raise GraphKeyError(_missing(path))
            dependencies = tuple(node.dependencies)
            if type(node) is DataNode:
                self.computations[key] = Opaque(node.value)
            elif type(node) is KeptNode:
                self.computations[key] = node.value
            elif type(node) is Alias:
                self.computations[key] = node.target
            else:
                call, names, inputs = fused(node) or (node, dependencies, dependencies)
                named = (Opaque(call), Opaque(names), *inputs)
                retries = self._retries.get(key)
                self.computations[key] = (
                    (call_with_retries, Opaque(retries), *named) if retries else (call_with_inputs, *named)
                )
            for dependency in dependencies:
                if dependency not in self.computations:
                    readers.setdefault(dependency, key)
                    pending.append(dependency)

    def _source(self, key: Hashable) -> GraphNode:
        """Return the node whose value a key has, behind all other names of it."""
        node = self.nodes[key]
        seen = set()
        while type(node) is Alias and node.target not in seen:
            seen.add(node.target)
            node = self.nodes[node.target]
        return node


def _missing(path: list[Hashable]) -> str:
    """Return what is said of the key that `path` begins with, behind which is what needs it, up to a wanted key."""
    if len(path) == 1:
        return f"key {shown(path[0])} is not in the graph"
    text = f"{shown(path[1])} needs key {shown(path[0])}, which is not in the graph"
    return text if len(path) == 2 else f"{text}: {arrows(path[::-1])}"
