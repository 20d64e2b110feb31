"""The shape of a graph: its layers, and the path through it that takes longest. Pure; rows are numbers from 0 on."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple


class Shape(NamedTuple):
    """What does not change while a graph runs."""

    needs: list[tuple[int, ...]]
    """Rows that each row needs, of those that are known."""
    layers: list[list[int]]
    """Rows by how many others must end before them, one after the other."""
    layer_of: array[int]
    order: array[int]
    """Every row after those it needs."""
    unknown: int
    """Dependencies on rows that are not known."""


class Path(NamedTuple):
    """The rows that take longest one after another."""

    rows: list[int]
    seconds: float


def shape_of(dependency_ends: Sequence[int], dependencies: Sequence[int]) -> Shape:
    """Return the shape of a graph from its columns. Rows that wait for themselves, which none does, are in the last layer."""
    count = len(dependency_ends)
    needs: list[tuple[int, ...]] = []
    needed_by: list[list[int]] = [[] for _ in range(count)]
    start = unknown = 0
    for row, end in enumerate(dependency_ends):
        own = tuple(dict.fromkeys(one for one in dependencies[start:end] if one < count))
        unknown += sum(one >= count for one in dependencies[start:end])
        needs.append(own)
        for one in own:
            needed_by[one].append(row)
        start = end
    missing = [len(own) for own in needs]
    layer_of = array("I", bytes(4 * count))
    layer = [row for row in range(count) if not missing[row]]
    layers: list[list[int]] = []
    order = array("I")
    while layer:
        layers.append(layer)
        order.extend(layer)
        following = []
        for row in layer:
            layer_of[row] = len(layers) - 1
            for reader in needed_by[row]:
                missing[reader] -= 1
                if not missing[reader]:
                    following.append(reader)
        layer = sorted(following)
    left = [row for row in range(count) if missing[row] > 0]
    if left:
        layers.append(left)
        order.extend(left)
        for row in left:
            layer_of[row] = len(layers) - 1
    return Shape(needs, layers, layer_of, order, unknown)


def critical_path(shape: Shape, seconds: Sequence[float]) -> Path:
    """Return the path of rows, each needed by the next one, whose `seconds` are most in sum; of equals, the longest one."""
    count = len(shape.needs)
    until = [0.0] * count
    length = [0] * count
    before = [-1] * count
    last = -1
    for row in shape.order:
        best = -1
        for one in shape.needs[row]:
            if best < 0 or (until[one], length[one]) > (until[best], length[best]):
                best = one
        before[row] = best
        until[row] = seconds[row] + (until[best] if best >= 0 else 0.0)
        length[row] = 1 + (length[best] if best >= 0 else 0)
        if last < 0 or (until[row], length[row]) > (until[last], length[last]):
            last = row
    rows: list[int] = []
    row = last
    while row >= 0 and len(rows) <= count:
        rows.append(row)
        row = before[row]
    return Path(rows[::-1], until[last] if last >= 0 else 0.0)
