"""What monitors want to read of tasks' output is asked of the agents that may have it, and published once it is there."""

from __future__ import annotations

from typing import cast

import pytest
from harness import Agent, Client, Harness, identity

from scaler_protocol.monitoring.topics import ANY_CLIENT, OutputTopic, agent_log_topic, output_topic, topic_of
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.rules import TO_SCHEDULER, violation
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.output_questions import (
    AGAIN_SECONDS,
    ALL_AGAIN_SECONDS,
    ANSWER_SECONDS,
    ANSWERS_BYTES_MAX,
    QUESTIONS_MAX,
    SILENT_NAMED_MAX,
)
from scaler_scheduler.monitor_feed import MonitorFeed, RecentLog

TOPIC = OutputTopic(1, identity("client"))


def look(harness: Harness, *topics: OutputTopic, seconds: float = 0.5) -> list[m.MonitorOutput]:
    """Let time pass while these topics are subscribed to; return what is published."""
    harness.now += seconds
    harness.core.handle(events.Tick(monitors=len(topics), unix_time=5000.0, outputs=topics), harness.now)
    harness.settle()
    return published(harness)


def published(harness: Harness) -> list[m.MonitorOutput]:
    told = [effect.message for effect in harness.other_effects if isinstance(effect, effects.Publish)]
    harness.other_effects.clear()
    return [message for message in told if isinstance(message, m.MonitorOutput)]


def reply(agent: Agent, data: bytes) -> list[m.OutputRequest]:
    """Answer what the agent was asked; return it."""
    asked = agent.take(m.OutputRequest)
    for request in asked:
        agent.connection.send_plain(m.OutputReply(request.request, data))
    agent.harness.settle()
    return asked


def cluster(agents: int = 3) -> tuple[Harness, Client, list[Agent]]:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    return harness, client, [Agent(harness, f"agent{number}") for number in range(agents)]


def test_nobody_is_asked_while_nobody_wants_to_know() -> None:
    harness, client, agents = cluster()
    client.submit(3)
    look(harness)
    assert not any(agent.take(m.OutputRequest) for agent in agents)


def test_all_are_asked_first_and_then_those_that_had_something() -> None:
    harness, _, agents = cluster()
    look(harness, TOPIC)
    (request,) = reply(agents[0], b"{}")
    assert (request.number, request.client) == (1, identity("client"))
    reply(agents[1], b"")
    assert not published(harness)
    reply(agents[2], b"")
    (told,) = published(harness)
    assert (told.number, told.subject) == TOPIC
    assert (told.agents, told.payloads.split(), told.asked, told.silent) == (("agent0",), [b"{}"], 3, ())
    look(harness, TOPIC, seconds=AGAIN_SECONDS)
    assert [len(agent.take(m.OutputRequest)) for agent in agents] == [1, 0, 0]
    look(harness, TOPIC, seconds=ALL_AGAIN_SECONDS)
    look(harness, TOPIC, seconds=ANSWER_SECONDS)
    assert all(agent.take(m.OutputRequest) for agent in agents)


def test_who_holds_the_task_now_is_asked_too() -> None:
    harness, client, agents = cluster(2)
    for number in (1, 2):
        look(harness, OutputTopic(number, client.id))
        for agent in agents:
            reply(agent, b"")
    client.submit(1)
    (holder,) = [agent for agent in agents if agent.tasks()]
    look(harness, OutputTopic(1, ANY_CLIENT))
    for agent in agents:
        assert [request.client for request in reply(agent, b"")] == [b""]
    look(harness, OutputTopic(1, ANY_CLIENT), seconds=AGAIN_SECONDS)
    assert [bool(agent.take(m.OutputRequest)) for agent in agents] == [agent is holder for agent in agents]


def test_who_does_not_answer_is_named() -> None:
    harness, _, agents = cluster(3)
    look(harness, TOPIC)
    reply(agents[0], b"{}")
    agents[2].hears = False
    assert not look(harness, TOPIC)
    (told,) = look(harness, TOPIC, seconds=ANSWER_SECONDS)
    assert told.agents == ("agent0",)
    assert sorted(told.silent) == ["agent1", "agent2"]
    # An answer that comes now is late.
    reply(agents[1], b"{}")
    assert not published(harness)


def test_of_many_silent_agents_some_are_named() -> None:
    harness, _, agents = cluster(SILENT_NAMED_MAX + 3)
    look(harness, TOPIC)
    (told,) = look(harness, TOPIC, seconds=ANSWER_SECONDS)
    assert len(told.silent) == SILENT_NAMED_MAX
    assert told.asked == len(agents)


