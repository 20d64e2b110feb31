"""The only ready task lies beside the queues until somebody looks at them: nothing else may tell the difference."""

from __future__ import annotations

import pytest
from harness import Agent, Client, Harness

from scaler_protocol.wire import messages as m


def submitted(harness: Harness, client: Client, batches: int) -> list[int]:
    """Single-task batches that arrive together, before any placement."""
    numbers: list[int] = []
    for _ in range(batches):
        batch = client.batch(1)
        client.connection.send(batch)
        numbers += batch.numbers
    return numbers


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_batches_that_arrive_together_leave_together(batches: int) -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    numbers = submitted(harness, client, batches)
    harness.settle()
    (batch,) = agent.take(m.TaskBatch)
    assert list(batch.numbers) == numbers
    assert harness.count("ready") == 0


def test_without_room_it_waits_its_turn_in_a_queue() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    first = client.submit()
    assert harness.count("ready") == 1
    second = client.submit()
    agent = Agent(harness, "agent", capacity=10)
    assert [number for _, number, _ in agent.tasks()] == first + second


def test_it_can_be_cancelled_before_it_is_placed() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    (number,) = submitted(harness, client, 1)
    client.connection.send(m.TaskCancel(client.id, [number]))
    harness.settle()
    assert client.results() == {number: (m.Status.CANCELED, b"")}
    assert agent.tasks() == []
    harness.core.check_invariants()


def test_it_goes_with_its_client() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    submitted(harness, client, 1)
    client.connection.close("done")
    harness.settle()
    assert agent.tasks() == []
    assert harness.count("ready") == 0
    harness.core.check_invariants()


def test_it_goes_to_the_least_loaded_agent_that_may_run_it() -> None:
    harness = Harness(allocate_policy="capability")
    client = Client(harness, "client")
    agents = [Agent(harness, name, capacity=10, capabilities=(("gpu", -1),)) for name in ("one", "other")]
    plain = Agent(harness, "plain", capacity=10)
    client.define()
    client.submit(1, capabilities=(("gpu", -1),))
    client.submit(1, capabilities=(("gpu", -1),))
    assert [len(agent.tasks()) for agent in agents] == [1, 1]
    assert plain.tasks() == []
