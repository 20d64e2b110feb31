"""The queue of an agent: the order of tasks of many priorities, and how much work that is."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from scaler_protocol.testing.priority_orders import PRIORITY_ORDERS, TASKS
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions
from scaler_protocol.wire.columns import Packed
from scaler_worker.core.durations import DurationEstimates
from scaler_worker.core.queue import TaskQueue
from scaler_worker.core.slices import TaskSlice

CLIENT, OTHER = b"c" * 16, b"o" * 16


class CountedSlice(TaskSlice):
    """Counts each look at a slice."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        CountedSlice.looks += 1
        return super().__getattribute__(name)


def tasks(
    number: int,
    priority: int = 0,
    client: bytes = CLIENT,
    rows: int = 1,
    depth: int = 0,
    kind: type[TaskSlice] = TaskSlice,
) -> TaskSlice:
    batch = m.TaskBatch(
        client=client,
        numbers=array("Q", range(number, number + rows)),
        functions=(b"f" * 16,),
        payloads=Packed.of([b""] * rows),
        attempts=array("H", [1]) * rows,
        depth=depth,
        options=CallOptions(priority=priority).for_agents,
    )
    return kind(batch, 0, rows, asked=CallOptions(priority=priority))


def take_all(queue: TaskQueue, count: int = 1) -> list[int]:
    taken: list[int] = []
    while (head := queue.head()) is not None:
        taken += queue.take(head, count, 1_000_000).numbers
    assert queue.count == 0
    return taken


@pytest.mark.parametrize("priority_of", PRIORITY_ORDERS.values(), ids=PRIORITY_ORDERS)
def test_many_priorities_are_little_work(priority_of: Callable[[int], int]) -> None:
    queue = TaskQueue(DurationEstimates())
    queue.add(tasks(TASKS, client=OTHER))
    CountedSlice.looks = 0
    for number in range(TASKS):
        queue.add(tasks(number, priority_of(number), kind=CountedSlice))
    taken = take_all(queue)
    assert CountedSlice.looks < 100 * TASKS
    assert [number for number in taken if number < TASKS] == sorted(range(TASKS), key=lambda n: (-priority_of(n), n))


def test_another_client_waits_for_no_more_than_a_turn() -> None:
    queue = TaskQueue(DurationEstimates())
    for number in range(100):
        queue.add(tasks(number, number))
    queue.add(tasks(100, client=OTHER))
    assert take_all(queue).index(100) < 10


def test_urgent_tasks_go_ahead_of_what_is_left_of_others() -> None:
    queue = TaskQueue(DurationEstimates())
    queue.add(tasks(0, rows=20))
    queue.add(tasks(20, 1, rows=2))
    assert list(queue.take(_head(queue), 1, 1_000_000).numbers) == [20]
    queue.add(tasks(22, 2))
    queue.add(tasks(23, -1))
    queue.add(tasks(24))
    assert take_all(queue) == [22, 21, *range(20), 24, 23]


def test_what_is_recalled_and_what_comes_back_keep_their_places() -> None:
    queue = TaskQueue(DurationEstimates())
    for number, priority in enumerate((0, 5, 3, -1, 3)):
        queue.add(tasks(number, priority))
    assert [list(piece.numbers) for piece in queue] == [[1], [2], [4], [0], [3]]
    assert queue.count_open(()) == 5
    assert [list(piece.numbers) for piece in queue.recall(2)] == [[3], [0]]
    first = queue.take(_head(queue), 1, 1_000_000)
    queue.add(tasks(5, 4))
    queue.put_back(first)
    queue.put_back(tasks(6, 3))
    assert take_all(queue) == [1, 5, 6, 2, 4]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_is_by_depth_then_priority_then_as_they_came(seed: int) -> None:
    rng = random.Random(seed)
    queue = TaskQueue(DurationEstimates())
    waiting: dict[int, tuple[bytes, int, int]] = {}
    number = 0
    for _ in range(400):
        step = rng.random()
        if step < 0.5:
            rows, depth, client = rng.choice((1, 1, 3, 9)), rng.randrange(2), rng.choice((CLIENT, OTHER))
            priority = rng.randrange(-3, 4)
            queue.add(tasks(number, priority, client, rows, depth))
            for row in range(number, number + rows):
                waiting[row] = (client, depth, priority)
            number += rows
        elif step < 0.9 and (head := queue.head()) is not None:
            for row in queue.take(head, rng.randrange(1, 4), 1_000_000).numbers:
                client, depth, priority = waiting.pop(row)
                assert all(other[1] <= depth for other in waiting.values())
                own = [(-other[2], n) for n, other in waiting.items() if other[:2] == (client, depth)]
                assert all((-priority, row) < entry for entry in own)
        elif step < 0.95:
            for piece in queue.recall(rng.randrange(1, 4)):
                for row in piece.numbers:
                    del waiting[row]
        elif waiting:
            gone = rng.choice(list(waiting))
            queue.remove(waiting.pop(gone)[0], {gone: 0})
        assert queue.count == len(waiting)
        assert {n for piece in queue for n in piece.numbers} == waiting.keys()
    assert len(take_all(queue)) == len(waiting)


def _head(queue: TaskQueue) -> TaskSlice:
    head = queue.head()
    assert head is not None
    return head


def test_what_was_put_back_has_one_turn_and_not_all_of_them() -> None:
    durations = DurationEstimates()
    queue = TaskQueue(durations)
    queue.add(tasks(0, rows=20))
    long = queue.take(_head(queue), 10, 1_000_000)
    queue.add(tasks(100, client=OTHER))
    # They were taken for quick, and the first one still runs.
    durations.observe_running(long, 50_000)
    queue.put_back(long)
    order = take_all(queue)
    assert order.index(100) <= 1
    assert [number for number in order if number != 100] == list(range(20))


def test_others_overtake_all_that_was_put_back_each_time_they_come() -> None:
    durations = DurationEstimates()
    queue = TaskQueue(durations)
    queue.add(tasks(0, rows=40))
    pipes = [queue.take(_head(queue), 20, 1_000_000) for _ in range(2)]
    durations.observe_running(pipes[0], 50_000)
    for pipe in reversed(pipes):
        queue.put_back(pipe)
    order: list[int] = []
    for number in range(100, 110):
        queue.add(tasks(number, client=OTHER))
        for _ in range(3):
            order += queue.take(_head(queue), 1, 1_000_000).numbers
        assert number in order
    assert [number for number in order if number < 100] == list(range(20))


def test_a_client_that_is_gone_begins_anew_when_it_comes_back() -> None:
    queue = TaskQueue(DurationEstimates())
    queue.add(tasks(0, rows=1000))
    queue.add(tasks(2000, client=OTHER, rows=50))
    # The queue is not empty meanwhile: it would remember the turns of every client there has ever been.
    queue.remove(CLIENT, None)
    queue.add(tasks(3000))
    assert take_all(queue).index(3000) <= 4