def test_an_agent_that_leaves_is_not_waited_for() -> None:
    harness, _, agents = cluster(2)
    look(harness, TOPIC)
    reply(agents[0], b"{}")
    agents[1].connection.close("it has ended")
    harness.settle()
    (told,) = look(harness, TOPIC)
    assert told.silent == ("agent1",)


def test_without_agents_the_answer_is_empty() -> None:
    harness, _, _ = cluster(0)
    (told,) = look(harness, TOPIC)
    assert (told.agents, told.asked) == ((), 0)
    assert not look(harness, TOPIC, seconds=AGAIN_SECONDS / 2)


def test_the_log_of_an_agent_is_asked_of_that_agent() -> None:
    harness, _, agents = cluster(2)
    look(harness, OutputTopic(0, agents[1].id))
    assert not agents[0].take(m.OutputRequest)
    (request,) = reply(agents[1], b"log")
    assert (request.number, request.client) == (0, b"")
    (told,) = published(harness)
    assert (told.number, told.subject, told.payloads.split()) == (0, agents[1].id, [b"log"])


def test_answers_that_nobody_has_asked_for_are_dropped() -> None:
    harness, _, agents = cluster(2)
    agents[0].connection.send_plain(m.OutputReply(1, b"unasked"))
    harness.settle()
    look(harness, TOPIC)
    (request,) = agents[0].take(m.OutputRequest)
    for _ in range(3):
        agents[0].connection.send_plain(m.OutputReply(request.request, b"once"))
    agents[0].connection.send_plain(m.OutputReply(request.request + 1, b"another"))
    harness.settle()
    reply(agents[1], b"")
    (told,) = published(harness)
    assert told.payloads.split() == [b"once"]


def test_the_end_of_a_subscription_ends_the_question() -> None:
    harness, _, agents = cluster(1)
    look(harness, TOPIC)
    look(harness)
    reply(agents[0], b"{}")
    assert not published(harness)


def test_questions_and_answers_are_bounded() -> None:
    harness, _, agents = cluster(3)
    topics = [OutputTopic(number, ANY_CLIENT) for number in range(1, 3 * QUESTIONS_MAX)]
    look(harness, *topics)
    assert len(agents[0].take(m.OutputRequest)) == QUESTIONS_MAX
    harness, _, agents = cluster(3)
    look(harness, TOPIC)
    for agent in agents:
        reply(agent, bytes(ANSWERS_BYTES_MAX // 2))
    (told,) = published(harness)
    assert (len(told.agents), told.omitted) == (2, 1)
    # The next round has room again, and a small answer finds some behind one that was too large.
    look(harness, TOPIC, seconds=AGAIN_SECONDS)
    for agent, size in zip(agents, (ANSWERS_BYTES_MAX - 100, 101, 100), strict=True):
        reply(agent, bytes(size))
    (told,) = published(harness)
    assert (told.agents, told.omitted) == (("agent0", "agent2"), 1)


def test_topics_name_what_is_wanted() -> None:
    for wanted in (OutputTopic(7, identity("client")), OutputTopic(7, ANY_CLIENT), OutputTopic(0, identity("agent"))):
        assert output_topic(topic_of(wanted)) == wanted
    for other in (
        b"",
        b"\0" * 48,
        topic_of(TOPIC)[:-1],
        topic_of(TOPIC) + b"\0",
        b"\1" + agent_log_topic(b"a" * 16)[1:],
    ):
        assert output_topic(other) is None or output_topic(other) != TOPIC


class SubscribedPublisher:
    """A publisher with one subscription."""

    subscriptions_made = 1

    def update_subscribers(self) -> int:
        return 1

    def topics(self) -> list[bytes]:
        return [topic_of(TOPIC)]

    def wanted(self, _first_frame: bytes) -> bool:
        return False


def test_a_subscription_to_an_output_is_the_wish_to_read_it() -> None:
    feed = MonitorFeed(cast(Publisher, SubscribedPublisher()), RecentLog())
    assert feed.outputs() == ()
    assert feed.update(0.0)[0] == 1
    assert feed.outputs() == (TOPIC,)


@pytest.mark.parametrize(
    ("role", "may"), [(KeyRole.WORKER, True), (KeyRole.CLIENT, False), (KeyRole.MONITOR, False)], ids=str
)
def test_only_workers_may_answer(role: KeyRole, may: bool) -> None:
    fault = violation(role, TO_SCHEDULER[role], b"i" * 16, m.OutputReply(1, b""))
    assert (fault is None) == may
