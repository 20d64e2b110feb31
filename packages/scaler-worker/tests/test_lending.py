"""Slots lent unasked: tasks with unfinished work of their own that wait in ways nobody sees."""

from __future__ import annotations

from typing import Any

import pytest
from agent_harness import BODY, CLIENT, AgentHarness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import ProcessorState, Status
from scaler_worker.core import effects, events
from scaler_worker.core.endings import TAKE_BACK_SECONDS
from scaler_worker.core.lending import PATIENCE_SECONDS, UNASKED_SECONDS

NESTED = b"n" * 16
DUE = UNASKED_SECONDS + 0.001


def nesting(slots: int = 1, **options: Any) -> AgentHarness:
    """An agent that knows the functions of a client inside its tasks."""
    harness = AgentHarness(slots, **options)
    harness.define(BODY, NESTED)
    return harness


def begin_parent(harness: AgentHarness, number: int, depth: int = 0) -> int:
    """Start a task that submits work of its own; return its processor."""
    harness.submit([number], depth=depth, client=NESTED if depth else CLIENT)
    ready(harness)
    processor = harness.holder(number)
    harness.step(events.ProcessorUnfinished(processor, True))
    return processor


def ready(harness: AgentHarness) -> None:
    for started in harness.take(effects.StartProcessor):
        harness.step(events.ProcessorReady(started.processor, 2000 + started.processor))


def state(harness: AgentHarness, processor: int) -> ProcessorState:
    return harness.look().processors[processor].state


def returned(harness: AgentHarness) -> list[int]:
    return [number for message in harness.said(m.TaskReturn) for number in message.numbers]


def test_a_task_with_unfinished_work_lends_its_slot_unasked() -> None:
    harness = nesting()
    parent = begin_parent(harness, 1)
    harness.submit([2], client=NESTED, depth=1)
    assert harness.running() == [1]
    harness.wait(DUE)
    ready(harness)
    assert harness.running() == [1, 2]
    child = harness.holder(2)
    harness.finish(child)
    harness.step(events.ProcessorUnfinished(parent, False))
    assert state(harness, parent) is ProcessorState.RUNNING
    harness.finish(parent)
    assert harness.status(1) == harness.status(2, NESTED) == Status.SUCCESS


def test_work_that_cannot_be_handed_on_yet_is_asked_for_when_lending_is_due() -> None:
    harness = nesting(queue_limit=1)
    begin_parent(harness, 1)
    # Full: the scheduler may send nothing more.
    assert harness.look().capacity == 1
    harness.said(m.Heartbeat)
    harness.wait(DUE)
    assert [heartbeat.capacity for heartbeat in harness.said(m.Heartbeat)] == [2]
    harness.submit([2], client=NESTED, depth=1)
    ready(harness)
    assert harness.running() == [1, 2]


def test_other_tasks_do_not_get_a_slot_lent_unasked() -> None:
    harness = nesting()
    parent = begin_parent(harness, 1)
    harness.submit([2], depth=0)
    harness.wait(1.0)
    ready(harness)
    assert harness.running() == [1]
    harness.submit([3], client=NESTED, depth=1)
    ready(harness)
    assert harness.running() == [1, 3]
    harness.finish(harness.holder(3))
    # The parent has more unfinished work somewhere else; its slot is its own again.
    assert harness.running() == [1]
    assert state(harness, parent) is ProcessorState.RUNNING
    harness.finish(parent)
    assert harness.running() == [2]


def test_tasks_that_take_the_room_of_nested_ones_are_given_back() -> None:
    harness = nesting(queue_limit=1)
    begin_parent(harness, 1)
    harness.wait(DUE)
    # What came in the place of the parent's own work, which the scheduler did not know yet.
    harness.submit([2], depth=0)
    harness.wait(1.1)
    assert returned(harness) == [2]
    harness.submit([3], client=NESTED, depth=1)
    ready(harness)
    assert harness.running() == [1, 3]


