"""What a client says of its tasks to a scheduler that does not know them."""

from __future__ import annotations

from scaler.core.task_history import FEW, Before, TaskHistory
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.task_history import NO_HISTORY, Failures, read_history

DEADLINE = encode_record(NO_OPTIONS.with_given({"deadline_seconds": 60}, "test"))
RETRIES = encode_record(NO_OPTIONS.with_given({"retries": 3}, "test"))


def note(number: int, attempt: int, count: bytes) -> m.ResultBatch:
    return m.ResultBatch(b"c" * 16, [number], [attempt], Packed.of([count]), [m.Status.RETRY])


def test_times_count_from_when_a_task_left_first() -> None:
    history = TaskHistory()
    history.set_time(10.0)
    history.note_left(1, DEADLINE)
    history.note_left(2, RETRIES)
    history.set_time(10.5)
    history.note_left(1, DEADLINE)
    history.set_time(12.0)
    options = history.added_to(join_records([DEADLINE, RETRIES]), (1, 2), (1, 2))
    assert read_history(options, 2).waited == (1.5, 0.0)


def test_failures_are_those_that_the_scheduler_told_last() -> None:
    history = TaskHistory()
    history.note_failures(note(7, 1, b"1"))
    history.note_failures(note(7, 4, b"2"))
    history.note_failures(note(8, 4, b"nonsense"))
    options = history.added_to(join_records([RETRIES] * 3), (7, 8, 9), (7, 8, 9))
    assert read_history(options, 3).failures == {7: Failures(2, 4)}


def test_tasks_without_such_options_have_none() -> None:
    history = TaskHistory()
    history.note_left(1, RETRIES)
    history.set_time(5.0)
    assert history.added_to(b"", (1,), (1,)) == b""
    options = join_records([RETRIES])
    assert history.added_to(options, (1,), (1,)) == options
    assert read_history(options, 1) == NO_HISTORY


def test_what_has_ended_is_forgotten_once_it_is_much() -> None:
    history = TaskHistory()
    for number in range(FEW + 2):
        history.note_left(number, DEADLINE)
        history.note_failures(note(number, 1, b"1"))
    history.set_time(1.0)
    history.set_time(3.0)
    history.forget_ended(0, lambda number: number == 5)
    options = history.added_to(join_records([DEADLINE] * 2), (4, 5), (4, 5))
    assert read_history(options, 2) == ((0.0, 2.0), {5: Failures(1, 1)})


def test_what_is_to_be_submitted_anew_is_kept_until_then() -> None:
    history = TaskHistory()
    count = 2 * FEW
    for number in range(count):
        history.note_left(number, DEADLINE)
        history.note_failures(note(number, 1, b"1"))
    history.set_time(1.0)
    history.note_returned(range(count))
    options = join_records([DEADLINE])
    for number in range(count):
        first = count + number
        assert history.move(Before(number, {0: number}), first, options)
        history.forget_ended(0, range(count, first + 1).__contains__)
    history.set_time(3.0)
    last = history.added_to(options, (first,), (first,))
    assert read_history(last, 1) == ((2.0,), {first: Failures(1, 1)})
    assert history.entries_count <= 2 * count
    history.forget_ended(0, lambda number: False)
    assert not history
