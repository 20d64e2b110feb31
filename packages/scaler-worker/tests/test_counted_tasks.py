"""Tasks with counted resources at an agent: it checks again what the scheduler has granted, and gives each its devices."""

from __future__ import annotations

from typing import Any

from agent_harness import CLIENT, OTHER, AgentHarness

from scaler_protocol.capabilities import pin_to
from scaler_protocol.runtime.resources import parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions
from scaler_worker.core import effects, events
from scaler_worker.core.lending import UNASKED_SECONDS


def counted(amounts: str, devices: str = "", **options: Any) -> dict[str, Any]:
    """Fields of a batch whose tasks have been granted this."""
    record = CallOptions(resources=parse_amounts(amounts), **options).for_agents
    return {"options": record, "granted": amounts, "devices": devices}


def host(slots: int = 2, **options: Any) -> AgentHarness:
    return AgentHarness(slots, resources="cores=4,gpu=2", devices=("x", "y"), **options)


def ready(harness: AgentHarness) -> None:
    for started in harness.take(effects.StartProcessor):
        harness.step(events.ProcessorReady(started.processor, 2000 + started.processor))


def ended(harness: AgentHarness) -> None:
    """All processors that are to stop or to be killed have."""
    numbers = [effect.processor for effect in harness.take(effects.StopProcessor)]
    numbers += [effect.processor for effect in harness.take(effects.KillProcessor)]
    for number in numbers:
        harness.step(events.ProcessorExited(number, None, "it was stopped"))
    ready(harness)


def devices_of(harness: AgentHarness) -> list[tuple[str, ...]]:
    return [sent.devices for sent in harness.take(effects.SendTasks)]


def test_tasks_run_with_the_devices_that_they_were_granted() -> None:
    harness = host()
    harness.submit([1], **counted("gpu=1", "x"))
    harness.submit([2], **counted("gpu=1", "y"))
    assert harness.running() == [1, 2]
    assert devices_of(harness) == [("x",), ("y",)]
    first = harness.holder(1)
    harness.finish(first)
    harness.submit([3], **counted("gpu=1", "x"))
    assert harness.holder(3) == first, "it keeps its device"


def test_an_idle_processor_with_other_devices_is_replaced() -> None:
    harness = host(slots=1)
    harness.submit([1], **counted("gpu=1", "x"))
    before = harness.holder(1)
    harness.finish(before)
    harness.submit([2], **counted("gpu=2", "x,y"))
    ended(harness)
    assert harness.holder(2) != before
    assert devices_of(harness)[-1] == ("x", "y")


def test_a_task_for_one_worker_has_devices_too() -> None:
    harness = host(slots=2)
    harness.submit([1], capabilities=pin_to(b"a" * 16, 1), **counted("gpu=1", "y"))
    assert devices_of(harness) == [("y",)]


def test_tasks_that_ask_for_different_amounts_take_turns() -> None:
    harness = host(slots=1)
    harness.submit([1, 2, 3], **counted("cores=1"))
    harness.submit([4], **counted("gpu=1", "x"))
    order = []
    for number in range(5, 9):
        (running,) = harness.running()
        order.append(running)
        # The scheduler sends another one for each that ends.
        harness.submit([number], **counted("cores=1"))
        harness.finish(harness.holder(running))
    assert 4 in order[:3]


def test_the_more_urgent_go_first() -> None:
    harness = host(slots=1)
    harness.submit([1])
    harness.submit([2], **counted("cores=1"))
    harness.submit([3], **counted("cores=1", priority=5))
    harness.submit([4], depth=1, **counted("cores=1"))
    for number in (1, 4, 3, 2):
        assert harness.running() == [number]
        harness.finish(harness.holder(number))


def test_what_a_blocked_task_waits_for_does_not_wait_for_what_waits_behind_it() -> None:
    """The nested task needs the GPU that a task at this host holds, which has not begun: so that one begins."""
    harness = host(slots=1)
    harness.submit([1])
    harness.submit([2], **counted("gpu=2", "x,y"))
    assert harness.running() == [1]
    harness.block(harness.holder(1))
    ready(harness)
    assert 2 in harness.running()


def test_the_same_where_nobody_says_that_the_task_waits() -> None:
    harness = host(slots=1)
    harness.submit([1])
    parent = harness.holder(1)
    harness.submit([2], **counted("gpu=2", "x,y"))
    harness.step(events.ProcessorUnfinished(parent, True))
    harness.wait(2 * UNASKED_SECONDS)
    ready(harness)
    assert 2 in harness.running()


def test_depths_that_are_closed_are_not_for_tasks_that_hold_amounts() -> None:
    harness = host(slots=1)
    for depth in range(3):
        harness.submit([1 + depth], depth=depth)
        ready(harness)
        harness.block(harness.holder(1 + depth))
    harness.submit([9], depth=0)
    ready(harness)
    assert 9 not in harness.running()
    harness.submit([10], depth=0, **counted("gpu=2", "x,y"))
    ready(harness)
    assert 10 in harness.running()


def test_the_scheduler_hears_when_tasks_of_a_client_that_is_gone_have_ended() -> None:
    harness = host(slots=2)
    harness.submit([1], **counted("gpu=1", "x"))
    running = harness.holder(1)
    harness.define(client=OTHER)
    harness.submit([2], client=OTHER)
    harness.say(m.ClientGone(CLIENT))
    harness.say(m.ClientGone(OTHER))
    assert not harness.said(m.GrantsFreed)
    harness.finish(running)
    assert [freed.client for freed in harness.said(m.GrantsFreed)] == [CLIENT]


def test_a_client_that_has_come_back_does_not_keep_what_its_earlier_tasks_had() -> None:
    harness = host(slots=2)
    harness.submit([1], **counted("gpu=1", "x"))
    running = harness.holder(1)
    harness.say(m.ClientGone(CLIENT))
    harness.define()
    harness.submit([2], **counted("gpu=1", "y"))
    assert not harness.said(m.GrantsFreed)
    harness.finish(running)
    assert harness.running() == [2]
    assert [freed.client for freed in harness.said(m.GrantsFreed)] == [CLIENT]


def test_tasks_that_wait_for_a_device_of_a_process_that_is_being_ended_wait_here() -> None:
    harness = host(slots=2)
    harness.submit([1], **counted("gpu=1", "x"))
    harness.say(m.ClientGone(CLIENT))
    harness.define(client=OTHER)
    harness.submit([2], client=OTHER, **counted("gpu=1", "x"))
    assert 2 not in harness.running()
    harness.wait(2.0)
    ended(harness)
    assert 2 in harness.running()


def test_a_new_session_begins_with_what_is_in_use() -> None:
    harness = host(slots=2)
    assert [len(held.clients) for held in harness.said(m.GrantsHeld)] == [0]
    harness.submit([1], attempt=3, **counted("gpu=1", "x"))
    harness.define(client=OTHER)
    harness.submit([2], client=OTHER, depth=1, **counted("gpu=0.5", "y"))
    harness.say(m.ClientGone(OTHER))
    harness.unknown_peer()
    harness.welcome(incarnation=b"t" * 16)
    (held,) = harness.said(m.GrantsHeld)
    assert (held.clients, list(held.numbers), list(held.attempts)) == ((CLIENT, OTHER), [1, 2], [3, 1])
    assert (held.amounts, held.devices) == (("gpu=1", "gpu=0.5"), ("x", "y"))
    assert (list(held.depths), list(held.left)) == ([0, 1], [0, 1])
