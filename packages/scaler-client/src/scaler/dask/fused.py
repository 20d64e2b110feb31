"""Tasks that Dask's optimization has made of several: their parts in the order in which they run.

Dask's own call of such a task computes an order of the whole on the worker, each time, which can take longer than the parts.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from typing import Any, NamedTuple

from dask._task_spec import GraphNode, Task, TaskRef

from scaler_protocol.payloads.mapped_calls import CallsInTurn


class Fused(NamedTuple):
    """`names`: what the calls know their inputs as; `keys`: the nodes of the graph that these are."""

    calls: CallsInTurn
    names: tuple[Hashable, ...]
    keys: tuple[Hashable, ...]


def fused(node: GraphNode) -> Fused | None:
    """Return a task's parts; None for a task that is one, or that is not made as `Task.fuse` makes them."""
    # Older versions of Dask do not say it.
    if type(node) is not Task or not getattr(node, "has_subgraph", bool)() or len(node.args) < 3 or node.kwargs:
        return None
    parts, wanted, names, *references = node.args
    if not (
        type(parts) is dict
        and type(names) is tuple
        and len(names) == len(references)
        and all(type(part) is TaskRef for part in references)
        and all(isinstance(part, GraphNode) for part in parts.values())
    ):
        return None
    given = frozenset(names)
    order = _depth_first(parts, wanted, given)
    if order is None or len(order) + len(given & parts.keys()) != len(parts):
        return None
    steps: list[tuple[Hashable, GraphNode, tuple[Hashable, ...]]] = []
    read_later: set[Hashable] = set()
    for key in reversed(order):
        last = tuple(name for name in parts[key].dependencies if name not in read_later)
        read_later.update(last)
        steps.append((key, parts[key], last))
    return Fused(CallsInTurn(tuple(reversed(steps))), names, tuple(reference.key for reference in references))


def _depth_first(parts: Mapping[Hashable, Any], wanted: Hashable, given: Container[Hashable]) -> list[Hashable] | None:
    """Return the keys that `wanted` needs, each behind what it needs; None where there is no such order."""
    order: dict[Hashable, None] = {}
    entered: set[Hashable] = set()
    path = [wanted]
    while path:
        key = path[-1]
        if key in order:
            path.pop()
            continue
        if key not in parts:
            return None
        needed = [name for name in parts[key].dependencies if name not in order and name not in given]
        if not needed:
            order[path.pop()] = None
        elif key in entered:
            # What it needs was to come before it, and needs it.
            return None
        else:
            entered.add(key)
            path.extend(needed)
    return list(order)
