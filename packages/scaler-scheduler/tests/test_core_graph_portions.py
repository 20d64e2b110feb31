"""Graphs that come in portions, and begin a little at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from harness import FUNCTION, Agent, Client, Harness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import effects, graph_arrival, graph_rows, graphs

FIRST = 100
"""The number of row 0."""


def portion(
    client: Client,
    needed: Sequence[Sequence[int]],
    wanted: Sequence[int] = (),
    *,
    row: int = 0,
    of: int = 0,
    first: int = FIRST,
    flags: int = 0,
) -> m.GraphSubmit:
    """Rows from `row` on of a graph of `of` rows; `wanted` among these."""
    return m.GraphSubmit(
        client.id,
        first,
        (FUNCTION,),
        Packed.of([b"P%d" % (row + here) for here in range(len(needed))]),
        [len(one) for one in needed],
        [dependency for one in needed for dependency in one],
        wanted,
        first_row=row,
        row_count=of,
        flags=flags,
    )


@pytest.fixture
def harness() -> Harness:
    return Harness()


@pytest.fixture
def client(harness: Harness) -> Client:
    client = Client(harness, "client")
    client.define()
    return client


@pytest.fixture
def agent(harness: Harness, client: Client) -> Agent:
    return Agent(harness, "agent", capacity=10)


def numbers(agent: Agent) -> list[int]:
    return sorted(number for _, number, _ in agent.tasks())


def test_a_graph_begins_with_its_last_portion(client: Client, agent: Agent, harness: Harness) -> None:
    client.send(portion(client, [[], [3]], of=5))
    client.send(portion(client, [[0, 1], []], row=2, of=5))
    assert numbers(agent) == []
    (described,) = harness.seen(client)["graphs_arriving"]
    assert described == {"first_number": FIRST, "rows": 5, "rows_here": 4}
    client.send(portion(client, [[2]], [0], row=4, of=5))
    assert harness.seen(client)["graphs_arriving"] == []
    agent.run_all()
    assert client.results() == {FIRST + 4: (m.Status.SUCCESS, b"Presult")}
    assert harness.seen(client)["graphs"] == []


@pytest.mark.parametrize(
    ("row", "of", "first"), [(1, 5, FIRST), (3, 5, FIRST), (2, 6, FIRST), (2, 5, FIRST + 1)], ids=str
)
def test_a_portion_that_does_not_follow_ends_the_session(
    client: Client, agent: Agent, harness: Harness, row: int, of: int, first: int
) -> None:
    client.send(portion(client, [[], []], of=5))
    client.send(portion(client, [[0]], row=row, of=of, first=first))
    assert [one.peer for one in harness.other_effects if isinstance(one, effects.Disconnect)] == [client.peer]


def test_the_first_portion_may_not_be_missing(client: Client, agent: Agent, harness: Harness) -> None:
    client.send(portion(client, [[0]], row=1, of=2))
    assert [one.peer for one in harness.other_effects if isinstance(one, effects.Disconnect)] == [client.peer]


def test_another_graph_takes_the_place_of_one_that_is_not_there(client: Client, agent: Agent, harness: Harness) -> None:
    client.send(portion(client, [[], []], [1], of=5))
    client.send(portion(client, [[]], [0], first=FIRST + 50))
    assert agent.run_all() == [FIRST + 50]
    assert list(client.results()) == [FIRST + 50]
    assert harness.seen(client)["graphs_arriving"] == []


def test_rows_cancelled_between_portions_are_answered_at_once(client: Client, agent: Agent) -> None:
    client.send(portion(client, [[], [0], []], [0, 1, 2], of=4))
    client.send(m.TaskCancel(client.id, [FIRST]))
    assert client.results() == {FIRST: (m.Status.CANCELED, b"")}
    client.received.clear()
    client.send(portion(client, [[1]], [0], row=3, of=4))
    agent.run_all()
    results = client.results()
    assert {number: status for number, (status, _) in results.items()} == {
        FIRST + 1: m.Status.CANCELED,
        FIRST + 2: m.Status.SUCCESS,
        FIRST + 3: m.Status.CANCELED,
    }


def test_a_client_that_leaves_between_portions_leaves_nothing(client: Client, agent: Agent, harness: Harness) -> None:
    client.send(portion(client, [[], []], [1], of=5))
    client.send(m.Goodbye("done"))
    assert harness.core.snapshot(harness.now)["clients"] == []


def test_a_large_graph_begins_in_many_turns(
    client: Client, agent: Agent, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_rows, "WORK_PER_TURN", 1)
    monkeypatch.setattr(graph_rows, "ROOT_ROWS", 5)
    other = Client(harness, "other")
    other.define()
    rows = 60
    harness.core.check_invariants()
    client.connection.send(portion(client, [[]] * rows, list(range(rows))))
    client.connection.send(m.TaskCancel(client.id, [FIRST + rows - 1]))
    other.submit()
    harness.settle()
    agent.capacity = 100
    agent.run_all()
    assert len(other.results()) == 1
    results = client.results()
    assert results.pop(FIRST + rows - 1)[0] == m.Status.CANCELED
    assert sorted(results) == list(range(FIRST, FIRST + rows - 1))


@pytest.mark.parametrize("canceled", [[2, 6], [6], [0, 1, 2, 3, 4, 5, 6]])
def test_rows_may_be_cancelled_at_any_moment_while_their_graph_begins(
    monkeypatch: pytest.MonkeyPatch, canceled: list[int]
) -> None:
    for steps in (graph_arrival, graphs):
        monkeypatch.setattr(steps, "STEP_ROWS", 1)
    for limit in ("WORK_PER_TURN", "FAILING_PER_TURN", "ROOT_ROWS"):
        monkeypatch.setattr(graph_rows, limit, 1)
    for turns in range(70):
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        agent = Agent(harness, "agent", capacity=10)
        client.connection.send(portion(client, [[], [0], [0, 1], [0, 2], [1, 3], [1, 4], [5]], [2, 6]))
        is_over = not any([harness.turn() for _ in range(turns)][-1:])
        client.connection.send(m.TaskCancel(client.id, [FIRST + row for row in canceled]))
        harness.settle()
        agent.run_all()
        results = client.results()
        assert sorted(results) == [FIRST + 2, FIRST + 6]
        # It needs all others.
        assert results[FIRST + 6][0] == m.Status.CANCELED
        assert (results[FIRST + 2][0] == m.Status.SUCCESS) == (canceled == [6])
        assert harness.seen(client)["graphs"] == []
    assert is_over


def test_a_client_that_leaves_while_its_graph_begins(
    client: Client, agent: Agent, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_rows, "WORK_PER_TURN", 1)
    client.connection.send(portion(client, [[]] * 5000, [0]))
    client.connection.send(m.Goodbye("done"))
    harness.settle()
    assert harness.core.snapshot(harness.now)["clients"] == []
    assert not harness.core.has_more
