"""Which worker a task is said to run in, after nesting and deaths have left processors of all kinds."""

from __future__ import annotations

from itertools import pairwise

from agent_harness import BODY, CLIENT, AgentHarness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core import effects, events
from scaler_worker.core.processors import Processor, shown_processors

NESTED = b"n" * 16


def ready(harness: AgentHarness) -> None:
    for started in harness.take(effects.StartProcessor):
        harness.step(events.ProcessorReady(started.processor, 2000 + started.processor))


def heartbeat(harness: AgentHarness) -> m.Heartbeat:
    harness.said(m.Heartbeat)
    harness.wait(2.5)
    return harness.said(m.Heartbeat)[-1]


def slots_of_results(harness: AgentHarness) -> dict[int, int]:
    return {
        number: slot
        for batch in harness.said(m.ResultBatch)
        for number, slot in zip(batch.numbers, batch.slots, strict=True)
    }


def nest(harness: AgentHarness, first: int = 1) -> None:
    """Three parents block, and a child of each runs in its place: twice as many processors as workers are left."""
    parents, children = range(first, first + 3), range(first + 3, first + 6)
    harness.define(BODY, NESTED)
    harness.submit(parents)
    for number in parents:
        harness.block(harness.holder(number))
    ready(harness)
    harness.submit(children, client=NESTED, depth=1)
    for number in children:
        harness.finish(harness.holder(number))
    for number in parents:
        harness.step(events.ProcessorUnblocked(harness.holder(number)))
        harness.finish(harness.holder(number))


def test_after_nesting_every_busy_worker_is_one_of_its_own() -> None:
    harness = AgentHarness(slots=3)
    nest(harness)
    harness.said(m.ResultBatch)
    harness.submit([11, 12, 13])
    beat = heartbeat(harness)
    assert list(beat.processor_states) == [State.RUNNING] * 3
    assert sorted(beat.processor_tasks) == [11, 12, 13]
    shown = dict(zip(beat.processor_tasks, range(3), strict=True))
    for number in (11, 12, 13):
        harness.finish(harness.holder(number))
    assert slots_of_results(harness) == shown


def test_after_a_death_every_busy_worker_is_one_of_its_own() -> None:
    harness = AgentHarness(slots=3)
    nest(harness)
    harness.submit([11, 12, 13])
    harness.step(events.ProcessorExited(harness.holder(12), None, "it was killed"))
    harness.submit([14])
    harness.wait(5.0)
    ready(harness)
    beat = heartbeat(harness)
    assert list(beat.processor_states) == [State.RUNNING] * 3
    assert len(set(beat.processor_tasks)) == 3


def test_a_blocked_task_is_shown_where_nothing_runs_in_its_place() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([1, 2])
    harness.block(harness.holder(1))
    ready(harness)
    beat = heartbeat(harness)
    states = dict(zip(beat.processor_tasks, beat.processor_states, strict=True))
    assert states == {1: State.BLOCKED, 2: State.RUNNING}


def test_a_task_that_goes_on_beside_the_one_in_its_place_is_shown_in_a_free_slot() -> None:
    running = [Processor(number, 0, State.RUNNING) for number in range(2)]
    idle = [Processor(number, slot, State.IDLE) for number, slot in ((2, 1), (3, 2))]
    shown = shown_processors([*idle, *running], 3)
    assert [processor.number for processor in shown if processor is not None] == [0, 1, 3]
    assert [processor.number for processor in shown_processors(running, 2) if processor is not None] == [0, 1]
    assert shown_processors([], 2) == [None, None]


def test_tasks_of_one_worker_ran_one_after_another() -> None:
    """Whatever happened before, results that bear the same slot are of tasks that did not run at the same time."""
    harness = AgentHarness(slots=3)
    for first in (100, 110, 120):
        nest(harness, first)
    harness.said(m.ResultBatch)
    spans: dict[int, list[tuple[float, float]]] = {}
    began: dict[int, float] = {}
    for number in range(20, 50, 3):
        harness.submit([number, number + 1, number + 2], client=CLIENT)
        for one in (number, number + 1, number + 2):
            began[one] = harness.now
            harness.now += 0.001
        for one in (number + 1, number, number + 2):
            harness.finish(harness.holder(one))
        for one, slot in slots_of_results(harness).items():
            spans.setdefault(slot, []).append((began[one], harness.now))
        harness.now += 0.01
    assert set(spans) == {0, 1, 2}
    for track in spans.values():
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(track)))
