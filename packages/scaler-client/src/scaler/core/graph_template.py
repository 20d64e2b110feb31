"""Graphs that run often: which of their rows a run needs, where some nodes have their values given. Pure.

A template is made from a graph whose nodes may all be given. So nodes that are data, and nodes that are only names of others,
stand apart in it: see `spread`. A *form* is what runs have in common that give the same nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from scaler.core.graph import NO_KEY, OUTSIDE, OUTSIDE_FIRST, GraphPlan, is_task
from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.payloads.framing import (
    ARGUMENTS,
    INLINE_BYTES_MAX,
    Argument,
    Source,
    frame_arguments,
    identity,
    unframe_arguments,
)
from scaler_protocol.wire.columns import Column

IN_PLACE_BYTES_MAX = 4096
"""Larger values of nodes that are data travel once, in a row of their own, however many rows need them."""

_EXPRESSIONS = frozenset((Source.EXPRESSION, Source.SHARED_EXPRESSION))


def spread(plan: GraphPlan, graph: Mapping[Any, Any]) -> tuple[dict[Any, Any], dict[Hashable, Any]]:
    """Return a graph in which every node that `plan` needs is a row or OUTSIDE, and the values of those outside.

    A node that is only another one's name is a row that passes the value on.
    """
    spread_graph = dict(graph)
    literals: dict[Hashable, Any] = {}
    seen: set[Hashable] = set(plan.order)
    stack = [plan.find(key) for key in plan.asked]
    for row in plan.order:
        stack.extend(plan.dependencies(graph[row]))
    while stack:
        key = stack.pop()
        if key in seen:
            continue
        seen.add(key)
        computation = graph[key]
        following = NO_KEY if is_task(computation) else plan.find(computation)
        if following is NO_KEY:
            spread_graph[key], literals[key] = OUTSIDE, computation
        else:
            spread_graph[key] = (identity, following)
            stack.append(following)
    return spread_graph, literals


class Rows(NamedTuple):
    """The rows of a template, in an order in which each comes after those it needs."""

    keys: Sequence[Hashable]
    """One per row: its node."""
    payloads: Sequence[bytes]
    needs: Sequence[Sequence[int]]
    """One per row: rows, and nodes outside as OUTSIDE_FIRST + the place in `outside`. The j-th is the row's input j."""
    function_indexes: Column
    objects: Sequence[Sequence[bytes]]
    """One per row: those its payload names."""
    function_objects: Mapping[int, Sequence[bytes]]
    """Those that functions consist of, by the function's index."""
    outside: Sequence[Hashable]
    """The nodes that are data and that rows need."""

    def key_of(self, one: int) -> Hashable:
        """Return the node that one of `needs` stands for."""
        return self.keys[one] if one < OUTSIDE_FIRST else self.outside[one - OUTSIDE_FIRST]


class Form(NamedTuple):
    """What runs have in common that give the same nodes: rows of the template, and behind them one for each of `passed`."""

    rows: Sequence[int]
    """Which rows of the template run, in their order."""
    payloads: Sequence[bytes]
    """Of these rows."""
    needs: Sequence[Sequence[int]]
    """Of these rows: rows of the form."""
    objects: Sequence[Sequence[bytes]]
    """Of these rows: those their payloads name, or their functions."""
    passed: Sequence[Hashable]
    """Nodes whose values rows of their own pass on: given ones, and data."""
    row_of: Mapping[Hashable, int]
    """The rows of the nodes asked for that have one; the others are given, or known."""


def make_form(
    template: Rows,
    in_place: Mapping[Hashable, Argument],
    targets: Sequence[Hashable],
    given: frozenset[Hashable],
    passes_on: Callable[[Hashable], bool],
) -> Form:
    """Return the form of runs that give the nodes `given`.

    `in_place` are values that may stand in the arguments of the rows that need them: of data that is not given, and of given
    nodes. `targets` are the nodes asked for. `passes_on` says of one that is given, or data, whether a row has to pass its
    value on.
    """
    row_of = {key: row for row, key in enumerate(template.keys)}
    needed = bytearray(len(template.keys))
    for key in targets:
        if key in row_of and key not in given:
            needed[row_of[key]] = 1
    given_rows = {row_of[key] for key in given if key in row_of}
    for row in range(len(needed) - 1, -1, -1):
        if needed[row]:
            for one in template.needs[row]:
                if one < OUTSIDE_FIRST and one not in given_rows:
                    needed[one] = 1
    rows = [row for row in range(len(needed)) if needed[row]]
    places = {row: place for place, row in enumerate(rows)}
    passed: dict[Hashable, int] = {}

    def place_of(key: Hashable) -> int:
        return passed.setdefault(key, len(rows) + len(passed))

    payloads: list[bytes] = []
    needs: list[list[int]] = []
    objects: list[Sequence[bytes]] = []
    unnamed = dict(template.function_objects)
    for row in rows:
        payload, named = template.payloads[row], template.objects[row]
        if unnamed:
            # They are kept as long as one row names them.
            named = (*named, *unnamed.pop(template.function_indexes[row], ()))
        names = [template.key_of(one) for one in template.needs[row]]
        known = {
            index: in_place[key]
            for index, key in enumerate(names)
            if key in in_place and len(in_place[key].data) <= IN_PLACE_BYTES_MAX
        }
        if known:
            filled = _fill_in(payload, known)
            if filled is not None:
                payload = filled
                held = [one.data for one in known.values() if one.source is Source.OBJECT]
                named = (*named, *held)
                names = [key for index, key in enumerate(names) if index not in known]
        payloads.append(payload)
        objects.append(named)
        needs.append(
            [places[row_of[key]] if key in row_of and key not in given else place_of(key) for key in names],
        )
    asked: dict[Hashable, int] = {}
    for key in targets:
        if key in row_of and key not in given:
            asked[key] = places[row_of[key]]
        elif passes_on(key):
            asked[key] = place_of(key)
    return Form(rows, payloads, needs, objects, list(passed), asked)


def _fill_in(payload: bytes, known: Mapping[int, Argument]) -> bytes | None:
    """Return the payload with these inputs in place, the others numbered anew; None where that takes more than that.

    Inputs inside of expressions stay what they are: their pickles are not opened.
    """
    if payload[:1] != ARGUMENTS:
        return None
    try:
        positional, keyword = unframe_arguments(payload)
    except MalformedMessageError:
        return None
    if any(argument.source in _EXPRESSIONS for argument in positional):
        return None
    filled: list[Argument] = []
    for argument in positional:
        if argument.source is Source.INPUT:
            index = int.from_bytes(argument.data, "little")
            if index in known:
                argument = known[index]
            else:
                before = sum(one < index for one in known)
                argument = Argument(Source.INPUT, (index - before).to_bytes(2, "little"))
        filled.append(argument)
    payload = frame_arguments(filled, keyword)
    return payload if len(payload) <= INLINE_BYTES_MAX else None
