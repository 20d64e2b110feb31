"""The rows of one graph, for monitors that draw it. Made only when one asks; it costs slices of the graph's own columns."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.functions import FunctionRegistry
from scaler_scheduler.core.records import ClientRecord

ROWS_MAX = 50_000
DEPENDENCIES_MAX = 150_000
"""Most rows and dependencies that are sent of a graph."""

FUNCTIONS_MAX = 0xFFFF
"""Most names: a row has the number of one in two bytes. Further functions share the last one."""


def view_graph(
    clients: Mapping[bytes, ClientRecord],
    functions: FunctionRegistry,
    incarnation: bytes,
    client_id: bytes,
    first_number: int,
    unix_time: float,
) -> m.MonitorGraph | None:
    """Return the first rows of a graph; None where it is over, or there is none such."""
    client = clients.get(client_id)
    graph = (
        next((one for one in client.graphs if one.first_number == first_number), None) if client is not None else None
    )
    if graph is None:
        return None
    ends, dependencies, portions = graph.structure(min(graph.row_count, ROWS_MAX))
    rows = len(ends)
    if rows and ends[-1] > DEPENDENCIES_MAX:
        rows = bisect_right(ends, DEPENDENCIES_MAX)
    numbers: dict[bytes, int] = {}
    indexes = array("H")
    for portion in portions:
        if portion.first_row >= rows:
            break
        count = min(len(portion.payload_ends), rows - portion.first_row)
        own = [min(numbers.setdefault(function, len(numbers)), FUNCTIONS_MAX - 1) for function in portion.functions]
        if len(portion.function_indexes):
            indexes.extend([own[index] for index in portion.function_indexes[:count]])
        else:
            indexes.extend(array("H", own[:1]) * count)
    return m.MonitorGraph(
        time_seconds=unix_time,
        incarnation=incarnation,
        client=client_id,
        first_number=first_number,
        row_count=graph.row_count,
        states=array("B", bytes(graph.states[:rows])),
        functions=indexes,
        dependency_ends=ends[:rows],
        dependencies=dependencies[: ends[rows - 1] if rows else 0],
        function_table=tuple(functions.name(function) for function in list(numbers)[:FUNCTIONS_MAX]),
    )
