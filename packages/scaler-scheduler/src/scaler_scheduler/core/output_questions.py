"""What monitors want to read of the output of tasks, and of the logs of agents: asked of the agents, which keep it.

A subscription is the question. It is asked again every few seconds while it lasts. The scheduler does not remember who ran a
task, so the first round asks all agents; the next ones ask those that had something, and who holds the task now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaler_protocol.monitoring.topics import ANY_CLIENT, OutputTopic
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import effects
from scaler_scheduler.core.records import AgentRecord
from scaler_scheduler.core.sessions import Handler
from scaler_scheduler.core.state import SchedulerState

QUESTIONS_MAX = 16
"""Questions that are asked at once; further subscriptions wait until others end."""

AGENTS_MAX = 1_000
"""Agents that one round asks."""

AGAIN_SECONDS = 2.0
"""Least time between two rounds of one question."""

ALL_AGAIN_SECONDS = 30.0
"""After so long all agents are asked again."""

ANSWER_SECONDS = 3.0
"""How long a round waits for answers."""

SILENT_NAMED_MAX = 16

ANSWERS_BYTES_MAX = 1024 * 1024
"""Most bytes of answers in one publication. The first one has room in any case."""


class _Question:
    """One subscription, and the round of asking that is under way."""

    def __init__(self) -> None:
        self.request = 0
        """Tells the answers of this round from earlier ones; 0: no round is under way."""
        self.until = 0.0
        self.next_round_at = 0.0
        self.all_asked_at = float("-inf")
        self.unanswered: dict[bytes, str] = {}
        """Agents that have not answered, with their names."""
        self.asked = 0
        self.answers: list[tuple[str, bytes]] = []
        self.size_bytes = 0
        """Of these answers."""
        self.omitted = 0
        """Answers for which there was no room."""
        self.sources: set[bytes] = set()
        """Agents that had something."""
        self.silent: list[str] = []

    def add(self, agent: str, data: bytes) -> None:
        """Keep an answer, if there is room for it."""
        if self.answers and self.size_bytes + len(data) > ANSWERS_BYTES_MAX:
            self.omitted += 1
            return
        self.answers.append((agent, bytes(data)))
        self.size_bytes += len(data)

    def forget_answers(self) -> None:
        """They were published."""
        self.answers = []
        self.size_bytes = self.omitted = 0


class OutputQuestions:
    """Asks agents for what monitors have subscribed to, and publishes what they answer."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._questions: dict[OutputTopic, _Question] = {}
        self._by_request: dict[int, OutputTopic] = {}
        self._requests = 0
        self._unix_offset = 0.0
        self.handlers: Mapping[type[Any], Handler[AgentRecord]] = {m.OutputReply: self._on_reply}

    def look(self, wanted: tuple[OutputTopic, ...], now: float, unix_time: float) -> None:
        """Take in what is wanted now; begin rounds that are due, and end those that have waited long enough."""
        if not wanted and not self._questions:
            return
        self._unix_offset = unix_time - now
        wanted = wanted[:QUESTIONS_MAX]
        for topic in [topic for topic in self._questions if topic not in wanted]:
            self._by_request.pop(self._questions.pop(topic).request, None)
        for topic in wanted:
            question = self._questions.setdefault(topic, _Question())
            if question.request:
                self._note_departed(question)
                if not question.unanswered or now >= question.until:
                    self._end_round(topic, question, now)
            elif now >= question.next_round_at:
                self._begin_round(topic, question, now)

    def _begin_round(self, topic: OutputTopic, question: _Question, now: float) -> None:
        agents = self._whom_to_ask(topic, question, now)
        self._requests += 1
        question.request, question.until = self._requests, now + ANSWER_SECONDS
        question.next_round_at = now + AGAIN_SECONDS
        question.unanswered = {agent.peer: agent.name for agent in agents}
        question.asked, question.silent = len(agents), []
        self._by_request[self._requests] = topic
        client = topic.subject if topic.number and topic.subject != ANY_CLIENT else b""
        for agent in agents:
            self._state.outbox.send_plain(agent, m.OutputRequest(self._requests, topic.number, client))
        if not agents:
            self._end_round(topic, question, now)

    def _whom_to_ask(self, topic: OutputTopic, question: _Question, now: float) -> list[AgentRecord]:
        agents = self._state.agents.by_peer
        if not topic.number:
            return [agent for agent in agents.values() if agent.id == topic.subject]
        if now >= question.all_asked_at + ALL_AGAIN_SECONDS:
            question.all_asked_at = now
            return list(agents.values())[:AGENTS_MAX]
        asked = {peer: agents[peer] for peer in question.sources if peer in agents}
        clients = self._state.clients
        if topic.subject == ANY_CLIENT:
            holders = [client.tasks.get(topic.number) for client in clients.values()]
        else:
            client = clients.get(topic.subject)
            holders = [client.tasks.get(topic.number) if client is not None else None]
        for task in holders:
            if task is not None and task.agent is not None:
                asked[task.agent.peer] = task.agent
        return list(asked.values())[:AGENTS_MAX]

    def _on_reply(self, agent: AgentRecord, message: m.OutputReply, now: float) -> None:
        topic = self._by_request.get(message.request)
        question = self._questions.get(topic) if topic is not None else None
        if topic is None or question is None or question.unanswered.pop(agent.peer, None) is None:
            # It is late, or nobody has asked for it.
            return
        if message.data:
            question.sources.add(agent.peer)
            question.add(agent.name, message.data)
        if not question.unanswered:
            self._end_round(topic, question, now)

    def _note_departed(self, question: _Question) -> None:
        agents = self._state.agents.by_peer
        for peer in [peer for peer in question.unanswered if peer not in agents]:
            question.silent.append(question.unanswered.pop(peer))

    def _end_round(self, topic: OutputTopic, question: _Question, now: float) -> None:
        question.silent += question.unanswered.values()
        question.unanswered = {}
        self._by_request.pop(question.request, None)
        question.request = 0
        self._state.outbox.add(
            effects.Publish(
                m.MonitorOutput(
                    time_seconds=now + self._unix_offset,
                    number=topic.number,
                    subject=topic.subject,
                    agents=tuple(name for name, _ in question.answers),
                    payloads=Packed.of([data for _, data in question.answers]),
                    asked=question.asked,
                    silent=tuple(question.silent[:SILENT_NAMED_MAX]),
                    omitted=question.omitted,
                )
            )
        )
        question.forget_answers()
