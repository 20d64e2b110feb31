"""Tasks that only one worker of a host may run: they wait for it, and go ahead of all others there."""

from __future__ import annotations

import pytest
from agent_harness import CLIENT, OTHER, AgentHarness

from scaler_protocol.capabilities import pin_to
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects, events
from scaler_worker.core.lending import UNASKED_SECONDS


def pin(slot: int) -> m.Capabilities:
    return pin_to(b"a" * 16, slot)


def slots_of(harness: AgentHarness, *numbers: int) -> list[int]:
    """Return the slots in which these tasks run."""
    running = {
        processor.tasks[0]: processor.slot for processor in harness.look().processors.values() if processor.tasks
    }
    return [running[number] for number in numbers]


def test_each_runs_in_its_slot_and_in_a_processor_of_its_own() -> None:
    harness = AgentHarness(slots=3)
    for number, slot in ((1, 2), (2, 0), (3, 1)):
        harness.submit([number], capabilities=pin(slot))
    assert slots_of(harness, 1, 2, 3) == [2, 0, 1]
    assert len({harness.holder(number) for number in (1, 2, 3)}) == 3
    for number in (1, 2, 3):
        harness.finish(harness.holder(number))
    assert {number: harness.status(number) for number in (1, 2, 3)} == dict.fromkeys((1, 2, 3), Status.SUCCESS)


def test_one_after_the_other_in_the_same_slot() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([1, 2], capabilities=pin(1))
    assert harness.running() == [1]
    assert harness.look().pinned == (2,)
    harness.finish(harness.holder(1))
    assert slots_of(harness, 2) == [1]


def test_a_worker_that_is_never_idle_comes_to_it_next() -> None:
    harness = AgentHarness(slots=2)
    harness.learn(microseconds=5000)
    harness.submit(range(1000))
    busy = next(p for p, processor in harness.look().processors.items() if processor.slot == 1)
    harness.submit([5000], capabilities=pin(1))
    left = len(harness.look().processors[busy].tasks)
    for _ in range(left):
        assert harness.look().pinned == (5000,)
        harness.finish(busy, microseconds=5000)
    assert harness.look().processors[busy].tasks[0] == 5000
    harness.finish(busy)
    assert harness.look().processors[busy].tasks, "then it goes on with the others"


def test_tasks_inside_tasks_go_ahead_of_those_that_may_not_start_before_them() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1, 2, 3, 4], capabilities=pin(0))
    for number in (1, 2):
        harness.block(harness.holder(number))
        for started in harness.take(effects.StartProcessor):
            harness.step(events.ProcessorReady(started.processor, 1000 + started.processor))
    assert harness.look().pinned == (3, 4), "as many wait as may"
    harness.submit([5, 6], capabilities=pin(0), depth=1)
    assert harness.running() == [1, 2, 5]
    assert harness.look().pinned == (6, 3, 4)


def test_what_waits_takes_no_room_from_other_workers() -> None:
    harness = AgentHarness(slots=2)
    before = harness.look().capacity
    harness.submit([1], capabilities=pin(0))
    harness.submit([2, 3, 4], capabilities=pin(0))
    assert harness.look().capacity == before + 3


def test_no_such_worker() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([1], capabilities=pin(2))
    harness.wait(1)
    assert harness.status(1) == Status.NOT_RUN


@pytest.mark.parametrize("gone", [False, True], ids=["cancelled", "client gone"])
def test_what_waits_ends_with_its_client(gone: bool) -> None:
    harness = AgentHarness(slots=1)
    harness.define(client=OTHER)
    harness.submit([1], client=OTHER)
    harness.submit([2, 3], capabilities=pin(0))
    harness.say(m.ClientGone(CLIENT) if gone else m.TaskCancel(CLIENT, [2], [1]))
    assert harness.look().pinned == (() if gone else (3,))
    harness.wait(1)
    if not gone:
        assert harness.status(2) == Status.CANCELED


def test_what_waits_goes_back_when_the_agent_leaves() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.submit([2], capabilities=pin(0))
    harness.step(events.StopRequested("told to", 5.0))
    assert [list(message.numbers) for message in harness.said(m.TaskReturn)] == [[2]]


def test_a_scheduler_that_starts_anew_hears_of_it() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.submit([2], capabilities=pin(0))
    harness.unknown_peer()
    harness.welcome(incarnation=b"t" * 16)
    (inventory,) = harness.said(m.Inventory)
    assert sorted(inventory.numbers) == [1, 2]


def test_it_stays_in_its_slot_when_the_processor_dies_before_it_began() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([1], capabilities=pin(1))
    holder = harness.holder(1)
    harness.step(events.ProcessorExited(holder, None, "killed"))
    assert harness.look().pinned == (1,) or slots_of(harness, 1) == [1]
    for started in harness.take(effects.StartProcessor):
        harness.step(events.ProcessorReady(started.processor, 2000))
    assert slots_of(harness, 1) == [1]
    assert not harness.look().pinned


def test_a_task_that_waits_for_one_in_its_own_slot_lends_the_slot() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([1])
    parent = harness.holder(1)
    slot = harness.look().processors[parent].slot
    harness.submit([2], capabilities=pin(slot), depth=1)
    assert harness.look().pinned == (2,)
    harness.block(parent)
    (started,) = harness.take(effects.StartProcessor)
    assert harness.look().pinned == (2,), "a processor of its own starts, so the idle one is left to its slot"
    harness.step(events.ProcessorReady(started.processor, 3000))
    assert harness.holder(2) == started.processor
    assert harness.look().processors[started.processor].slot == slot


def test_a_task_that_waits_unseen_lends_it_too() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    parent = harness.holder(1)
    harness.step(events.ProcessorUnfinished(parent, True))
    harness.submit([2], capabilities=pin(0), depth=1)
    harness.wait(10 * UNASKED_SECONDS + 3)
    for started in harness.take(effects.StartProcessor):
        harness.step(events.ProcessorReady(started.processor, 3000))
    assert harness.holder(2) != parent
