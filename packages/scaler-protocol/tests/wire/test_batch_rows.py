"""Columns are declared once: whatever takes batches apart or puts them together carries every declared one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import fields, replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import (
    ABSENT,
    CARRIED,
    REPORTED,
    GrowingColumn,
    Reported,
    carried_columns,
    carried_rows,
    carried_value,
    carry,
    pick_rows,
    report,
    reported_of,
    row_picker,
)
from scaler_protocol.wire.codec import decode, decode_with_library, encode, encode_with_library
from scaler_protocol.wire.column_table import ColumnSpec, Hop, Shape, columns_of
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.one_row import FORMS

ROWS = 5
CLIENT = b"c" * 16


def every_column(message_type: type[Any], rows: int = ROWS) -> Any:
    """Return a batch in which every declared column has something in each row."""
    chance = Random(1)
    values: dict[str, Any] = {"client": CLIENT}
    for spec in columns_of(message_type):
        values[spec.name] = _values(spec, rows, chance)
    return message_type(**values)


def _values(spec: ColumnSpec, rows: int, chance: Random) -> Any:
    blobs = [chance.randbytes(3 + row) for row in range(rows)]
    if spec.shape in (Shape.BLOBS, Shape.SPARSE_BLOBS):
        return Packed.of(blobs)
    if spec.shape in (Shape.TABLE, Shape.SPARSE_IDS):
        return tuple(chance.randbytes(16) for _ in range(rows))
    if spec.shape is Shape.POSITIONS:
        return list(range(rows))
    if spec.shape is Shape.ENDS:
        return list(range(1, rows + 1))
    if spec.name == "function_indexes":
        return [row % rows for row in range(rows)]
    if spec.shape is Shape.SPARSE_ROWS:
        # How many rows before its own an input comes from: these come from nowhere.
        return [0] * rows
    # A value that is neither what absent means nor what another row has.
    return [100 + row for row in range(rows)]


@pytest.mark.parametrize("message_type", [m.TaskBatch, m.ResultBatch])
def test_the_wire_carries_every_declared_column(message_type: type[Any]) -> None:
    batch = every_column(message_type)
    for frames in (encode(batch), encode_with_library(batch)):
        for read in (decode(frames), decode_with_library(frames)):
            for spec in columns_of(message_type):
                assert _plain(getattr(read, spec.name)) == _plain(getattr(batch, spec.name)), spec.name


@pytest.mark.parametrize("message_type", list(FORMS))
def test_a_single_row_with_any_other_column_does_not_take_a_form_that_lacks_it(message_type: type[Any]) -> None:
    full = every_column(message_type, rows=1)
    if message_type is m.TaskBatch:
        full.function_indexes = [0]
    for form in FORMS[message_type]:
        bare = {
            spec.name: () if spec.shape not in (Shape.BLOBS, Shape.SPARSE_BLOBS) else Packed()
            for spec in columns_of(message_type)
            if spec.name not in form
        }
        plain = replace(full, **bare)
        for spec in columns_of(message_type):
            if spec.name not in form and spec.shape in (Shape.ROWS, Shape.ENDS):
                message = replace(plain, **{spec.name: getattr(full, spec.name)})
                read = decode(encode(message))
                assert _plain(getattr(read, spec.name)) == _plain(getattr(full, spec.name)), spec.name


def test_every_declared_column_has_rows_that_are_counted() -> None:
    for message_type in (m.TaskBatch, m.ResultBatch):
        for spec in columns_of(message_type):
            if spec.shape is Shape.ROWS and spec.name != "numbers":
                damaged = replace(every_column(message_type), **{spec.name: [1]})
                with pytest.raises(MalformedMessageError, match=spec.name):
                    decode(encode_with_library(damaged))


def test_what_processors_report_is_what_is_declared_so() -> None:
    declared = [spec for spec in columns_of(m.ResultBatch) if spec.shape is Shape.ROWS and Hop.REPORT in spec.hops]
    assert list(REPORTED) == declared
    assert all(spec.absent is not None for spec in declared)
    batch = every_column(m.ResultBatch)
    assert [list(column) for column in reported_of(batch)] == [list(getattr(batch, spec.name)) for spec in declared]


def test_what_is_reported_stands_behind_the_payloads_of_a_result_batch() -> None:
    names = tuple(entry.name for entry in fields(m.ResultBatch))
    start = names.index("payloads") + 1
    assert names[start : start + len(REPORTED)] == Reported._fields


def test_reported_columns_are_cut_and_picked_whole() -> None:
    columns = [[10 * place + row for row in range(3)] for place in range(len(REPORTED) - 1)]
    reported = Reported._make([*columns, ()])
    assert reported.cut(1, 3) == (*(column[1:] for column in columns), ())
    assert reported.pick([2, 0]) == (*([column[2], column[0]] for column in columns), ())


def test_rows_are_reported_by_the_names_of_columns() -> None:
    reported = report([{"durations": 3}, {"durations": 1 << 70, "memory_peaks": -5, "cpu_times": 7}])
    assert (reported.durations, reported.cpu_times) == ([3, (1 << 64) - 1], [0, 7])
    assert (reported.statuses, reported.memory_peaks) == ((), [0, 0])
    unmeasured, profile = reported.profiles(2)
    assert unmeasured is None
    assert profile == {**dict.fromkeys(Reported._fields, 0), "durations": (1 << 64) - 1, "cpu_times": 7}


def test_picked_rows_have_every_column_and_their_own_objects() -> None:
    batch = replace(every_column(m.ResultBatch), object_positions=[0, 3, 3], objects=(b"a" * 16, b"b" * 16, b"c" * 16))
    picked = pick_rows(batch, [3, 4])
    items = batch.payloads.split()
    assert (picked.client, picked.payloads.split()) == (CLIENT, [items[3], items[4]])
    assert (list(picked.object_positions), picked.objects) == ([0, 0], (b"b" * 16, b"c" * 16))
    for spec in columns_of(m.ResultBatch):
        if spec.shape is Shape.ROWS:
            column = getattr(batch, spec.name)
            assert list(getattr(picked, spec.name)) == [column[3], column[4]], spec.name


def test_rows_picked_one_by_one_are_the_same() -> None:
    full = replace(every_column(m.ResultBatch), object_positions=[0, 3, 3], objects=(b"a" * 16, b"b" * 16, b"c" * 16))
    for batch in (full, m.ResultBatch(CLIENT, [1, 2], [1, 1], Packed.of([b"a", b"b"]))):
        pick_row = row_picker(batch)
        assert [pick_row(row) for row in range(len(batch.numbers))] == [
            pick_rows(batch, [row]) for row in range(len(batch.numbers))
        ]


def test_picking_leaves_absent_columns_absent() -> None:
    picked = pick_rows(m.ResultBatch(CLIENT, [1, 2], [1, 1], Packed.of([b"a", b"b"])), [1])
    assert picked == m.ResultBatch(CLIENT, [2], [1], Packed.of([b"b"]))


def test_a_growing_column_stays_empty_until_a_row_needs_it() -> None:
    column = GrowingColumn("H", 0xFFFF)
    column.extend(0, 2, ())
    assert not len(column.values)
    column.extend(2, 1, [5])
    column.extend(3, 2, ())
    assert column.values == array("H", [0xFFFF, 0xFFFF, 5, 0xFFFF, 0xFFFF])
    assert len(ABSENT) == len(REPORTED)


PRIORITY = ColumnSpec("priorities", Shape.ROWS, Hop.SUBMIT | Hop.ASSIGN | Hop.RUN, "B", absent=3)
BUDGET = ColumnSpec("budgets", Shape.ROWS, Hop.SUBMIT | Hop.ASSIGN | Hop.RUN, "Q", absent=0)


def test_what_tasks_carry_becomes_columns_and_rows_again() -> None:
    tasks = [(), (5, 0), (3, 7)]
    columns = carried_columns(tasks, (PRIORITY, BUDGET))
    assert columns == {"priorities": [3, 5, 3], "budgets": [0, 0, 7]}
    assert list(carried_rows(SimpleNamespace(**columns), 3, (PRIORITY, BUDGET))) == [(3, 0), (5, 0), (3, 7)]


def test_a_column_that_nothing_is_in_is_left_out() -> None:
    assert carried_columns([(), ()], (PRIORITY, BUDGET)) == {}
    assert carried_columns([(3, 1), ()], (PRIORITY, BUDGET)) == {"budgets": [1, 0]}
    assert list(carried_rows(SimpleNamespace(priorities=(), budgets=()), 2, (PRIORITY, BUDGET))) == [(), ()]


def test_what_a_task_carries_is_given_and_read_by_name() -> None:
    specs = (PRIORITY, BUDGET)
    assert carry({}, specs) == carry({"priorities": 3, "budgets": 0}, specs) == ()
    carried = carry({"budgets": 8}, specs)
    assert carried == (3, 8)
    assert [carried_value(carried, name, specs) for name in ("priorities", "budgets")] == [3, 8]
    assert carried_value((), "priorities", specs) == 3
    with pytest.raises(KeyError, match="colours"):
        carried_value(carried, "colours", specs)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"colours": 1}, TypeError, "carry no colours"),
        ({"priorities": "high"}, TypeError, "priorities must be integers, not 'high'"),
        ({"priorities": 256}, ValueError, "priorities must be between 0 and 255, not 256"),
        ({"budgets": -1}, ValueError, "budgets must be between 0 and 18,446,744,073,709,551,615, not -1"),
    ],
)
def test_what_no_column_holds_is_refused(values: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        carry(values, (PRIORITY, BUDGET))


def test_columns_from_the_client_to_the_running_task_are_carried() -> None:
    special = {"numbers", "function_indexes"}
    passed_on = {
        spec.name
        for spec in columns_of(m.TaskBatch)
        if spec.shape is Shape.ROWS and Hop.SUBMIT in spec.hops and Hop.RUN in spec.hops
    }
    assert {spec.name for spec in CARRIED} == passed_on - special


def _plain(column: Any) -> Sequence[Any]:
    return column.split() if isinstance(column, Packed) else list(column)
