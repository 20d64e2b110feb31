"""Rows of a template that run inside of the task of the one row that needs them, as calls of its expressions.

So the scheduler has one task in place of many. Functions with state stay rows, because each task has their state restored first.
Rows with arguments that are large, or objects, stay rows too. See `expressions` for how workers compute calls.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from scaler.client.object_reference import InnerReferences
from scaler.core.graph import CONSTANT_TYPES, NO_KEY, GraphPlan, RowInputs, is_task
from scaler.core.graph_template import IN_PLACE_BYTES_MAX, Form, Rows
from scaler.serialization.arguments import Packer
from scaler.serialization.pickling import dumps
from scaler_protocol.payloads.framing import (
    INLINE_BYTES_MAX,
    PER_CALL,
    Argument,
    Call,
    InputReference,
    Source,
    frame_arguments,
    identity,
)

JOINED_SECONDS = 0.01
"""Joined rows run one after another: for so long, as far as is known."""

JOINED_NODES_MAX = 1000
"""As many at most, however short they are."""

DEPTH_MAX = 24
"""Calls inside of each other: pickling follows them."""

CONTAINERS_MAX = 3
"""Containers inside of each other, in the arguments of one call."""


class RowCall(NamedTuple):
    """A row as a call that may stand in an expression."""

    function: Callable[..., Any]
    arguments: Sequence[Any]
    """With an `InputReference` for each node named; copies of what was in the graph."""
    needs: Sequence[int]
    """As in `Rows`: what these stand for."""
    uses: Counter[int]
    """How often each of them occurs."""


class _UnfitError(Exception):
    """A row has to stay one."""


def calls_of(plan: GraphPlan, graph: Mapping[Any, Any], packer: Packer) -> list[RowCall | None]:
    """Return the rows of a plan as calls; None for those that have to stay rows."""
    calls: list[RowCall | None] = []
    for key in plan.order:
        computation = graph[key]
        function, values = (computation[0], computation[1:]) if is_task(computation) else (identity, (computation,))
        inputs = RowInputs(plan, graph)
        uses: Counter[int] = Counter()
        try:
            if packer.function(function).body[:1] == PER_CALL:
                raise _UnfitError
            arguments = [_argument(plan, inputs, uses, value) for value in values]
        except _UnfitError:
            calls.append(None)
        else:
            calls.append(RowCall(function, arguments, inputs.rows, uses))
    return calls


def _argument(plan: GraphPlan, inputs: RowInputs, uses: Counter[int], value: Any) -> Any:
    name = NO_KEY if is_task(value) else plan.find(value)
    if name is not NO_KEY:
        index = inputs.index_of(plan.resolve(name))
        assert index is not None, "each node of a template is a row or outside"
        return _plain(InputReference(index), uses)
    if plan.names_something(value):
        return _plain(inputs.expression(value), uses)
    if type(value) in CONSTANT_TYPES:
        return value
    try:
        with InnerReferences() as references:
            pickled = dumps(value)
    except Exception:
        raise _UnfitError from None
    if references or len(pickled) > IN_PLACE_BYTES_MAX:
        raise _UnfitError
    # Each row has a copy of its own, as if it were a task.
    return Call(pickle.loads, (pickled,))


def _plain(expression: Any, uses: Counter[int], depth: int = 0) -> Any:
    """Return a copy of an expression that holds inputs, constants and containers of such. Raises _UnfitError for others."""
    kind = type(expression)
    if kind is InputReference:
        uses[expression.index] += 1
    elif kind in (list, tuple, dict) and depth < CONTAINERS_MAX:
        if kind is dict:
            if not all(type(key) in CONSTANT_TYPES for key in expression):
                raise _UnfitError
            return {key: _plain(part, uses, depth + 1) for key, part in expression.items()}
        return kind(_plain(part, uses, depth + 1) for part in expression)
    elif kind not in CONSTANT_TYPES:
        raise _UnfitError
    return expression


def join_rows(
    template: Rows,
    calls: Sequence[RowCall | None],
    form: Form,
    in_place: Mapping[Hashable, Argument],
    given: frozenset[Hashable],
    is_unchanged: Callable[[int], bool],
    nodes_max: int,
) -> Form:
    """Return a form in which rows run inside of others, at most `nodes_max` together.

    `in_place` and `given` are those that the form was made with. `is_unchanged` says of a row whether its function is still what
    it was.
    """
    members = _members(template, calls, form, in_place, given, is_unchanged, nodes_max)
    joined = {child for children in members.values() for child in children}
    roots = [row for row in form.rows if row not in joined]
    if len(roots) == len(form.rows):
        return form
    place_of_row = {row: place for place, row in enumerate(form.rows)}
    root_places = {row: place for place, row in enumerate(roots)}
    root_of_key = {template.keys[row]: place for row, place in root_places.items()}
    passed: dict[Hashable, int] = {}
    payloads: list[bytes] = []
    needs: list[list[int]] = []
    objects: list[Sequence[bytes]] = []
    row_keys = [*[template.keys[row] for row in form.rows], *form.passed]
    rows_by_place = list(form.rows)

    def renumbered(place: int) -> int:
        if place < len(rows_by_place):
            return root_places[rows_by_place[place]]
        return passed.setdefault(row_keys[place], len(roots) + len(passed))

    for root in roots:
        place = place_of_row[root]
        if not members[root]:
            payloads.append(form.payloads[place])
            needs.append([renumbered(one) for one in form.needs[place]])
            objects.append(form.objects[place])
            continue
        block = _Block(template, calls, members, in_place)
        try:
            arguments = [Argument(Source.EXPRESSION, dumps(argument)) for argument in block.arguments(root)]
        except Exception:
            # A function may have become what cannot be pickled: each by itself, they have been.
            return form
        payload = frame_arguments(arguments, {})
        if len(payload) > INLINE_BYTES_MAX:
            return form
        payloads.append(payload)
        needs.append(
            [
                root_of_key[key]
                if key in root_of_key and key not in given
                else passed.setdefault(key, len(roots) + len(passed))
                for key in block.inputs
            ]
        )
        objects.append([one for row in block.rows for one in form.objects[place_of_row[row]]])
    asked = {key: renumbered(place) for key, place in form.row_of.items()}
    return Form(roots, payloads, needs, objects, list(passed), asked)


def _members(
    template: Rows,
    calls: Sequence[RowCall | None],
    form: Form,
    in_place: Mapping[Hashable, Argument],
    given: frozenset[Hashable],
    is_unchanged: Callable[[int], bool],
    nodes_max: int,
) -> dict[int, list[int]]:
    """Return for each row of a form the rows that are joined into it."""
    fit: dict[int, RowCall] = {}
    for row in form.rows:
        call = calls[row]
        if call is None or not is_unchanged(row):
            continue
        values = [in_place.get(template.key_of(one)) for one in call.needs]
        if not any(value is not None and value.source is Source.OBJECT for value in values):
            fit[row] = call
    kept = set(form.rows)
    readers: Counter[int] = Counter()
    for row in form.rows:
        known = fit.get(row)
        for index, one in enumerate(template.needs[row] if known is None else known.needs):
            readers[one] += 2 if known is None else known.uses[index]
    asked = {form.rows[place] for place in form.row_of.values() if place < len(form.rows)}
    members: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    for row in form.rows:
        mine = members[row] = []
        size, depth = 1, 1
        for one in fit[row].needs if row in fit else ():
            fits = one in fit and one in kept and one not in asked and readers[one] == 1
            if fits and template.keys[one] not in given and size + sizes[one] <= nodes_max and depths[one] < DEPTH_MAX:
                mine.append(one)
                size += sizes[one]
                depth = max(depth, depths[one] + 1)
        sizes[row], depths[row] = size, depth
    return members


class _Block:
    """Rows that run in one task."""

    def __init__(
        self,
        template: Rows,
        calls: Sequence[RowCall | None],
        members: Mapping[int, Sequence[int]],
        in_place: Mapping[Hashable, Argument],
    ) -> None:
        self.rows: list[int] = []
        self.inputs: dict[Hashable, int] = {}
        """The nodes whose values come from outside, numbered."""
        self._template = template
        self._calls = calls
        self._members = members
        self._in_place = in_place

    def arguments(self, row: int) -> list[Any]:
        """Return the arguments of a row, with the calls of those joined into it."""
        call = self._calls[row]
        assert call is not None
        self.rows.append(row)
        values: list[Any] = []
        for one in call.needs:
            if one in self._members[row]:
                inner = self._calls[one]
                assert inner is not None
                values.append(Call(inner.function, tuple(self.arguments(one))))
                continue
            key = self._template.key_of(one)
            known = self._in_place.get(key)
            if known is not None and len(known.data) <= IN_PLACE_BYTES_MAX:
                values.append(Call(pickle.loads, (known.data,)))
            else:
                values.append(InputReference(self.inputs.setdefault(key, len(self.inputs))))
        return [_filled_in(argument, values) for argument in call.arguments]


def _filled_in(expression: Any, values: Sequence[Any]) -> Any:
    kind = type(expression)
    if kind is InputReference:
        return values[expression.index]
    if kind is dict:
        return {key: _filled_in(part, values) for key, part in expression.items()}
    return kind(_filled_in(part, values) for part in expression) if kind in (list, tuple) else expression
