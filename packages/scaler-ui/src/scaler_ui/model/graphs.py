"""Graphs as the page draws them: those in progress, the last ones that ended, and the rows of those that somebody looked at."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from scaler_protocol.wire.messages import GraphStatus
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.graph_book import DrawnGraph, Key
from scaler_ui.model.graph_layers import Path, critical_path
from scaler_ui.model.stream import running_tasks

NODES_MAX = 160
"""Most rows that are drawn one by one. More are drawn as blocks of layers."""
EDGES_MAX = 1_200
BLOCKS_MAX = 40
FUNCTIONS_SHOWN = 3
PATH_SHOWN = 100

WAITING, READY, DONE, FAILED, RUNNING = range(5)
"""States of rows. RUNNING is none of the scheduler's: a row that is ready, and that a worker reports to run."""

NAMES = ("waiting", "ready", "done", "failed", "running")


def current(model: ClusterModel, key: Key) -> DrawnGraph | None:
    """Return a graph with what is known by now: which rows run, how long others ran, and how they ended."""
    graph = model.graph_book.find(key)
    if graph is None or (graph.path is not None and (graph.ended or ended_status(model, key) is None)):
        return graph
    client, first = key
    for row, state in enumerate(graph.states):
        if state in (DONE, FAILED) and not graph.seconds[row]:
            task = model.tasks.find(client, first + row)
            if task is not None and task.ended_at:
                graph.seconds[row] = task.duration_s
    graph.elapsed.clear()
    if ended_status(model, key) is not None:
        _end(model, key, graph)
        graph.ended = True
    else:
        for one in running_tasks(model):
            row = one.number - first
            if one.row is not None and one.row.client == client and 0 <= row < len(graph.states):
                if graph.states[row] == READY:
                    graph.states[row] = RUNNING
                if graph.states[row] == RUNNING and model.snapshot is not None:
                    graph.elapsed[row] = max(0.0, model.snapshot.time_seconds - one.start)
    seconds = array("d", graph.seconds)
    for row, elapsed in graph.elapsed.items():
        seconds[row] = elapsed
    graph.path = critical_path(graph.shape, seconds)
    return graph


def _end(model: ClusterModel, key: Key, graph: DrawnGraph) -> None:
    """A graph has ended since its rows were heard of last: events say how, and what needs a failed row has failed."""
    client, first = key
    for row in graph.shape.order:
        if graph.states[row] in (DONE, FAILED):
            continue
        task = model.tasks.find(client, first + row)
        if (task is not None and task.state in ("failed", "canceled")) or any(
            graph.states[one] == FAILED for one in graph.shape.needs[row]
        ):
            graph.states[row] = FAILED
        else:
            graph.states[row] = DONE
        if task is not None and task.ended_at:
            graph.seconds[row] = task.duration_s


def ended_status(model: ClusterModel, key: Key) -> GraphStatus | None:
    """Return how a graph ended; None while it has not, or where that is forgotten."""
    snapshot = model.snapshot
    for status in reversed(snapshot.ended_graphs if snapshot is not None else ()):
        if (status.client, status.first_number) == key:
            return status
    return None


def in_progress(model: ClusterModel, key: Key) -> GraphStatus | None:
    """Return how far a graph is; None where it is not in progress."""
    snapshot = model.snapshot
    found = (one for one in (snapshot.graphs if snapshot is not None else ()) if (one.client, one.first_number) == key)
    return next(found, None)


def graph_data(model: ClusterModel, status: GraphStatus, *, drawn: bool = False) -> dict[str, Any]:
    """Return one graph's figures."""
    snapshot = model.snapshot
    now = status.ended_seconds or (snapshot.time_seconds if snapshot is not None else 0.0)
    return {
        "client": status.client.hex(),
        "client_name": model.client_name(status.client),
        "first_number": status.first_number,
        "rows": status.rows,
        "waiting": status.waiting,
        "released": status.released,
        "done": status.done,
        "failed": status.failed,
        "held_results": status.held_results,
        "began_at": status.began_seconds or None,
        "ended_at": status.ended_seconds or None,
        "took_seconds": round(max(0.0, now - status.began_seconds), 6) if status.began_seconds else None,
        "drawn": drawn,
    }


