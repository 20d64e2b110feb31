"""What monitors that draw a graph are sent, and what they are told of graphs that have ended."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from harness import FUNCTION, Agent, Client, Harness

from scaler_protocol.monitoring.topics import FIGURES, drawn_graph, graph_topic
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Frame
from scaler_scheduler.core import effects, events, graph_view
from scaler_scheduler.core.graph_log import ENDED_KEPT
from scaler_scheduler.monitor_feed import GRAPH_ROWS_PER_SECOND, MonitorFeed, RecentLog


def running() -> tuple[Harness, Client, Agent]:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2, capacity=10_000)
    client.define()
    return harness, client, agent


def submit(client: Client, needs: Sequence[Sequence[int]], first: int = 1) -> None:
    dependencies = [one for own in needs for one in own]
    payloads = Packed.of([b"P"] * len(needs))
    client.send(
        m.GraphSubmit(client.id, first, (FUNCTION,), payloads, list(map(len, needs)), dependencies, [len(needs) - 1])
    )


def view(harness: Harness, client: Client, first: int = 1) -> m.MonitorGraph | None:
    made = harness.core.view_graph(client.id, first, 7.5)
    if made is None:
        return None
    # As it arrives.
    told = decode(encode(made))
    assert isinstance(told, m.MonitorGraph)
    return told


def snapshot(harness: Harness, seconds: float = 1.1) -> m.MonitorSnapshot:
    harness.now += seconds
    harness.core.handle(events.Tick(1.0, 2, 2, 5000.0 + harness.now, events=True), harness.now)
    harness.settle()
    told = [one.message for one in harness.other_effects if isinstance(one, effects.Publish)]
    harness.other_effects.clear()
    return next(one for one in told if isinstance(one, m.MonitorSnapshot))


def test_rows_have_their_state_and_what_they_need() -> None:
    harness, client, agent = running()
    submit(client, [[], [], [0, 1], [2]])
    agent.answer(agent.tasks()[:1])
    made = view(harness, client)
    assert made is not None
    assert (list(made.states), list(made.dependency_ends), list(made.dependencies)) == (
        [2, 1, 0, 0],
        [0, 0, 2, 3],
        [0, 1, 2],
    )
    assert (made.row_count, made.time_seconds, list(made.functions)) == (4, 7.5, [0] * 4)
    assert len(made.function_table) == 1


def test_there_is_nothing_to_draw_of_graphs_that_are_over_or_never_were() -> None:
    harness, client, agent = running()
    submit(client, [[]])
    assert view(harness, client, 2) is None
    agent.answer(agent.tasks())
    assert view(harness, client) is None
    assert harness.core.view_graph(b"nobody..........", 1, 0.0) is None


def test_large_graphs_are_sent_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    harness, client, _ = running()
    submit(client, [[row - 1] if row else [] for row in range(100)])
    monkeypatch.setattr(graph_view, "ROWS_MAX", 30)
    made = view(harness, client)
    assert made is not None
    assert (len(made.states), len(made.dependencies), made.row_count) == (30, 29, 100)
    monkeypatch.setattr(graph_view, "DEPENDENCIES_MAX", 10)
    made = view(harness, client)
    assert made is not None
    assert (len(made.states), len(made.dependencies), len(made.functions)) == (11, 10, 11)


def test_ended_graphs_are_told_with_how_long_they_took() -> None:
    harness, client, agent = running()
    submit(client, [[], [0]])
    (graph,) = snapshot(harness).graphs
    assert graph.ended_seconds == 0.0
    began = graph.began_seconds
    harness.now += 3.0
    for _ in range(2):
        agent.answer(agent.tasks())
    told = snapshot(harness)
    assert told.graphs == ()
    (ended,) = told.ended_graphs
    assert (ended.first_number, ended.rows, ended.done, ended.failed) == (1, 2, 2, 0)
    assert ended.began_seconds == pytest.approx(began)
    assert ended.ended_seconds - ended.began_seconds == pytest.approx(4.1)
    for number in range(ENDED_KEPT + 5):
        submit(client, [[]], 100 + number)
        agent.answer(agent.tasks())
    assert [one.first_number for one in snapshot(harness).ended_graphs] == list(range(105, 105 + ENDED_KEPT))


def test_a_graph_that_failed_says_so() -> None:
    harness, client, agent = running()
    submit(client, [[], [0], [1]])
    agent.answer(agent.tasks(), status=m.Status.FAILED)
    (ended,) = snapshot(harness).ended_graphs
    assert (ended.done, ended.failed) == (0, 3)


class Asked(Publisher):
    """Has subscriptions to these topics."""

    subscriptions_made = 1

    def __init__(self, *topics: bytes) -> None:
        self._asked = topics
        self.sent: list[bytes] = []

    def update_subscribers(self) -> int:
        return len(self._asked)

    def wanted(self, _first_frame: bytes) -> bool:
        return False

    def topics(self) -> list[bytes]:
        return list(self._asked)

    def send(self, frames: Sequence[Frame]) -> None:
        self.sent.append(bytes(frames[0]))


def test_rows_are_sent_only_to_who_asks_and_the_less_often_the_more_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    harness, client, _ = running()
    submit(client, [[] for _ in range(50)])
    topic = graph_topic(client.id, 1)
    assert drawn_graph(topic) == (client.id, 1)
    for asked, rows_per_second, expected in (
        ((FIGURES,), GRAPH_ROWS_PER_SECOND, 0),
        ((topic, graph_topic(client.id, 99)), GRAPH_ROWS_PER_SECOND, 10),
        ((topic,), 10, 2),
    ):
        monkeypatch.setattr("scaler_scheduler.monitor_feed.GRAPH_ROWS_PER_SECOND", rows_per_second)
        publisher = Asked(*asked)
        feed = MonitorFeed(publisher, RecentLog())
        for look in range(100):
            feed.update(look / 10)
            feed.publish_own(harness.core, look / 10, 0.0, joined=False)
        assert publisher.sent == [topic] * expected
