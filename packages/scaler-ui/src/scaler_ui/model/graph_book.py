"""The rows of the graphs that somebody has looked at, as they were last heard of."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass, field

from scaler_protocol.wire.messages import MonitorGraph
from scaler_ui.model.graph_layers import Path, Shape, shape_of

DRAWN_MAX = 8
"""Graphs whose rows are kept: 50,000 rows each at most."""

Key = tuple[bytes, int]
"""Client of a graph, and number of its first task."""


@dataclass(slots=True, eq=False)
class DrawnGraph:
    """One graph."""

    message: MonitorGraph
    shape: Shape
    states: bytearray
    """As in `graphs.NAMES`."""
    seconds: array[float]
    """How long each row ran; 0: it has not ended, or nobody knows."""
    elapsed: dict[int, float] = field(default_factory=dict)
    """How long rows have run that run now."""
    ended: bool = False
    path: Path | None = None
    """None: to be found for the states as they are now."""


class GraphBook:
    """The graphs. Those that were heard of last stay."""

    def __init__(self) -> None:
        self._drawn: OrderedDict[Key, DrawnGraph] = OrderedDict()

    def accept(self, message: MonitorGraph) -> None:
        """Take in the rows of a graph."""
        key = message.client, message.first_number
        rows = len(message.states)
        known = self._drawn.pop(key, None)
        if known is None or len(known.states) != rows or known.message.incarnation != message.incarnation:
            shape = shape_of(message.dependency_ends, message.dependencies)
            known = DrawnGraph(message, shape, bytearray(rows), array("d", bytes(8 * rows)))
        known.states[:] = bytes(message.states)
        known.elapsed.clear()
        known.ended = False
        known.path = None
        self._drawn[key] = known
        if len(self._drawn) > DRAWN_MAX:
            self._drawn.popitem(last=False)

    def find(self, key: Key) -> DrawnGraph | None:
        """Return the rows of a graph, None where nobody has looked at it."""
        return self._drawn.get(key)
