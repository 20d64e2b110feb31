"""Messages that name many tasks are cut into portions that say the same."""

from __future__ import annotations

from array import array

import pytest

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.task_lists import PORTION_ROWS, portions_of

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