def test_a_parent_whose_work_goes_on_elsewhere_in_the_host_lends_nothing() -> None:
    harness = nesting(slots=2)
    harness.learn(microseconds=100_000)
    begin_parent(harness, 1)
    numbers = list(range(10, 40))
    harness.submit(numbers, client=NESTED, depth=1)
    for number in numbers:
        harness.wait(0.1)
        ready(harness)
        assert harness.running() == [1, number]
        harness.finish(harness.holder(number), microseconds=100_000)


def test_a_slot_beside_a_task_that_runs_for_long_is_lent_with_patience() -> None:
    harness = nesting(slots=2)
    harness.submit([1])
    begin_parent(harness, 2)
    harness.submit([3], client=NESTED, depth=1)
    harness.wait(PATIENCE_SECONDS - 0.01)
    assert harness.running() == [1, 2]
    harness.wait(0.02)
    ready(harness)
    assert harness.running() == [1, 2, 3]


def test_as_many_slots_are_lent_as_nested_tasks_want() -> None:
    harness = nesting(slots=2)
    begin_parent(harness, 1)
    begin_parent(harness, 2)
    harness.submit([3, 4, 5], client=NESTED, depth=1)
    harness.wait(DUE)
    ready(harness)
    assert harness.running() == [1, 2, 3, 4]


@pytest.mark.parametrize("end", ["answered", "cancelled", "died"])
def test_who_ends_gives_back_what_it_lent(end: str) -> None:
    harness = nesting()
    parent = begin_parent(harness, 1)
    harness.submit([2, 3], client=NESTED, depth=1)
    harness.wait(DUE)
    ready(harness)
    assert harness.running() == [1, 2]
    harness.submit([4], depth=0)
    if end == "died":
        harness.step(events.ProcessorExited(parent, harness.front_index(parent), "it was killed"))
        ready(harness)
    elif end == "cancelled":
        harness.say(m.TaskCancel(CLIENT, [1]))
        harness.finish(parent, statuses=[Status.CANCELED])
        harness.step(events.ProcessorUnfinished(parent, False))
    else:
        harness.finish(parent)
    # The child runs in the only slot; nothing new starts beside it.
    assert harness.running() == [2]
    harness.finish(harness.holder(2))
    assert harness.running() == [3]
    harness.finish(harness.holder(3))
    assert harness.running() == [4]


def test_a_task_that_lends_unasked_may_still_say_that_it_blocks() -> None:
    harness = nesting()
    parent = begin_parent(harness, 1)
    harness.submit([2], client=NESTED, depth=1)
    harness.wait(DUE)
    ready(harness)
    harness.block(parent)
    harness.finish(harness.holder(2))
    assert state(harness, parent) is ProcessorState.BLOCKED
    harness.step(events.ProcessorUnblocked(parent, False))
    assert state(harness, parent) is ProcessorState.RUNNING
    assert not harness.look().parents


def test_what_lies_behind_a_parent_is_taken_back_and_runs_elsewhere() -> None:
    harness = nesting()
    harness.learn(microseconds=100)
    harness.submit([1, 2])
    parent = harness.holder(1)
    harness.step(events.ProcessorUnfinished(parent, True))
    harness.submit([3], client=NESTED, depth=1)
    harness.wait(DUE)
    (taken,) = harness.take(effects.TakeBack)
    harness.step(events.ProcessorGaveBack(taken.processor, 1, harness.front_index(parent) + 1))
    ready(harness)
    assert harness.running() == [1, 3]


def test_tasks_are_not_handed_over_again_behind_one_they_were_taken_back_from() -> None:
    harness = nesting()
    harness.learn(microseconds=100)
    harness.submit([1, 2])
    holder = harness.holder(1)
    harness.wait(0.06)
    harness.take(effects.TakeBack)
    harness.step(events.ProcessorGaveBack(holder, 1, harness.front_index(holder) + 1))
    harness.wait(0.2)
    assert not harness.take(effects.TakeBack)
    harness.finish(holder)
    assert harness.running() == [2]


