"""Clients that wait are given work in turns of equal time, whatever their tasks take and however many they have."""

from __future__ import annotations

import random
from array import array
from collections import deque
from typing import Any

import pytest
from harness import Agent, Client, Harness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.records import AgentRecord
from scaler_scheduler.core.shares import LAG_SECONDS, OVERHEAD_SECONDS, TURN_SECONDS
from scaler_scheduler.policy.spread import Capability

ENDLESS = 3000
"""Who submits so many submits more as soon as fewer wait: there is always more than a turn."""


class Worker:
    """An agent that runs what it holds in order, and how many seconds each client's tasks have had in all."""

    def __init__(self, harness: Harness, capacity: int) -> None:
        harness.checks_each_step = False
        self.agent = Agent(harness, "agent", capacity=capacity)
        self.endless: dict[bytes, tuple[Client, int]] = {}
        self.microseconds: dict[bytes, int] = {}
        self.seconds: dict[bytes, float] = {}
        self.batches: deque[m.TaskBatch] = deque()
        self.sizes: list[int] = []

    def add(self, client: Client, microseconds: int, tasks: int) -> Client:
        """The client submits so many tasks, each of which takes so long."""
        self.microseconds[client.id] = microseconds
        self.seconds.setdefault(client.id, 0.0)
        client.define()
        client.submit(tasks)
        if tasks >= ENDLESS:
            self.endless[client.id] = client, tasks
        return client

    def run(self, batches: int) -> None:
        """Run and answer so many batches."""
        for _ in range(batches):
            self.batches += self.agent.take(m.TaskBatch)
            batch = self.batches.popleft()
            rows, took = len(batch.numbers), self.microseconds[batch.client]
            self.sizes.append(rows)
            self.seconds[batch.client] += rows * (took * 1e-6 + OVERHEAD_SECONDS)
            tasks = [(batch.client, *row) for row in zip(batch.numbers, batch.attempts, strict=True)]
            if batch.client in self.endless:
                client, left = self.endless[batch.client]
                left -= rows
                if left < ENDLESS:
                    client.submit(ENDLESS)
                    left += ENDLESS
                self.endless[batch.client] = client, left
            self.agent.answer(tasks, durations=array("I", [took] * rows))

    def since(self, before: dict[bytes, float]) -> list[float]:
        return [seconds - before[client] for client, seconds in self.seconds.items()]


LONG = (5, 6, 10, 19)
"""Seeds of an agent that holds 2,000 tasks, as in seed 17: a million tasks run in each."""


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.soak] * (seed in LONG)) for seed in range(20)])
def test_clients_that_wait_get_equal_time(seed: int) -> None:
    chance = random.Random(seed)
    harness = Harness()
    worker = Worker(harness, capacity=chance.choice([4, 50, 2000]))
    longest = 0
    for number in range(chance.randint(2, 12)):
        microseconds = chance.choice([0, 3, 50, 700, 3000, 20_000])
        longest = max(longest, microseconds)
        worker.add(Client(harness, f"client {number}"), microseconds, ENDLESS)
    # Until it is known how long the tasks take, and what was placed before that has run.
    worker.run(4000)
    before = dict(worker.seconds)
    worker.run(1500)
    had = worker.since(before)
    held = worker.agent.capacity * min(longest * 1e-6, TURN_SECONDS)
    assert max(had) - min(had) <= 2 * (TURN_SECONDS + longest * 1e-6) + held


def test_batches_stay_batches_however_many_clients_wait() -> None:
    harness = Harness()
    worker = Worker(harness, capacity=1000)
    for number in range(50):
        worker.add(Client(harness, f"client {number}"), 5, ENDLESS)
    worker.run(200)
    worker.sizes.clear()
    worker.run(200)
    assert sum(worker.sizes) / len(worker.sizes) > 100


def test_what_somebody_got_while_nobody_else_waited_is_not_held_against_him() -> None:
    harness = Harness()
    worker = Worker(harness, capacity=100)
    worker.add(Client(harness, "first"), 1000, ENDLESS)
    worker.run(500)
    worker.add(Client(harness, "second"), 1000, ENDLESS)
    worker.run(50)
    before = dict(worker.seconds)
    worker.run(200)
    first, second = worker.since(before)
    assert abs(first - second) <= 2 * TURN_SECONDS + 0.001


def test_agents_cannot_say_how_long_tasks_took_that_they_did_not_have() -> None:
    harness = Harness()
    worker = Worker(harness, capacity=100)
    victim = worker.add(Client(harness, "victim"), 1000, ENDLESS)
    worker.add(Client(harness, "other"), 1000, ENDLESS)
    forger = Agent(harness, "forger", capacity=0)
    worker.run(50)
    before = dict(worker.seconds)
    for number in range(200):
        payloads = Packed.of([b"Pforged"])
        forger.send(m.ResultBatch(victim.id, [number + 1], [1], payloads, durations=array("I", [10**9])))
        worker.run(1)
    first, second = worker.since(before)
    assert abs(first - second) <= 2 * TURN_SECONDS + 0.001


def test_who_was_away_is_owed_nothing() -> None:
    harness = Harness()
    worker = Worker(harness, capacity=100)
    away = worker.add(Client(harness, "away"), 1000, 100)
    worker.add(Client(harness, "other"), 1000, ENDLESS)
    worker.run(500)
    away.submit(ENDLESS)
    worker.run(20)
    before = dict(worker.seconds)
    worker.run(200)
    first, second = worker.since(before)
    assert abs(first - second) <= 2 * TURN_SECONDS + 0.001


