"""Tasks that have results of earlier ones as arguments, after a restart of the scheduler."""

from __future__ import annotations

import pytest
from harness import Agent, Client, Harness, identity
from test_core_links import graphs, link, numbers

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import SchedulerConfig, SchedulerCore

AGAIN = m.TaskFlag.REANNOUNCED
GRACE = 7.0


@pytest.fixture
def harness() -> Harness:
    return Harness()


@pytest.fixture
def agent(harness: Harness) -> Agent:
    """One that was there before."""
    return Agent(harness, "agent", capacity=10)


def client_with(harness: Harness) -> Client:
    client = Client(harness, "client")
    client.define()
    return client


def claim(agent: Agent, number: int, attempt: int = 1) -> None:
    agent.send(m.Inventory(identity("client"), [number], [attempt], [1]))


def stops(agent: Agent) -> list[tuple[int, int]]:
    return [
        (number, attempt)
        for one in agent.take(m.TaskCancel)
        for number, attempt in zip(one.numbers, one.attempts, strict=True)
    ]


@pytest.mark.parametrize("is_late", [False, True])
def test_what_an_agent_has_goes_on_there(harness: Harness, agent: Agent, is_late: bool) -> None:
    # 50 was answered before the restart: its value is the client's.
    if not is_late:
        claim(agent, 1)
    client = client_with(harness)
    if is_late:
        harness.core = SchedulerCore(
            SchedulerConfig(incarnation=identity("second"), recovery_grace_seconds=8), harness.now
        )
        harness.advance(3)
        client.define()
    one = link(client, 50, flags=AGAIN)
    two = link(client, one, flags=AGAIN)
    if is_late:
        claim(agent, 1)
    assert (agent.tasks(), stops(agent), client.results()) == ([], [], {})
    agent.answer([(client.id, one, 1)], payload=b"Pone")
    assert client.results() == {one: (0, b"Pone")}
    harness.advance(GRACE)
    (batch,) = agent.take(m.TaskBatch)
    assert (list(batch.numbers), batch.inputs.split()) == ([two], [b"Pone"])
    agent.answer([(client.id, two, 1)])
    assert set(client.results()) == {two}
    assert graphs(harness, client) == []


def test_a_result_that_came_before_its_client_counts(harness: Harness, agent: Agent) -> None:
    claim(agent, 1)
    agent.answer([(identity("client"), 1, 1)], payload=b"Pone")
    client = client_with(harness)
    one = link(client, 50, flags=AGAIN)
    two = link(client, one)
    assert client.results() == {one: (0, b"Pone")}
    (batch,) = agent.take(m.TaskBatch)
    assert (list(batch.numbers), batch.inputs.split()) == ([two], [b"Pone"])
    agent.answer([(client.id, two, 1)])
    assert set(client.results()) == {two}
    assert graphs(harness, client) == []


def test_what_nobody_claims_begins_when_nobody_can_any_more(harness: Harness, agent: Agent) -> None:
    client = client_with(harness)
    (one,) = client.submit(1, flags=AGAIN)
    two = link(client, one, flags=AGAIN)
    three = link(client, 50, flags=AGAIN)
    four = link(client, two)
    harness.advance(GRACE - 2)
    assert (agent.tasks(), client.results()) == ([], {})
    harness.advance(GRACE)
    assert client.results() == {three: (m.Status.SKIPPED, (50).to_bytes(8, "little"))}
    assert agent.run_all() == [one, two, four]
    assert set(client.results()) == {one, two, four}
    assert graphs(harness, client) == []


@pytest.mark.parametrize("dies", [True, False])
def test_what_comes_back_is_the_client_s_to_submit_with_the_values(harness: Harness, agent: Agent, dies: bool) -> None:
    claim(agent, 1)
    client = client_with(harness)
    one = link(client, 50, 51, flags=AGAIN)
    two = link(client, one)
    if dies:
        agent.answer([(client.id, one, 1)], m.Status.PROCESSOR_DIED, b"dead")
    else:
        agent.send(m.TaskReturn(client.id, [one], [1]))
    asked = (50).to_bytes(8, "little") + (51).to_bytes(8, "little")
    assert client.results() == dict.fromkeys((one, two), (m.Status.SKIPPED, asked))
    assert graphs(harness, client) == []


def test_one_that_is_cancelled_while_it_waits_is_stopped(harness: Harness, agent: Agent) -> None:
    client = client_with(harness)
    one = link(client, 50, flags=AGAIN)
    two = link(client, one, flags=AGAIN)
    client.send(m.TaskCancel(client.id, [one]))
    assert client.results() == {one: (m.Status.CANCELED, b"")}
    harness.advance(GRACE)
    assert client.results()[two][0] == m.Status.SKIPPED
    harness.vanish(client)
    harness.advance(200.0)
    assert numbers(agent.tasks()) == []


def test_rows_with_others_run_anew_and_the_old_ones_are_stopped(harness: Harness, agent: Agent) -> None:
    claim(agent, 1)
    claim(agent, 2, 3)
    client = client_with(harness)
    needed = client.next_number = 20
    client.submit(1)
    agent.answer(agent.tasks(), payload=b"Pneeded")
    client.send(
        m.GraphSubmit(
            client.id,
            1,
            client.batch(1).functions,
            Packed.of([b"P1", b"P2"]),
            [0, 2],
            [0, 2],
            [1],
            earlier=[needed],
            flags=AGAIN,
        )
    )
    harness.advance(GRACE)
    assert sorted(stops(agent)) == [(1, 1), (2, 3)]
    tasks = agent.tasks()
    assert {(number, attempt) for _, number, attempt in tasks if number < needed} <= {(1, 4), (2, 4)}
    agent.answer(tasks)
    agent.run_all()
    assert set(client.results()) == {2, needed}
    assert graphs(harness, client) == []
