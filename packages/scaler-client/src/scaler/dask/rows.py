"""Dask's graphs as graphs of `Client.get`: each node that computes something is a task, which gets its inputs by name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, convert_legacy_graph

from scaler.dask.annotations import Annotations
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
                self.values[key] = KeptNode(key, source.value)
            else:
                self.wanted.append(key)

    def _add(self, key: Hashable) -> None:
        """Add a key and all that it needs."""
        pending: list[tuple[Hashable, Hashable | None]] = [(key, None)]
        while pending:
            key, reader = pending.pop()
            if key in self.computations:
                continue
            node = self.nodes.get(key)
            if node is None:
                needs = f"{shown(reader)} needs key {shown(key)}, which" if reader is not None else f"key {shown(key)}"
                raise GraphKeyError(f"{needs} is not in the graph")
            dependencies = tuple(node.dependencies)
            if type(node) is DataNode:
                self.computations[key] = Opaque(node.value)
            elif type(node) is KeptNode:
                self.computations[key] = node.value
            elif type(node) is Alias:
                self.computations[key] = node.target
            elif retries := self._retries.get(key):
                call = (call_with_retries, Opaque(retries), Opaque(node), Opaque(dependencies))
                self.computations[key] = (*call, *dependencies)
            else:
                self.computations[key] = (call_with_inputs, Opaque(node), Opaque(dependencies), *dependencies)
            pending.extend((dependency, key) for dependency in dependencies)

    def _source(self, key: Hashable) -> GraphNode:
        """Return the node whose value a key has, behind all other names of it."""
        node = self.nodes[key]
        seen = set()
        while type(node) is Alias and node.target not in seen:
            seen.add(node.target)
            node = self.nodes[node.target]
        return node