def test_who_could_not_run_for_long_gets_a_little_more_at_most() -> None:
    harness = Harness(allocate_policy="capability")
    worker = Worker(harness, capacity=100)
    waiting = Client(harness, "waiting")
    waiting.define()
    waiting.submit(5000, capabilities=(("gpu", -1),))
    worker.add(Client(harness, "other"), 1000, ENDLESS)
    worker.run(2000)
    special = Worker(harness, capacity=100)
    special.agent = Agent(harness, "special", capacity=100, capabilities=(("gpu", -1),))
    other = Client(harness, "third")
    other.define()
    special.microseconds = {waiting.id: 1000, other.id: 1000}
    special.seconds = {waiting.id: 0.0, other.id: 0.0}
    special.run(20)
    other.submit(5000, capabilities=(("gpu", -1),))
    special.run(100)
    before = dict(special.seconds)
    special.run(200)
    first, second = special.since(before)
    assert first - second <= LAG_SECONDS + 2 * TURN_SECONDS + 0.001


@pytest.mark.parametrize("microseconds", [0, 200, 5000])
def test_a_single_task_goes_ahead_of_backlogs(microseconds: int) -> None:
    harness = Harness()
    worker = Worker(harness, capacity=64)
    for number in range(30):
        worker.add(Client(harness, f"busy {number}"), microseconds, ENDLESS)
    worker.run(1000)
    lone = Client(harness, "lone")
    lone.define()
    worker.microseconds[lone.id], worker.seconds[lone.id] = 10, 0.0
    for _ in range(20):
        worker.batches += worker.agent.take(m.TaskBatch)
        lone.submit()
        # The agent wants no more, and gets it all the same.
        (batch,) = worker.agent.take(m.TaskBatch)
        assert batch.client == lone.id
        worker.batches.appendleft(batch)
        worker.run(1)
        assert len(lone.results()) == 1


def test_single_tasks_go_beyond_what_an_agent_wants_only_so_far() -> None:
    harness = Harness()
    worker = Worker(harness, capacity=20)
    worker.add(Client(harness, "busy"), 1000, 1000)
    lone = [Client(harness, f"lone {number}") for number in range(100)]
    for client in lone:
        client.define()
        client.submit()
    held = sum(len(batch.numbers) for batch in worker.agent.take(m.TaskBatch))
    assert held == 20 + 10


def test_an_agent_with_long_tasks_gets_nothing_beyond_what_it_wants() -> None:
    harness = Harness()
    worker = Worker(harness, capacity=1)
    worker.add(Client(harness, "busy"), 2_000_000, 10)
    lone = Client(harness, "lone")
    lone.define()
    lone.submit()
    assert sum(len(batch.numbers) for batch in worker.agent.take(m.TaskBatch)) == 1


def test_tasks_inside_tasks_do_not_wait_for_more_room() -> None:
    harness = Harness()
    agent = Agent(harness, "agent", workers=2, capacity=100)
    parent = Client(harness, "parent")
    parent.define()
    parent.submit(1000)
    held = sum(len(batch.numbers) for batch in agent.take(m.TaskBatch))
    # All that it holds may be waiting for tasks of their own; it tells the scheduler only how many it wants in all.
    agent.capacity = held + 1
    agent.send(m.ResultBatch(parent.id, [], [], Packed.of([]), capacity=agent.capacity))
    assert agent.take(m.TaskBatch) == []
    nested = Client(harness, "nested", relayed_by=agent)
    nested.define()
    nested.submit(2, depth=1)
    assert [(batch.client, len(batch.numbers)) for batch in agent.take(m.TaskBatch)] == [(nested.id, 1)]


def test_a_result_does_not_have_all_agents_with_little_room_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness()
    harness.checks_each_step = False
    agents = [Agent(harness, f"agent {number}", capacity=100) for number in range(50)]
    client = Client(harness, "client")
    client.define()
    client.submit(10_000)
    held = [agent.tasks() for agent in agents]
    looked_at: list[AgentRecord] = []
    choose = Capability.choose

    def counted(policy: Capability, ready: int, groups: Any) -> Any:
        choice = choose(policy, ready, groups)
        looked_at.extend([choice[0]] if choice is not None else [])
        return choice

    monkeypatch.setattr(Capability, "choose", counted)
    for _ in range(5):
        for agent, tasks in zip(agents, held, strict=True):
            agent.answer([tasks.pop()])
    # Each has room for five, and waits for room for more.
    assert all(agent.tasks() == [] for agent in agents)
    assert len(looked_at) <= 2 * 5 * len(agents)


def test_a_client_inside_a_task_has_agents_with_little_room_looked_at_again() -> None:
    harness = Harness()
    agent = Agent(harness, "agent", capacity=100)
    client = Client(harness, "client")
    client.define()
    client.submit(1000)
    held = agent.tasks()
    agent.answer([held.pop(), held.pop()])
    assert agent.tasks() == []
    nested = Client(harness, "nested", relayed_by=agent)
    nested.define()
    nested.submit(1, depth=1)
    assert [client_id for client_id, _, _ in agent.tasks()] == [nested.id, client.id]
