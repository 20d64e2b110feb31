"""Tasks of several clients at one agent: who goes first, how much lies in pipes, when results leave."""

from __future__ import annotations

from agent_harness import BODY, CLIENT, OTHER, AgentHarness

from scaler_protocol.ids import content_id
from scaler_protocol.wire import messages as m
from scaler_worker.core.dispatch import SHARED_PIPE_MICROSECONDS

THIRD = b"e" * 16
QUICK = content_id(b"Pquick")


def shared(slots: int = 1, microseconds: int = 2000) -> AgentHarness:
    """An agent that knows how long FUNCTION takes, and that QUICK takes next to no time."""
    harness = AgentHarness(slots=slots)
    harness.define(BODY, OTHER)
    assert harness.define(b"Pquick", THIRD) == QUICK
    harness.submit([910_000], THIRD, functions=(QUICK,))
    harness.finish(harness.holder(910_000), microseconds=1)
    for _ in range(3):
        harness.results.clear()
        harness.learn(microseconds)
    harness.results.clear()
    harness.said(m.ResultBatch)
    return harness


def order(harness: AgentHarness, processor: int = 0) -> list[int]:
    """Answer everything, one task at a time; return the numbers in the order in which they ran."""
    ran = []
    while tasks := harness.look().processors[processor].tasks:
        ran.append(tasks[0])
        harness.finish(processor, microseconds=2000)
    return ran


def test_a_single_task_goes_ahead_of_what_others_have_queued() -> None:
    harness = shared()
    harness.submit(range(100), CLIENT)
    harness.submit(range(1000, 1100), OTHER)
    harness.submit([5000], THIRD, functions=(QUICK,))
    ran = order(harness)
    ahead = ran.index(5000)
    assert ahead <= 24, "only what lay in the pipe already ran before it"


def test_clients_alternate_and_each_one_s_tasks_stay_in_order() -> None:
    harness = shared()
    for first in range(0, 40, 4):
        harness.submit(range(first, first + 4), CLIENT)
    for first in range(1000, 1040, 4):
        harness.submit(range(first, first + 4), OTHER)
    ran = order(harness)
    assert [number for number in ran if number < 1000] == list(range(40))
    assert [number for number in ran if number >= 1000] == list(range(1000, 1040))
    begun = ran[16:]
    differences = [sum(1 if number < 1000 else -1 for number in begun[:end]) for end in range(len(begun) // 2)]
    assert max(map(abs, differences)) <= 12


def test_a_client_that_comes_back_again_and_again_does_not_starve_the_others() -> None:
    harness = shared()
    harness.submit(range(10), CLIENT)
    number = 5000
    ran: list[int] = []
    while len(ran) < 60 and 9 not in ran:
        if len(harness.look().queued) < 20:
            harness.submit([number], OTHER)
            number += 1
        ran.append(harness.look().processors[0].tasks[0])
        harness.finish(0, microseconds=2000)
    assert 9 in ran


def test_little_lies_in_a_pipe_while_several_clients_wait() -> None:
    harness = shared()
    harness.submit(range(100), CLIENT)
    harness.submit(range(1000, 1100), OTHER)
    while len(harness.look().processors[0].tasks) > SHARED_PIPE_MICROSECONDS / 2000 + 1:
        harness.finish(0, microseconds=2000)
    for _ in range(40):
        harness.finish(0, microseconds=2000)
        assert len(harness.look().processors[0].tasks) <= SHARED_PIPE_MICROSECONDS / 2000 + 1


def test_longer_tasks_are_not_handed_over_ahead_while_several_clients_wait() -> None:
    harness = shared(microseconds=12_000)
    harness.submit(range(20), CLIENT)
    harness.submit(range(1000, 1020), OTHER)
    for _ in range(8):
        harness.finish(0, microseconds=12_000)
    assert len(harness.look().processors[0].tasks) == 1


def test_the_last_result_of_a_client_is_not_held_for_those_of_others() -> None:
    harness = shared(microseconds=10_000)
    harness.submit(range(20), CLIENT)
    harness.finish(0)
    harness.now += 0.001
    harness.submit([5000], THIRD, functions=(QUICK,))
    harness.said(m.ResultBatch)
    while 5000 not in harness.look().processors[0].tasks[:1]:
        harness.now += 0.001
        harness.finish(0)
    harness.said(m.ResultBatch)
    harness.finish(0, microseconds=1)
    assert [list(batch.numbers) for batch in harness.said(m.ResultBatch) if batch.client == THIRD] == [[5000]]


def test_tasks_taken_back_keep_their_place() -> None:
    harness = shared()
    harness.submit(range(10), CLIENT)
    harness.submit(range(1000, 1010), OTHER)
    harness.block(0)
    left = [number for numbers in harness.look().queued for number in numbers]
    assert sorted(left) == sorted({*range(10), *range(1000, 1010)} - {0})
    assert left[0] == 1


def test_a_long_slice_makes_room_for_others_after_each_turn() -> None:
    harness = shared()
    # It came when nobody else was there, so it holds all that the agent wanted.
    harness.submit(range(400), CLIENT)
    for first in range(1000, 1200, 2):
        harness.submit(range(first, first + 2), OTHER)
    ran: list[int] = []
    for _ in range(120):
        ran.append(harness.look().processors[0].tasks[0])
        harness.finish(0, microseconds=2000)
    late = ran[20:]
    own = sum(1 for number in late if number < 1000)
    assert 0.4 * len(late) <= own <= 0.6 * len(late)
