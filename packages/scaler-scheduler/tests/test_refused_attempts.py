"""Agents that come back with tasks which they are not to have: no later attempt has the number of what still ends there."""

from __future__ import annotations

from typing import Any

import pytest
from harness import Agent, Client, Harness, identity
from test_core_graphs import CHAIN, submit_graph

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, encode_record, join_records
from scaler_scheduler.core import SchedulerConfig, SchedulerCore
from scaler_scheduler.core.graph_arrival import ATTEMPT_MAX
from scaler_scheduler.core.lifecycle import REFUSED_MAX

ONCE = join_records((encode_record(NO_OPTIONS.with_given({"idempotent": False}, "test")),))


def cluster(**config: Any) -> tuple[Harness, Client]:
    harness = Harness(**config)
    client = Client(harness, "client")
    client.define()
    return harness, client


def claim(agent: Agent, number: int, attempt: int) -> list[tuple[int, int]]:
    """Say that the agent has it; return what it is told to stop."""
    agent.send(m.Inventory(identity("client"), [number], [attempt], [1]))
    return stops(agent)


def stops(agent: Agent) -> list[tuple[int, int]]:
    cancels = agent.take(m.TaskCancel)
    return [pair for one in cancels for pair in zip(one.numbers, one.attempts, strict=True)]


@pytest.mark.parametrize("waits", [False, True])
def test_the_next_attempt_has_another_number(waits: bool) -> None:
    harness, client = cluster()
    other = Agent(harness, "other", capacity=0 if waits else 1)
    (number,) = client.submit(1)
    assert other.tasks() == ([] if waits else [(client.id, number, 1)])
    # It has the attempt from a scheduler before the last one, and comes too late.
    assert claim(Agent(harness, "late", capacity=0), number, 2) == [(number, 2)]
    if waits:
        other.capacity = 1
        harness.advance(3)
    else:
        other.send(m.TaskReturn(client.id, [number], [1]))
    assert other.tasks() == [(client.id, number, 3)]
    other.answer([(client.id, number, 3)])
    # Its client cannot read the result, and has it run again.
    client.next_number = number
    client.submit(1)
    assert other.tasks() == [(client.id, number, 3)]


def test_so_has_a_row_that_waits_again() -> None:
    harness, client = cluster()
    agent = Agent(harness, "agent")
    first = submit_graph(client, CHAIN, [3])
    tasks = agent.tasks()
    agent.send(m.TaskReturn(client.id, [first + 1, first + 2, first + 3], [1] * 3))
    assert claim(Agent(harness, "late", capacity=0), first + 2, 2) == [(first + 2, 2)]
    agent.answer(tasks[:1])
    assert agent.tasks() == [(client.id, first + 1, 2), (client.id, first + 2, 3), (client.id, first + 3, 2)]


def test_so_has_a_task_whose_result_had_come_when_it_was_claimed() -> None:
    harness = Harness(recovery_grace_seconds=5)
    one, other = Agent(harness, "one", capacity=0), Agent(harness, "other", capacity=0)
    one.answer([(identity("client"), 1, 1)])
    assert claim(other, 1, 2) == []
    client = Client(harness, "client")
    client.define()
    client.submit(1, flags=m.TaskFlag.REANNOUNCED)
    assert list(client.results()) == [1]
    assert stops(other) == [(1, 2)]
    client.next_number = 1
    client.submit(1)
    other.capacity = 1
    harness.advance(3)
    assert other.tasks() == [(client.id, 1, 3)]


def test_so_has_a_task_that_two_agents_claimed_while_its_client_was_away() -> None:
    harness = Harness(recovery_grace_seconds=5)
    one, other = Agent(harness, "one", capacity=0), Agent(harness, "other", capacity=0)
    assert claim(one, 1, 1) == []
    assert claim(other, 1, 2) == [(1, 2)]
    client = Client(harness, "client")
    client.define()
    client.submit(1, flags=m.TaskFlag.REANNOUNCED)
    other.capacity = 1
    harness.advance(3)
    one.send(m.TaskReturn(client.id, [1], [1]))
    assert other.tasks() == [(client.id, 1, 3)]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("how", ["result", "return"])