def test_fifty_levels_that_wait_unseen_need_fifty_processors_and_no_more() -> None:
    harness = nesting()
    for depth in range(50):
        harness.submit([depth], depth=depth, client=NESTED if depth else CLIENT)
        harness.wait(DUE)
        ready(harness)
        harness.step(events.ProcessorUnfinished(harness.holder(depth), True))
    assert len(harness.running()) == 50
    assert len(harness.look().processors) <= 52
    for depth in reversed(range(50)):
        harness.step(events.ProcessorUnfinished(harness.holder(depth), False))
        harness.finish(harness.holder(depth))
    assert len(harness.results) == 50


def test_beyond_the_slots_depth_bounds_what_is_lent_unasked() -> None:
    harness = nesting()
    begin_parent(harness, 1)
    harness.submit([2, 3, 4], client=NESTED, depth=1)
    harness.wait(DUE)
    ready(harness)
    assert harness.running() == [1, 2]
    harness.step(events.ProcessorUnfinished(harness.holder(2), True))
    # Of depth 1 no more may start, and so nothing is lent for it; of depth 2 one may.
    harness.wait(2.0)
    ready(harness)
    assert harness.running() == [1, 2]
    harness.submit([5], client=NESTED, depth=2)
    ready(harness)
    assert harness.running() == [1, 2, 5]


def test_a_task_that_went_on_has_its_time_again() -> None:
    harness = nesting()
    parent = begin_parent(harness, 1)
    harness.block(parent)
    ready(harness)
    harness.submit([2, 3], client=NESTED, depth=1)
    assert harness.running() == [1, 2]
    harness.step(events.ProcessorUnblocked(parent, True))
    harness.finish(harness.holder(2))
    assert harness.running() == [1]
    harness.wait(DUE)
    assert harness.running() == [1, 3]


def test_a_task_that_lent_its_slot_unasked_lends_it_again_at_once() -> None:
    harness = nesting()
    parent = begin_parent(harness, 1)
    for number in (2, 3, 4):
        harness.submit([number], client=NESTED, depth=1)
        if number == 2:
            harness.wait(DUE)
            ready(harness)
        assert harness.running() == [1, number]
        harness.finish(harness.holder(number))
        harness.step(events.ProcessorUnfinished(parent, False))
        harness.step(events.ProcessorUnfinished(parent, True))


def test_room_is_made_at_once_when_a_parent_submits_more() -> None:
    harness = nesting(queue_limit=1)
    parent = begin_parent(harness, 1)
    harness.step(events.RelayOpened(parent, NESTED))
    harness.submit([2], client=NESTED, depth=1)
    harness.wait(DUE)
    ready(harness)
    harness.submit([3], depth=0)
    harness.finish(harness.holder(2))
    assert returned(harness) == [3]
    harness.submit([3], depth=0, attempt=2)
    assert harness.running() == [1]
    assert returned(harness) == []
    harness.step(events.RelayFrames(parent, NESTED, [b"a task, perhaps"]))
    assert returned(harness) == [3]


def test_a_slot_that_was_lent_for_a_task_which_had_not_begun_comes_back_with_it() -> None:
    """What a client inside has submitted outlives its task, and the next task seems to wait for it."""
    harness = AgentHarness(slots=1)
    harness.learn(10)
    harness.submit([1, 2])
    (parent,) = harness.look().processors
    harness.step(events.ProcessorUnfinished(parent, True))
    harness.wait(TAKE_BACK_SECONDS + 0.01)
    assert harness.take(effects.TakeBack) == [effects.TakeBack(parent)]
    # It answers the first task, and gives back the second one before it begins that; its machine is busy.
    begun = harness.front_index(parent)
    harness.finish(parent)
    harness.submit([3], depth=1)
    harness.wait(2 * UNASKED_SECONDS)
    assert harness.look().processors[parent].state is ProcessorState.BLOCKED
    harness.step(events.ProcessorGaveBack(parent, 1, begun + 1))
    harness.step(events.ProcessorUnfinished(parent, False))
    for started in harness.take(effects.StartProcessor):
        harness.step(events.ProcessorReady(started.processor, 1000 + started.processor))
    for _ in range(2):
        for number in harness.running():
            harness.finish(harness.holder(number))
    harness.wait(1.0)
    assert {number for _, number in harness.results} >= {1, 2, 3}
    assert harness.look().processors[parent].state is ProcessorState.IDLE
