"""Messages that name or answer many tasks are cut into portions that say the same."""

from __future__ import annotations

from array import array

import pytest

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import reported_of
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import EMPTY, Packed
from scaler_protocol.wire.task_lists import (
    PORTION_ROWS,
    RESULT_ROWS,
    pack_numbers,
    portions_of,
    read_numbers,
    result_portions,
)

CLIENT = b"c" * 16


@pytest.mark.parametrize("rows", [0, 1, PORTION_ROWS])
def test_a_short_list_stays_as_it_is(rows: int) -> None:
    message = m.TaskCancel(CLIENT, list(range(rows)))
    (portion,) = portions_of(message)
    assert portion is message


@pytest.mark.parametrize("rows", [PORTION_ROWS + 1, 2 * PORTION_ROWS, 5 * PORTION_ROWS - 1])
@pytest.mark.parametrize("kind", [list, lambda values: array("Q", values)])
def test_the_portions_of_a_cancellation_name_all_tasks_in_order(rows: int, kind: type) -> None:
    portions = list(portions_of(m.TaskCancel(CLIENT, kind(range(rows)))))
    assert [number for portion in portions for number in portion.numbers] == list(range(rows))
    assert {len(portion.numbers) for portion in portions[:-1]} == {PORTION_ROWS}
    # A client's have no attempts.
    assert [len(portion.attempts) for portion in portions] == [0] * len(portions)


def test_each_portion_has_the_columns_of_its_rows() -> None:
    rows = 3 * PORTION_ROWS + 7
    whole = m.Inventory(
        CLIENT,
        array("Q", range(rows)),
        array("H", [n % 9 for n in range(rows)]),
        array("B", [n % 2 for n in range(rows)]),
    )
    portions = [decode(list(map(bytes, encode(portion)))) for portion in portions_of(whole)]
    told = [
        row
        for portion in portions
        if isinstance(portion, m.Inventory) and portion.client == CLIENT
        for row in zip(portion.numbers, portion.attempts, portion.states, strict=True)
    ]
    assert told == list(zip(whole.numbers, whole.attempts, whole.states, strict=True))
    cancels = list(portions_of(m.TaskCancel(CLIENT, whole.numbers, whole.attempts)))
    assert [list(cancel.attempts) for cancel in cancels] == [list(portion.attempts) for portion in portions_of(whole)]


def test_of_returned_tasks_the_last_come_first() -> None:
    """They go to the front of a queue, one portion before the other."""
    rows = 2 * PORTION_ROWS + 3
    whole = m.TaskReturn(CLIENT, array("Q", range(rows)), array("H", [n % 9 for n in range(rows)]))
    portions = list(portions_of(whole))
    assert [len(portion.numbers) for portion in portions] == [3, PORTION_ROWS, PORTION_ROWS]
    queue = [row for portion in reversed(portions) for row in zip(portion.numbers, portion.attempts, strict=True)]
    assert queue == list(zip(whole.numbers, whole.attempts, strict=True))


def results(rows: int) -> m.ResultBatch:
    payloads = [b"x" * (n % 5) for n in range(rows)]
    objects = [n for n in range(rows) for _ in range(n % 3)]
    return m.ResultBatch(
        CLIENT,
        array("Q", range(rows)),
        array("H", [n % 9 for n in range(rows)]),
        Packed.of(payloads),
        durations=array("I", range(rows)),
        object_positions=objects,
        objects=tuple(b"%016d" % place for place in range(len(objects))),
        capacity=7,
        slots=array("H", [n % 4 for n in range(rows)]),
    )


@pytest.mark.parametrize("rows", [0, 1, RESULT_ROWS])
def test_few_results_stay_together(rows: int) -> None:
    batch = results(rows)
    (portion,) = result_portions(batch)
    assert portion is batch


@pytest.mark.parametrize("rows", [RESULT_ROWS + 1, 3 * RESULT_ROWS])
def test_portions_of_results_say_the_same(rows: int) -> None:
    batch = results(rows)
    told: list[tuple[object, ...]] = []
    for sent in result_portions(batch):
        portion = decode(list(map(bytes, encode(sent))))
        assert isinstance(portion, m.ResultBatch)
        assert len(portion.numbers) <= RESULT_ROWS
        assert (portion.client, portion.capacity, portion.statuses) == (CLIENT, 7, EMPTY)
        reported = reported_of(portion)
        of_row: dict[int, list[bytes]] = {}
        for row, object_id in zip(portion.object_positions, portion.objects, strict=True):
            of_row.setdefault(row, []).append(object_id)
        told += [
            (number, attempt, payload, reported.durations[row], portion.slots[row], of_row.get(row, []))
            for row, (number, attempt, payload) in enumerate(
                zip(portion.numbers, portion.attempts, portion.payloads.split(), strict=True)
            )
        ]
    before = iter(batch.objects)
    assert told == [(n, n % 9, b"x" * (n % 5), n, n % 4, [next(before) for _ in range(n % 3)]) for n in range(rows)]


def test_numbers_in_a_payload_are_read_as_they_were() -> None:
    assert pack_numbers([1]) == b"\x01" + bytes(7)
    assert read_numbers(pack_numbers([])) == []
    assert read_numbers(pack_numbers([7, 0, 2**64 - 1])) == [7, 0, 2**64 - 1]
