"""The order of one client's tasks of many priorities, and how much work that is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from scaler_protocol.testing.priority_orders import PRIORITY_ORDERS, TASKS
from scaler_scheduler.core.records import Task, TaskState
from scaler_scheduler.core.waiting_tasks import PrioritizedTasks, WaitingTasks


def task(number: int, priority: int) -> Task:
    options: Any = SimpleNamespace(priority=priority)
    return Task(number, b"f" * 16, b"", options)


@pytest.mark.parametrize("priority_of", PRIORITY_ORDERS.values(), ids=PRIORITY_ORDERS)
def test_many_priorities_are_little_work(priority_of: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    entries = WaitingTasks.__len__

    def count(waiting: WaitingTasks) -> int:
        nonlocal looks
        looks += 1
        return entries(waiting)

    monkeypatch.setattr(WaitingTasks, "__len__", count)
    waiting = PrioritizedTasks(WaitingTasks())
    taken: list[Task] = []
    for number in range(TASKS):
        waiting.add([task(number, priority_of(number))])
        assert len(waiting) == number + 1
        assert waiting.has_urgent == (waiting.first().options.priority > 0 and number > 0)
    while waiting:
        assert waiting.first().state is TaskState.READY
        waiting.take(1, taken)
        assert len(waiting) == TASKS - len(taken)
    assert looks < 10 * TASKS
    assert [one.number for one in taken] == sorted(range(TASKS), key=lambda number: (-priority_of(number), number))


def test_entries_that_are_not_ready_any_more_are_skipped() -> None:
    usual = WaitingTasks()
    usual.add([task(1, 0), task(2, 0)])
    waiting = PrioritizedTasks(usual)
    gone = task(4, 2)
    waiting.add([task(3, 1), gone, task(5, -1)])
    waiting.add_first(task(0, 1))
    gone.state = TaskState.ASSIGNED
    taken: list[Task] = []
    assert waiting.take(2, taken) == 2
    assert len(waiting) == 3
    assert waiting.take(10, taken) == 3
    assert [one.number for one in taken] == [0, 3, 1, 2, 5]
    assert not waiting
    waiting.add([task(6, 7)])
    waiting.clear()
    assert list(waiting) == []
