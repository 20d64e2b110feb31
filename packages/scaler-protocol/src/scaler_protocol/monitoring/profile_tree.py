"""Profiles as trees of calls: how they are merged, kept within bounds, and written for other programs.

A node is a call under its caller, with the time that was spent in it and not in what it called. The roots are functions of tasks.
A node with the empty name is a line of its caller: where the time was spent in a function that called nothing that Python shows.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple

from scaler_protocol.wire.columns import EMPTY, Column

PROFILE_SECONDS_MAX = 60
"""The longest profile."""

RATE_DEFAULT = 100
RATE_MAX = 1_000
"""Samples a second. A sampler takes fewer where they cost too much."""

NODES_MAX = 10_000
"""Most nodes of a tree that is kept, but for one OTHER for each."""

DEPTH_MAX = 160
"""Deepest node. Samplers cut off stacks before that."""

TEXT_CHARACTERS_MAX = 300
"""Longest name, and longest path; of a path the end is kept."""

OTHER = ("(other)", "", 0)
"""Stands for calls that had no place any more."""

MICROSECONDS_MAX = 2**63

Key = tuple[str, str, int]
"""(name, file, line where the function begins) of a call."""


class CallTable(NamedTuple):
    """A tree, one row per node. Callers come before what they call."""

    parents: Column = EMPTY
    """The caller's row + 1; 0: a root."""
    names: Column = EMPTY
    """Rows of `texts`: the function."""
    files: Column = EMPTY
    """Rows of `texts`."""
    lines: Column = EMPTY
    microseconds: Column = EMPTY
    """Time in the node itself."""
    texts: tuple[str, ...] = ()


def check_calls(table: CallTable) -> CallTable:
    """Return a table whose rows a task may have written. Raises ValueError where it is none."""
    count = len(table.parents)
    if any(len(column) != count for column in table[1:5]):
        raise ValueError("the columns of a profile have different lengths")
    if any(parent > row for row, parent in enumerate(table.parents)):
        raise ValueError("a call comes before its caller")
    if count and max(max(table.names), max(table.files)) >= len(table.texts):
        raise ValueError("a call has a name that is not there")
    return table


class _Node:
    __slots__ = ("children", "depth", "key", "microseconds")

    def __init__(self, key: Key, depth: int) -> None:
        self.key = key
        self.depth = depth
        self.microseconds = 0
        self.children: dict[Key, _Node] = {}


class ProfileTree:
    """Takes in tables. What does not fit becomes OTHER, under the last caller that does; no time is lost."""

    def __init__(self, nodes_max: int = NODES_MAX) -> None:
        self._nodes_max = nodes_max
        self._root = _Node(OTHER, 0)
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, table: CallTable, name_of: Callable[[str], str] | None = None) -> None:
        """Merge a table whose rows were checked. `name_of` gives the roots other names."""
        texts = [_shortened(text) for text in table.texts]
        nodes: list[_Node] = []
        for parent, name, file, line, microseconds in zip(
            table.parents, table.names, table.files, table.lines, table.microseconds, strict=True
        ):
            above = nodes[parent - 1] if parent else self._root
            text = texts[name]
            if not parent and name_of is not None:
                text = _shortened(name_of(table.texts[name]))
            node = self._under(above, (text, texts[file], line))
            node.microseconds += microseconds
            nodes.append(node)

    def _under(self, above: _Node, key: Key) -> _Node:
        if above.key == OTHER and above is not self._root:
            return above
        node = above.children.get(key)
        if node is None:
            if key != OTHER and (self._count >= self._nodes_max or above.depth >= DEPTH_MAX - 1):
                return self._under(above, OTHER)
            node = above.children[key] = _Node(key, above.depth + 1)
            self._count += key != OTHER
        return node

    def table(self, nodes_max: int = NODES_MAX) -> CallTable:
        """Return the tree with the nodes that have most time in them and below; the others are added up in an OTHER."""
        ordered, above, totals = self._flattened()
        places = [place for place, node in enumerate(ordered) if place and node.key != OTHER]
        if len(places) > nodes_max:
            # A caller has at least the time of what it calls, and comes before it: it is kept if that is.
            places.sort(key=lambda place: (-totals[place], place))
        kept = {0, *places[:nodes_max]}
        texts: dict[str, int] = {}
        rows: dict[int, int] = {0: 0}
        parents, names, files, lines = (array("I") for _ in range(4))
        times = array("Q")
        others: dict[int, int] = {}

        def append(parent: int, key: Key, microseconds: int) -> int:
            parents.append(parent)
            names.append(texts.setdefault(key[0], len(texts)))
            files.append(texts.setdefault(key[1], len(texts)))
            lines.append(min(key[2], 0xFFFFFFFF))
            times.append(min(microseconds, MICROSECONDS_MAX))
            return len(parents)

        for place in range(1, len(ordered)):
            node, caller = ordered[place], above[place]
            if place in kept:
                rows[place] = append(rows[caller], node.key, node.microseconds)
            elif caller in kept and totals[place]:
                others[caller] = others.get(caller, 0) + totals[place]
        for caller, microseconds in others.items():
            append(rows[caller], OTHER, microseconds)
        return CallTable(parents, names, files, lines, times, tuple(texts))

    def _flattened(self) -> tuple[list[_Node], list[int], list[int]]:
        """Return the nodes, callers first, the place of each one's caller, and the time of each with all below it."""
        ordered, above = [self._root], [0]
        for place, node in enumerate(ordered):
            # The list grows while it is gone through: level by level.
            ordered.extend(node.children.values())
            above.extend([place] * len(node.children))
        totals = [node.microseconds for node in ordered]
        for place in range(len(ordered) - 1, 0, -1):
            totals[above[place]] += totals[place]
        return ordered, above, totals


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else "…" + text[1 - TEXT_CHARACTERS_MAX :]


def collapsed(table: CallTable, function: str = "") -> str:
    """Return a profile as collapsed stacks: a line for each, with the frames from the task's function on and microseconds.

    speedscope, flamegraph.pl, inferno and others read it. `function`: only of tasks of this one.
    """
    lines: list[str] = []
    stacks: list[str] = []
    texts = table.texts
    for parent, name, file, line, microseconds in zip(*table[:5], strict=True):
        frame = frame_text(texts[name], texts[file], line)
        if parent:
            above = stacks[parent - 1]
            stack = f"{above};{frame}" if above else ""
        else:
            stack = "" if function and texts[name] != function else frame
        stacks.append(stack)
        if microseconds and stack:
            lines.append(f"{stack} {microseconds}\n")
    return "".join(lines)


def frame_text(name: str, file: str, line: int) -> str:
    """Return a call as one word of a collapsed stack."""
    place = f"{file}:{line}" if file else ""
    text = f"{name} ({place})" if name and place else name or place
    return text.translate(_SEPARATORS)


_SEPARATORS = str.maketrans({";": ":", "\n": " ", "\r": " "})
