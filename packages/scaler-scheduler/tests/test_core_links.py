"""Tasks that have results of earlier tasks of their client as arguments."""

from __future__ import annotations

import pytest
from harness import FUNCTION, Agent, Client, Harness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed

OBJECT = b"o" * 16


def link(client: Client, *earlier: int, **options: object) -> int:
    """Submit a task that needs these."""
    number = client.next_number
    client.next_number += 1
    client.send(
        m.GraphSubmit(
            client.id,
            number,
            (FUNCTION,),
            Packed.of([b"P%d" % number]),
            [len(earlier)],
            list(range(1, 1 + len(earlier))),
            [0],
            earlier=list(earlier),
            **options,  # type: ignore[arg-type]
        )
    )
    return number


@pytest.fixture
def harness() -> Harness:
    return Harness()


def cluster(harness: Harness, capacity: int = 10) -> tuple[Client, Agent]:
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=capacity)
    client.define()
    return client, agent


def numbers(tasks: list[tuple[bytes, int, int]]) -> list[int]:
    return [number for _, number, _ in tasks]


def graphs(harness: Harness, client: Client) -> list[object]:
    found: list[object] = harness.seen(client)["graphs"]
    return found


def test_the_result_goes_to_the_client_and_to_those_that_need_it(harness: Harness) -> None:
    client, agent = cluster(harness)
    one, two = client.submit(2)
    tasks = agent.tasks()
    three = link(client, two, one)
    four = link(client, three)
    assert agent.tasks() == []
    agent.answer(tasks[:1], payload=b"Pone")
    assert client.results() == {one: (0, b"Pone")}
    agent.answer(tasks[1:], payload=b"Ptwo")
    (batch,) = agent.take(m.TaskBatch)
    # What nothing can run beside goes along.
    assert list(batch.numbers) == [three, four]
    assert batch.inputs.split() == [b"Ptwo", b"Pone", b""]
    agent.answer([(client.id, three, 1), (client.id, four, 1)])
    assert set(client.results()) == {two, three, four}
    assert graphs(harness, client) == []


def test_what_was_answered_just_now_is_still_known(harness: Harness) -> None:
    client, agent = cluster(harness)
    (one,) = client.submit(1)
    two = link(client, one)
    agent.run_all()
    assert set(client.results()) == {one, two}
    for _ in range(3):
        three = link(client, two)
        (batch,) = agent.take(m.TaskBatch)
        assert batch.inputs.split() == [b"Presult"]
        agent.answer([(client.id, three, 1)])
        assert set(client.results()) == {three}
        assert graphs(harness, client) == []
    four = link(client, two, 77)
    assert client.results()[four][0] == m.Status.SKIPPED
    assert graphs(harness, client) == []


def test_answers_are_forgotten_when_they_have_arrived(harness: Harness) -> None:
    client, agent = cluster(harness)
    one, two = client.submit(2)
    three = link(client, one)
    agent.answer(agent.tasks())
    agent.answer(agent.tasks())
    assert set(client.results()) == {one, two, three}
    harness.advance(2)
    four = link(client, two)
    assert {number: status for number, (status, _) in client.results().items()} == {four: m.Status.SKIPPED}
    assert graphs(harness, client) == []


@pytest.mark.parametrize("is_known", [True, False])
def test_the_values_of_tasks_that_are_over_are_asked_for(harness: Harness, is_known: bool) -> None:
    client, agent = cluster(harness)
    (one,) = client.submit(1)
    if is_known:
        agent.answer(agent.tasks())
        client.results()
    else:
        one = 77
    (two,) = client.submit(1)
    three = link(client, two, one)
    assert client.results() == {three: (m.Status.SKIPPED, one.to_bytes(8, "little"))}
    agent.answer(agent.tasks())
    assert two in client.results()
    assert graphs(harness, client) == []