def test_an_agent_that_has_an_earlier_attempt_too_goes_on_with_the_later_one(order: tuple[int, int], how: str) -> None:
    harness = Harness(recovery_grace_seconds=5)
    agent = Agent(harness, "agent", capacity=0)
    client_id = identity("client")
    for attempt in order:
        # What it has of the later one is not to be stopped.
        assert claim(agent, 1, attempt) == ([(1, 1)] if order == (2, 1) and attempt == 1 else [])
    if how == "result":
        agent.answer([(client_id, 1, 1)], m.Status.CANCELED, b"")
    else:
        agent.send(m.TaskReturn(client_id, [1], [1]))
    client = Client(harness, "client")
    client.define()
    client.submit(1, flags=m.TaskFlag.REANNOUNCED)
    agent.capacity = 9
    harness.advance(10)
    assert (agent.tasks(), stops(agent)) == ([], [])
    agent.answer([(client_id, 1, 2)])
    assert list(client.results()) == [1]


def test_so_has_a_task_that_its_client_did_not_announce_in_time() -> None:
    harness = Harness(recovery_grace_seconds=5, client_timeout_seconds=5)
    agent = Agent(harness, "agent", capacity=0)
    assert claim(agent, 1, 1) == []
    client = Client(harness, "client")
    client.define()
    harness.advance(60)
    assert stops(agent) == [(1, 1)]
    client.submit(1)
    agent.capacity = 1
    harness.advance(3)
    assert agent.tasks() == [(client.id, 1, 2)]


@pytest.mark.parametrize("refused_meanwhile", [False, True])
def test_the_agent_that_has_the_last_attempt_goes_on_with_it(refused_meanwhile: bool) -> None:
    harness, client = cluster()
    agent, late = Agent(harness, "agent"), Agent(harness, "late", capacity=0)
    (number,) = client.submit(1)
    assert agent.tasks() == [(client.id, number, 1)]
    if not refused_meanwhile:
        assert claim(late, number, 9) == [(number, 9)]
    harness.vanish(agent)
    harness.advance(120)
    if refused_meanwhile:
        assert claim(late, number, 9) == [(number, 9)]
    agent = Agent(harness, "agent", capacity=0)
    assert claim(agent, number, 1) == []
    agent.answer([(client.id, number, 1)])
    assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}


def test_so_does_one_whose_task_may_not_run_twice() -> None:
    harness, client = cluster()
    harness.core = SchedulerCore(
        SchedulerConfig(incarnation=identity("second"), recovery_grace_seconds=200), harness.now
    )
    harness.advance(3)
    client.define()
    one, other = Agent(harness, "one", capacity=0), Agent(harness, "other", capacity=0)
    assert claim(one, 1, 1) == []
    assert claim(other, 1, 2) == [(1, 2)]
    harness.vanish(one)
    harness.advance(1)
    one = Agent(harness, "one", capacity=0)
    client.submit(1, flags=m.TaskFlag.REANNOUNCED, options=ONCE)
    assert claim(one, 1, 1) == []
    one.answer([(client.id, 1, 1)])
    assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}


def test_numbers_begin_again_behind_the_highest() -> None:
    harness, client = cluster()
    other = Agent(harness, "other", capacity=1)
    (number,) = client.submit(1)
    claim(Agent(harness, "late", capacity=0), number, ATTEMPT_MAX - 1)
    given = []
    for _ in range(4):
        ((_, _, attempt),) = other.tasks()
        given.append(attempt)
        other.send(m.TaskReturn(client.id, [number], [attempt]))
    assert given == [1, ATTEMPT_MAX, 1, 2]


def test_what_is_remembered_has_a_bound() -> None:
    harness, client = cluster()
    harness.checks_each_step = False
    late = Agent(harness, "late", capacity=0)
    (number,) = client.submit(1)
    several = range(1000, 1000 + REFUSED_MAX)
    late.send(m.Inventory(client.id, list(several), [5] * REFUSED_MAX, [1] * REFUSED_MAX))
    stops(late)
    assert claim(late, number, 5) == [(number, 5)]
    late.send(m.Inventory(client.id, list(several[1:]), [5] * (REFUSED_MAX - 1), [1] * (REFUSED_MAX - 1)))
    assert len(harness.core._state.clients[client.id].refused) == REFUSED_MAX
    agent = Agent(harness, "agent", capacity=1)
    assert agent.tasks() == [(client.id, number, 6)]
