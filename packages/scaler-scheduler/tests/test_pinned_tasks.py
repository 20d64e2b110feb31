"""Tasks that only one worker may run, and the list of workers that clients make them from."""

from __future__ import annotations

import pytest
from harness import Agent, Client, Harness, identity

from scaler_protocol.capabilities import pin_to
from scaler_protocol.wire import messages as m


def workers_of(client: Client) -> list[tuple[bytes, int, str]]:
    client.send(m.WorkerListRequest())
    (answer,) = client.take(m.WorkerList)
    return list(zip(answer.agents, answer.slots, answer.names, strict=True))


def test_clients_are_told_the_workers_that_stay() -> None:
    harness = Harness()
    client = Client(harness, "client")
    assert workers_of(client) == []
    Agent(harness, "one", workers=2)
    leaving = Agent(harness, "two")
    assert workers_of(client) == [
        (identity("one"), 0, "one-0"),
        (identity("one"), 1, "one-1"),
        (identity("two"), 0, "two-0"),
    ]
    leaving.send(m.Drain())
    assert [name for _, _, name in workers_of(client)] == ["one-0", "one-1"]


@pytest.mark.parametrize("policy", ["capability", "even"])
def test_a_pinned_task_goes_to_its_agent_alone(policy: str) -> None:
    harness = Harness(allocate_policy=policy)
    client = Client(harness, "client")
    agents = [Agent(harness, name, workers=2, capacity=8) for name in ("one", "two", "three")]
    client.define()
    wanted = [client.submit(2, capabilities=pin_to(agent.id, 1)) for agent in agents]
    for agent, numbers in zip(agents, wanted, strict=True):
        batches = agent.take(m.TaskBatch)
        assert [number for batch in batches for number in batch.numbers] == numbers
        assert {batch.capabilities for batch in batches} == {pin_to(agent.id, 1)}
    assert client.take(m.Notice) == [], "nobody is told that capabilities are ignored"


def test_it_waits_for_room_at_its_agent() -> None:
    harness = Harness()
    client = Client(harness, "client")
    busy, idle = Agent(harness, "busy", capacity=1), Agent(harness, "idle", capacity=1)
    client.define()
    client.submit(1, capabilities=pin_to(busy.id, 0))
    held = busy.tasks()
    (number,) = client.submit(1, capabilities=pin_to(busy.id, 0))
    harness.advance(10)
    assert busy.tasks() == idle.tasks() == []
    assert client.results() == {}
    busy.answer(held)
    assert [each for _, each, _ in busy.tasks()] == [number]


@pytest.mark.parametrize("held", [True, False], ids=["at the agent", "waiting"])
def test_it_fails_soon_after_its_agent_is_gone(held: bool) -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=1)
    other = Agent(harness, "other", capacity=8)
    client.define()
    numbers = client.submit(2, capabilities=pin_to(agent.id, 0))
    agent.send(m.Goodbye("leaves"))
    if not held:
        numbers += client.submit(1, capabilities=pin_to(agent.id, 0))
    harness.advance(10)
    assert {number: status for number, (status, _) in client.results().items()} == dict.fromkeys(
        numbers, m.Status.WORKER_DIED
    )
    assert other.tasks() == []


def test_a_name_that_is_no_agent_s_is_nobody_s() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    client.submit(1, capabilities=(("@agent:no agent", 0),))
    harness.advance(10)
    assert agent.tasks() == []
    assert [status for status, _ in client.results().values()] == [m.Status.WORKER_DIED]


def test_others_do_not_wait_behind_it() -> None:
    harness = Harness()
    client = Client(harness, "client")
    busy, idle = Agent(harness, "busy", capacity=1), Agent(harness, "idle", capacity=1)
    client.define()
    client.submit(2, capabilities=pin_to(busy.id, 0))
    (number,) = client.submit(1)
    assert [each for _, each, _ in idle.tasks()] == [number]
