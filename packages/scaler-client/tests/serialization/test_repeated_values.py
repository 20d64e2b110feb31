"""Which values travel as they are, and which once for all tasks. Others that hardly differ are not taken for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scaler.core.tasks import Task, TaskTable
from scaler.serialization.repeated_values import KNOWN_MAX, RepeatedValues

SIZE = 64 * 1024


class Tasks:
    """Tasks by number: those up to `answered` have their answer."""

    def __init__(self) -> None:
        self.next = 1
        self.answered = 0

    def values(self, copies_bytes_max: int = 0) -> RepeatedValues:
        return RepeatedValues(lambda: self.next, lambda number: number > self.answered, lambda: copies_bytes_max)

    def submit(self) -> None:
        self.next += 1

    def answer_all(self) -> None:
        self.answered = self.next - 1


def value(seed: int) -> bytes:
    return bytes([seed % 256, seed // 256]) * (SIZE // 2)


def test_what_many_tasks_get_at_once_is_an_object_from_the_second_on() -> None:
    values = Tasks().values()
    assert values.may_be_copied(value(1))
    assert values.may_be_copied(value(2))
    assert not values.may_be_copied(value(1))
    assert not values.may_be_copied(value(1))


def test_what_comes_again_when_nobody_uses_it_is_copied_again() -> None:
    tasks = Tasks()
    values = tasks.values()
    for _ in range(5):
        assert values.may_be_copied(value(1))
        tasks.submit()
        tasks.answer_all()


def test_copies_may_be_under_way_up_to_some_bytes() -> None:
    tasks = Tasks()
    values = tasks.values(4 * SIZE)
    for may in (True, True, True, True, False, False):
        assert values.may_be_copied(value(1)) is may
        tasks.submit()
    tasks.answer_all()
    assert values.may_be_copied(value(1))


def test_the_last_task_decides() -> None:
    tasks = Tasks()
    values = tasks.values()
    assert values.may_be_copied(value(1))
    tasks.submit()
    assert not values.may_be_copied(value(1))
    tasks.submit()
    tasks.answered = 1
    assert not values.may_be_copied(value(1))


def test_tasks_are_under_way_from_before_they_are_taken_in_until_they_are_answered() -> None:
    table = TaskTable(b"client")
    group = table.group()
    assert table.next_number() == 1
    assert table.is_under_way(1)
    first, second = table.take_number(), table.take_number()
    assert (first, second, table.next_number()) == (1, 2, 3)
    table.add(first, Task(group, b"f", b"", (), None))
    assert table.is_under_way(first)
    # Taken, and on its way here.
    assert table.is_under_way(second)
    table.add(second, Task(group, b"f", b"", (), None))
    del table.tasks[first]
    assert not table.is_under_way(first)
    assert table.is_under_way(second)
    del table.tasks[second]
    assert not table.is_under_way(second)


def _bytes(number: int) -> bytes:
    return number.to_bytes(4, "little") + bytes(SIZE)


def _ending(number: int) -> bytes:
    return _bytes(number)[::-1]


def _text(number: int) -> str:
    return "a" * SIZE + str(number)


def _array(number: int) -> Any:
    return np.arange(SIZE // 8, dtype=float) + number * 1e-9


def _strided(number: int) -> Any:
    return np.full((SIZE // 8, 2), float(number))[:, 0]


@pytest.mark.parametrize("make", [_bytes, _ending, _text, _array, _strided, lambda number: bytes(SIZE + number)])
def test_each_is_the_first_once(make: Callable[[int], Any]) -> None:
    values = RepeatedValues()
    assert [values.may_be_copied(make(number)) for number in (1, 2, 3, 1, 2, 4, 4)] == [True] * 3 + [False] * 2 + [
        True,
        False,
    ]
    assert values.may_be_copied(make(1), make(2))
    assert not values.may_be_copied(make(1), make(2))


def test_what_has_no_buffer_is_an_object() -> None:
    assert not RepeatedValues().may_be_copied(np.zeros(SIZE, "datetime64[s]"))


def test_the_oldest_are_forgotten_at_some_time() -> None:
    values = RepeatedValues()
    for number in range(KNOWN_MAX):
        assert values.may_be_copied(bytes(number))
    assert not values.may_be_copied(bytes(5))
    assert values.may_be_copied(bytes(KNOWN_MAX))
    assert values.may_be_copied(bytes(5))
