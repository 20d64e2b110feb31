"""Cuts a graph into the portions in which it is sent, so that no message and no turn of the scheduler grows with it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import CARRIED
from scaler_protocol.wire.columns import EMPTY, Column, Packed

PORTION_ROWS = 4096
PORTION_BYTES = 1024 * 1024
"""Payload bytes after which a portion ends. A single row may have more."""
PORTION_DEPENDENCIES = 32_768


class Place(NamedTuple):
    """Where in a graph a portion begins: the row, and what the rows before it have."""

    row: int = 0
    payload_bytes: int = 0
    dependencies: int = 0
    objects: int = 0


BEGINNING = Place()


def portion_at(graph: m.GraphSubmit, place: Place, wanted: Sequence[int], flags: int) -> tuple[m.GraphSubmit, Place]:
    """Return the portion of a whole graph that begins at `place`, and where the next one begins.

    `wanted`: the wanted rows of the graph, ascending. `flags` go into the portion. Its payloads are a view of the graph's.
    A graph that names earlier tasks is not divided.
    """
    rows = len(graph.payloads)
    lengths, counts = graph.payloads.lengths, graph.dependency_counts
    if len(graph.earlier):
        return replace(graph, wanted=list(wanted), flags=flags), Place(row=rows)
    end, data_end, dependencies_end = place.row, place.payload_bytes, place.dependencies
    while end < rows and end - place.row < PORTION_ROWS:
        data_end += lengths[end]
        dependencies_end += counts[end]
        end += 1
        if (
            data_end - place.payload_bytes >= PORTION_BYTES
            or dependencies_end - place.dependencies >= PORTION_DEPENDENCIES
        ):
            break
    wanted_here = wanted[bisect_left(wanted, place.row) : bisect_left(wanted, end)]
    objects_end = bisect_left(graph.object_positions, end)
    following = Place(end, data_end, dependencies_end, objects_end)
    if place.row == 0 and end == rows:
        return replace(graph, wanted=wanted_here, flags=flags, row_count=rows), following
    functions, indexes = _functions_of(graph, place.row, end)
    portion = replace(
        graph,
        functions=functions,
        payloads=Packed(lengths[place.row : end], memoryview(graph.payloads.data)[place.payload_bytes : data_end]),
        dependency_counts=counts[place.row : end],
        dependencies=graph.dependencies[place.dependencies : dependencies_end],
        wanted=[row - place.row for row in wanted_here],
        function_indexes=indexes,
        flags=flags,
        object_positions=[row - place.row for row in graph.object_positions[place.objects : objects_end]],
        objects=graph.objects[place.objects : objects_end],
        object_sizes=graph.object_sizes[place.objects : objects_end],
        first_row=place.row,
        row_count=rows,
        **{spec.name: getattr(graph, spec.name)[place.row : end] for spec in CARRIED},
    )
    return portion, following


def _functions_of(graph: m.GraphSubmit, start: int, end: int) -> tuple[tuple[bytes, ...], Column]:
    """Return the functions that some rows of a graph use, and their places among these."""
    if not len(graph.function_indexes):
        return graph.functions[:1], EMPTY
    indexes = graph.function_indexes[start:end]
    places = {index: place for place, index in enumerate(dict.fromkeys(indexes))}
    functions = tuple([graph.functions[index] for index in places])
    return functions, EMPTY if len(functions) == 1 else [places[index] for index in indexes]