def test_a_failure_ends_all_that_need_it(harness: Harness) -> None:
    client, agent = cluster(harness)
    one, other = client.submit(2)
    two = link(client, one)
    three = link(client, two, other)
    tasks = agent.tasks()
    agent.answer(tasks[:1], m.Status.FAILED, b"Pboom")
    assert client.results() == dict.fromkeys((one, two, three), (m.Status.FAILED, b"Pboom"))
    four = link(client, three)
    assert client.results()[four][0] == m.Status.SKIPPED
    agent.answer(tasks[1:])
    assert set(client.results()) == {other}
    assert graphs(harness, client) == []


@pytest.mark.parametrize("is_running", [True, False])
def test_a_cancellation_ends_all_that_need_it(harness: Harness, is_running: bool) -> None:
    client, agent = cluster(harness)
    (one,) = client.submit(1)
    tasks = agent.tasks()
    two = link(client, one)
    three = link(client, two)
    client.send(m.TaskCancel(client.id, [one if is_running else two]))
    if is_running:
        agent.answer(tasks, m.Status.CANCELED, b"")
    ended = dict.fromkeys((one, two, three) if is_running else (two, three), (m.Status.CANCELED, b""))
    assert client.results() == ended
    if not is_running:
        agent.answer(tasks)
        assert set(client.results()) == {one}
    assert graphs(harness, client) == []
    assert agent.tasks() == []


def test_a_large_result_stays_until_all_have_read_it(harness: Harness) -> None:
    client, agent = cluster(harness)
    (one,) = client.submit(1)
    tasks = agent.tasks()
    two, three = link(client, one), link(client, one)
    payload = b"O" + OBJECT
    agent.answer(tasks, payload=payload, object_positions=[0], objects=(OBJECT,))
    assert client.results() == {}
    tasks = agent.tasks()
    assert numbers(tasks) == [two, three]
    # It is done, and still there for those that come now.
    four = link(client, one)
    tasks += agent.tasks()
    agent.answer(tasks[:2])
    assert set(client.results()) == {two, three}
    agent.answer(tasks[2:])
    assert client.results() == {four: (0, b"Presult"), one: (0, payload)}
    assert graphs(harness, client) == []
    assert not any(isinstance(message, m.ObjectDelete) for message in harness.to_store())


def test_options_may_differ(harness: Harness) -> None:
    client, agent = cluster(harness)
    gpu = Agent(harness, "gpu", capacity=10, capabilities=(("gpu", -1),))
    (one,) = client.submit(1)
    link(client, one, depth=1)
    two = link(client, one, capabilities=(("gpu", -1),), depth=3)
    answered: list[int] = []
    for _ in range(3):
        for each in (agent, gpu):
            tasks = each.tasks()
            answered += numbers(tasks)
            each.answer(tasks)
    assert sorted(answered) == [one, one + 1, two]
    assert graphs(harness, client) == []


def test_the_death_of_an_agent_and_of_the_client(harness: Harness) -> None:
    client, agent = cluster(harness)
    (one,) = client.submit(1)
    two = link(client, one)
    three = link(client, two)
    harness.vanish(agent)
    other = Agent(harness, "other", capacity=10)
    harness.advance(120.0)
    assert set(other.run_all()) <= {one, two, three}
    left = Client(harness, "another")
    left.define()
    (needed,) = left.submit(1)
    link(left, needed)
    harness.vanish(left)
    harness.advance(200.0)


def test_rows_of_a_submitted_graph_may_need_earlier_tasks(harness: Harness) -> None:
    client, agent = cluster(harness)
    (one,) = client.submit(1)
    first = client.next_number
    client.next_number += 3
    client.send(
        m.GraphSubmit(
            client.id,
            first,
            (FUNCTION,),
            Packed.of([b"P1", b"P2", b"P3"]),
            [0, 2, 1],
            [0, 3, 1],
            [2],
            earlier=[one],
        )
    )
    order = agent.run_all()
    assert sorted(order[:2]) == [one, first]
    assert order[2:] == [first + 1, first + 2]
    assert set(client.results()) == {one, first + 2}
    assert graphs(harness, client) == []
