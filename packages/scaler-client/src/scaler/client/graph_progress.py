"""A bar that counts the nodes of a graph as they are done: `Client.get(…, progress=True)`.

The cluster tells a client what it asked for, and no more. So tiny rows are added that need a node each and pass nothing on.
They are few: in a large graph each stands for some nodes, in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import wait
from typing import Any

from scaler.client.future import ScalerFuture
from scaler.client.progress import REFRESH_SECONDS, ProgressBar
from scaler.core.graph import GraphPlan
from scaler_protocol.payloads.mapped_calls import nothing
from scaler_protocol.runtime.names import shown_type

MARKS_MAX = 500


class _Mark:
    """The key of a row that is done when the node of `key` is. It stands for `nodes` nodes."""

    __slots__ = ("key", "nodes")

    def __init__(self, key: Hashable, nodes: int) -> None:
        self.key = key
        self.nodes = nodes


def get_with_progress(
    graph: Mapping[Any, Any],
    keys: Any,
    submit: Callable[[dict[Any, Any], list[Any]], dict[Any, ScalerFuture]],
    cancel: Callable[[list[ScalerFuture]], object],
) -> dict[Any, Any]:
    """Return the values of `keys` while a bar counts nodes. `submit` submits a graph and returns futures of keys.

    Raises as `Client.get`, and ImportError, before anything runs, where tqdm is missing.
    """
    if not isinstance(graph, Mapping):
        raise TypeError(f"a graph is a dictionary of keys and computations, not a {shown_type(graph)}")
    graph = dict(graph)
    plan = GraphPlan(graph, keys)
    rows = plan.order
    step = -(-len(rows) // MARKS_MAX) or 1
    marks = [_Mark(part[-1], len(part)) for part in (rows[at : at + step] for at in range(0, len(rows), step))]
    with ProgressBar(len(rows)) as bar:
        futures = submit({**graph, **{mark: (nothing, mark.key) for mark in marks}}, [*plan.asked, *marks])
        left = {mark: futures.pop(mark) for mark in marks}
        shown = 0
        try:
            values = {}
            for key, future in futures.items():
                while not future.done():
                    wait((future,), REFRESH_SECONDS)
                    done = [mark for mark, marked in left.items() if marked.done()]
                    nodes = sum(mark.nodes for mark in done)
                    for mark in done:
                        del left[mark]
                    bar.advance(nodes)
                    shown += nodes
                values[key] = future.result()
            # All that is left of the marks is on its way.
            bar.advance(len(rows) - shown)
        except BaseException:
            cancel([future for future in (*futures.values(), *left.values()) if not future.done()])
            raise
    return values
