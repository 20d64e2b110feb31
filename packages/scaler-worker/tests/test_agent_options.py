"""What an agent does for tasks that ask for something: time limits of their own, priorities, and to run once at most."""

from __future__ import annotations

from typing import Any

import pytest
from agent_harness import CLIENT, OTHER, AgentHarness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects, events


def asking(**options: Any) -> bytes:
    return NO_OPTIONS.with_given(options, "test").for_agents


@pytest.mark.parametrize(
    ("own", "of_worker", "effective", "whose"),
    [
        (3, 0, 3, "timeout_seconds"),
        (3, 5, 3, "timeout_seconds"),
        (5, 3, 3, "task timeout"),
        (None, 3, 3, "task timeout"),
    ],
)
def test_the_shorter_time_limit_counts(own: float | None, of_worker: float, effective: float, whose: str) -> None:
    harness = AgentHarness(slots=1, task_timeout_seconds=of_worker)
    harness.submit([1], options=asking(timeout_seconds=own))
    harness.wait(effective - 0.1)
    assert harness.take(effects.CancelTask) == []
    harness.wait(0.2)
    (cancel,) = harness.take(effects.CancelTask)
    assert cancel.status == Status.TIMED_OUT
    assert cancel.text == f"the task ran for more than 3 s and was ended ({whose})"
    harness.wait(1.1)
    assert harness.take(effects.KillProcessor)
    harness.step(events.ProcessorExited(0, 0, "killed"))
    assert harness.status(1) == Status.TIMED_OUT


def test_the_time_limit_is_that_of_the_running_task() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1], options=asking(timeout_seconds=3))
    harness.submit([2])
    harness.finish(0)
    harness.wait(60)
    assert harness.take(effects.CancelTask) == []


def test_time_in_the_queue_does_not_count() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.submit([2], options=asking(timeout_seconds=3))
    harness.wait(10)
    harness.finish(0)
    harness.wait(2.9)
    assert harness.take(effects.CancelTask) == []
    harness.wait(0.2)
    assert [cancel.index for cancel in harness.take(effects.CancelTask)] == [1]


def test_tasks_whose_answers_were_lost_are_not_run_again_if_they_may_not() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1, 2, 3, 4], options=asking(idempotent=False))
    harness.submit([5, 6])
    first = harness.front_index(0)
    # It had run two, and had not yet said so, when it died in the third.
    harness.step(events.ProcessorExited(0, first + 2, "it died"))
    assert [harness.status(number) for number in (1, 2, 3)] == [Status.PROCESSOR_DIED] * 3
    assert [list(numbers) for numbers in harness.look().queued] == [[4], [5, 6]]
    assert harness.results[CLIENT, 1][2] == b"its answer was lost: it died"


def test_others_run_again() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1, 2, 3], options=asking(priority=1))
    first = harness.front_index(0)
    harness.step(events.ProcessorExited(0, first + 2, "it died"))
    assert [list(numbers) for numbers in harness.look().queued] == [[1, 2]]


def ended_too_late(**options: Any) -> tuple[AgentHarness, int]:
    """Task 1 ran too long, and as its processor is killed for that, task 2 has begun, which asks for this."""
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1], options=asking(timeout_seconds=1))
    harness.submit([2, 3], options=asking(**options))
    first = harness.front_index(0)
    harness.wait(2.2)
    assert harness.take(effects.KillProcessor)
    harness.take(effects.SendTasks)
    return harness, first


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_task_whose_processor_is_ended_for_the_one_before_it_runs_again_only_if_it_may(is_lost: bool) -> None:
    harness, first = ended_too_late(idempotent=False)
    if not is_lost:
        harness.finish(0)
    harness.step(events.ProcessorExited(0, first + 1, "killed"))
    assert harness.status(2) == Status.PROCESSOR_DIED
    assert harness.results[CLIENT, 2][2] == (
        b"it had begun when its processor was ended because of the task before it: killed"
    )
    assert harness.status(1) == (Status.TIMED_OUT if is_lost else Status.SUCCESS)
    assert queued(harness) == [3]


@pytest.mark.parametrize("is_lost", [False, True])
def test_others_of_them_run_again_in_their_order(is_lost: bool) -> None:
    harness, first = ended_too_late()
    if not is_lost:
        harness.finish(0)
    harness.step(events.ProcessorExited(0, first + 1, "killed"))
    assert (CLIENT, 2) not in harness.results
    assert harness.status(1) == (Status.TIMED_OUT if is_lost else Status.SUCCESS)
    assert queued(harness) == [2, 3]


def test_options_that_cannot_be_read_end_their_tasks_only() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1], options=b"?")
    assert harness.status(1) == Status.NOT_RUN
    harness.submit([2])
    harness.finish(0)
    assert harness.status(2) == Status.SUCCESS


def queued(harness: AgentHarness) -> list[int]:
    return [number for numbers in harness.look().queued for number in numbers]


def busy(**options: Any) -> AgentHarness:
    """An agent whose only processor runs a long task, so that everything else is queued."""
    harness = AgentHarness(slots=1, **options)
    harness.learn(microseconds=50_000)
    harness.submit([100])
    return harness


def test_tasks_of_higher_priority_go_ahead_of_their_clients_others() -> None:
    harness = busy()
    harness.submit([1, 2, 3])
    harness.submit([4], options=asking(priority=-1))
    harness.submit([5, 6], options=asking(priority=2))
    harness.submit([7], options=asking(priority=1))
    harness.submit([8])
    assert queued(harness) == [5, 6, 7, 1, 2, 3, 8, 4]


def test_they_do_not_go_ahead_of_deeper_tasks() -> None:
    harness = busy()
    harness.submit([1], depth=1)
    harness.submit([2], options=asking(priority=2))
    assert queued(harness) == [1, 2]


def test_other_clients_have_their_turns() -> None:
    harness = busy()
    harness.define(client=OTHER)
    harness.submit([1])
    harness.submit([10], client=OTHER)
    harness.submit([2], options=asking(priority=2))
    assert queued(harness) == [2, 1, 10] or queued(harness) == [2, 10, 1]
    harness.submit([3], options=asking(priority=3))
    assert queued(harness).index(10) <= 3


def test_what_is_given_back_stands_behind_what_is_more_urgent() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit(range(1, 6))
    harness.wait(0.06)
    assert harness.take(effects.TakeBack) == [effects.TakeBack(0)]
    harness.submit([9], options=asking(priority=1))
    harness.step(events.ProcessorGaveBack(0, 1, harness.front_index(0) + 1))
    assert queued(harness) == [9, 2, 3, 4, 5]
    harness.say(m.TaskRecall(100))
    assert queued(harness) == []