def all_graphs(model: ClusterModel) -> list[dict[str, Any]]:
    """Return the graphs in progress, then the last ones that ended, the newest first."""
    snapshot = model.snapshot
    found = (*snapshot.graphs, *reversed(snapshot.ended_graphs)) if snapshot is not None else ()
    return [
        graph_data(
            model, one, drawn=model.graph_book.find((one.client, one.first_number)) is not None or not one.ended_seconds
        )
        for one in found
    ]


def picture(
    model: ClusterModel, key: Key, first_layer: int = 0, last_layer: int | None = None
) -> dict[str, Any] | None:
    """Return what is drawn of a graph: some layers, as nodes and edges, or as blocks where they have too many rows.

    None where nothing is known of its rows.
    """
    graph = current(model, key)
    if graph is None:
        return None
    shape = graph.shape
    layers = len(shape.layers)
    first = min(max(0, first_layer), max(0, layers - 1))
    last = layers - 1 if last_layer is None else min(max(first, last_layer), layers - 1)
    path = graph.path or Path([], 0.0)
    critical = set(path.rows)
    data: dict[str, Any] = {
        "client": key[0].hex(),
        "first_number": key[1],
        "rows": graph.message.row_count,
        "rows_known": len(graph.states),
        "dependencies_left_out": shape.unknown,
        "ended": graph.ended,
        "layers": layers,
        "first_layer": first,
        "last_layer": last,
        "durations_known": sum(1 for one in graph.seconds if one),
        "path": {
            "seconds": round(path.seconds, 6),
            "rows": len(path.rows),
            "nodes": [_node(graph, key, row, critical) for row in path.rows[:PATH_SHOWN]],
        },
        "nodes": [],
        "edges": [],
        "blocks": [],
        "left_out": 0,
    }
    shown = [row for layer in shape.layers[first : last + 1] for row in layer]
    if len(shown) <= NODES_MAX or first == last:
        # What is slow, has failed or runs is shown even where not all is.
        if len(shown) > NODES_MAX:
            rank = {FAILED: 0, RUNNING: 1, READY: 2, WAITING: 3, DONE: 4}
            kept = sorted(shown, key=lambda row: (row not in critical, rank[graph.states[row]], row))[:NODES_MAX]
            data["left_out"] = len(shown) - NODES_MAX
            shown = sorted(kept)
        present = set(shown)
        edges = [(one, row) for row in shown for one in shape.needs[row] if one in present]
        data["nodes"] = [_node(graph, key, row, critical) for row in shown]
        data["edges"] = edges[:EDGES_MAX]
        data["edges_left_out"] = max(0, len(edges) - EDGES_MAX)
    else:
        data["blocks"] = _blocks(graph, first, last, critical)
    return data


def _node(graph: DrawnGraph, key: Key, row: int, critical: set[int]) -> dict[str, Any]:
    return {
        "row": row,
        "number": key[1] + row,
        "layer": graph.shape.layer_of[row],
        "function": graph.message.function_table[graph.message.functions[row]],
        "state": NAMES[graph.states[row]],
        "seconds": round(graph.seconds[row] or graph.elapsed.get(row, 0.0), 6) or None,
        "critical": row in critical,
    }


def _blocks(graph: DrawnGraph, first: int, last: int, critical: set[int]) -> list[dict[str, Any]]:
    """Return runs of layers, of the same number of layers each."""
    step = -(-(last - first + 1) // BLOCKS_MAX)
    return [
        _block(graph, start, min(last, start + step - 1), critical) for start in range(first, last + 1, max(1, step))
    ]


def _block(graph: DrawnGraph, first: int, last: int, critical: set[int]) -> dict[str, Any]:
    rows: Sequence[int] = [row for layer in graph.shape.layers[first : last + 1] for row in layer]
    states = Counter(graph.states[row] for row in rows)
    functions = Counter(graph.message.functions[row] for row in rows)
    return {
        "first_layer": first,
        "last_layer": last,
        "nodes": len(rows),
        **{name: states[number] for number, name in enumerate(NAMES)},
        "functions": [
            [graph.message.function_table[one], count] for one, count in functions.most_common(FUNCTIONS_SHOWN)
        ],
        "more_functions": max(0, len(functions) - FUNCTIONS_SHOWN),
        "seconds": round(sum(graph.seconds[row] for row in rows), 6),
        "path_seconds": round(sum(graph.seconds[row] for row in rows if row in critical), 6),
    }
