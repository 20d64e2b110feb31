"""Policies are pure arithmetic; these are their promises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from harness import Agent, Client, Harness
from hypothesis import given
from hypothesis import strategies as st

from scaler_scheduler.policy.balancing import Load, tasks_to_recall
from scaler_scheduler.policy.listed import PLACEMENT_POLICIES
from scaler_scheduler.policy.locality import AgentFigures, better_agent
from scaler_scheduler.policy.placement import Agent as AgentType
from scaler_scheduler.policy.placement import GroupView, PlacementPolicy
from scaler_scheduler.policy.spread import Capability, share_of


@dataclass
class SomeAgent:
    """An agent as a policy sees it."""

    slots: int
    assigned: int
    spare: int


@dataclass
class SomeGroup:
    """A group as a policy sees it."""

    agents: list[SomeAgent]
    names: frozenset[str] = frozenset()

    @property
    def slots(self) -> int:
        return sum(agent.slots for agent in self.agents)

    @property
    def assigned(self) -> int:
        return sum(agent.assigned for agent in self.agents)

    def with_room(self) -> Iterable[SomeAgent]:
        return [agent for agent in self.agents if agent.spare > 0]

    def least_loaded(self) -> SomeAgent | None:
        return min(self.with_room(), key=lambda agent: agent.assigned / agent.slots, default=None)


some_agents = st.builds(SomeAgent, st.integers(1, 8), st.integers(0, 20), st.integers(0, 20))
some_groups = st.lists(st.builds(SomeGroup, st.lists(some_agents, min_size=1, max_size=4)), min_size=1, max_size=3)


@pytest.mark.parametrize("policy", PLACEMENT_POLICIES.values(), ids=lambda policy: policy.name)
@given(ready=st.integers(1, 100), groups=some_groups)
def test_a_policy_places_all_tasks_that_there_is_room_for(
    policy: PlacementPolicy, ready: int, groups: list[SomeGroup]
) -> None:
    room = sum(agent.spare for group in groups for agent in group.agents)
    left = ready
    while left:
        choice = policy.choose(left, groups)
        if choice is None:
            break
        agent, count = choice
        assert 1 <= count <= min(left, agent.spare)
        agent.assigned += count
        agent.spare -= count
        left -= count
    assert ready - left == min(ready, room)


def test_groups_that_offer_as_much_share_evenly_and_those_that_offer_more_come_last() -> None:
    plain = [SomeGroup([SomeAgent(1, 0, 100)], frozenset({name})) for name in ("a", "b", "c")]
    special = SomeGroup([SomeAgent(1, 0, 100)], frozenset({"d", "gpu"}))
    left = 36
    while left:
        choice = Capability().choose(left, [*plain, special])
        assert choice is not None
        agent, count = choice
        agent.assigned += count
        agent.spare -= count
        left -= count
    assert {group.assigned for group in plain} == {12}
    assert special.assigned == 0
    for group in plain:
        group.agents[0].spare = 0
    assert Capability().choose(1, [*plain, special]) == (special.agents[0], 1)


class LastAgent(PlacementPolicy):
    """Prefers the agent that connected last, which the policies of the scheduler never do."""

    name = "last"
    summary = "gives each task to the agent that connected last"

    def choose(self, ready: int, groups: Iterable[GroupView[AgentType]]) -> tuple[AgentType, int] | None:
        agents = [agent for group in groups for agent in group.with_room()]
        return (agents[-1], 1) if agents else None


@pytest.mark.parametrize("count", [1, 3])
def test_the_policy_places_the_only_ready_task_and_several_alike(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLACEMENT_POLICIES, "last", LastAgent())
    harness = Harness(allocate_policy="last")
    client = Client(harness, "client")
    client.define()
    first, last = Agent(harness, "first", capacity=10), Agent(harness, "last", capacity=10)
    client.submit(count)
    assert (len(first.tasks()), len(last.tasks())) == (0, count)


counts = st.integers(0, 1000)


@given(
    ready=st.integers(1, 10_000),
    assigned=counts,
    others=counts,
    slots=st.integers(1, 64),
    more=counts,
    spare=st.integers(1, 500),
)
def test_a_share_is_at_least_one_and_never_more_than_fits(
    ready: int, assigned: int, others: int, slots: int, more: int, spare: int
) -> None:
    share = share_of(ready, assigned, assigned + others, slots + more, slots, spare)
    assert 1 <= share <= min(ready, spare)


def test_equal_agents_get_equal_shares() -> None:
    assert share_of(100, 0, 0, 4, 1, 1000) == 25
    assert share_of(75, 0, 25, 4, 1, 1000) == 25


loads = st.lists(st.builds(Load, st.integers(0, 500), st.integers(1, 32), st.integers(0, 500)), max_size=12)


@given(loads)
def test_only_what_cannot_run_at_once_is_recalled(agents: list[Load]) -> None:
    for load, recall in zip(agents, tasks_to_recall(agents), strict=True):
        assert recall >= 0
        assert recall == 0 or load.assigned - recall >= load.slots
        assert recall <= load.movable


@given(loads)
def test_nothing_is_recalled_while_all_workers_have_work(agents: list[Load]) -> None:
    busy = [Load(max(load.assigned, load.slots), load.slots, load.movable) for load in agents]
    assert not any(tasks_to_recall(busy))


def test_a_task_goes_where_its_inputs_are_unless_it_would_wait_there() -> None:
    idle = AgentFigures(held_bytes=0, busy=0, slots=2, spare=4)
    assert better_agent(idle, [AgentFigures(1, 1, 2, 3)]) == 0
    # Its workers are busy, and the planned agent's are not.
    assert better_agent(idle, [AgentFigures(1, 2, 2, 2)]) is None
    # Both would let it wait.
    assert better_agent(AgentFigures(0, 3, 2, 1), [AgentFigures(1, 3, 2, 1)]) == 0
    assert better_agent(AgentFigures(0, 3, 2, 1), [AgentFigures(1, 4, 2, 1)]) is None
    # No room.
    assert better_agent(idle, [AgentFigures(1, 1, 2, 0)]) is None
    # Most inputs first, then the least busy.
    assert better_agent(idle, [AgentFigures(1, 0, 2, 4), AgentFigures(2, 1, 2, 3), AgentFigures(2, 0, 2, 4)]) == 2
    assert better_agent(AgentFigures(2, 0, 2, 4), [AgentFigures(1, 0, 2, 4), AgentFigures(2, 0, 2, 4)]) is None
    assert better_agent(idle, []) is None


def test_a_little_more_of_the_inputs_is_no_reason_to_go_elsewhere() -> None:
    mib = 1024 * 1024
    planned = AgentFigures(8 * mib, 0, 2, 4)
    # The one that is planned has nearly as much.
    assert better_agent(planned, [AgentFigures(8 * mib + 100, 0, 2, 4)]) is None
    assert better_agent(planned, [AgentFigures(9 * mib, 0, 2, 4)]) == 0
    # One large input outweighs many small ones, and of two that have about the same the less busy one is better.
    idle = AgentFigures(0, 0, 2, 4)
    assert better_agent(idle, [AgentFigures(30 * 300_000, 0, 2, 4), AgentFigures(64 * mib, 1, 2, 3)]) == 1
    assert better_agent(idle, [AgentFigures(64 * mib + 100, 1, 2, 3), AgentFigures(64 * mib, 0, 2, 4)]) == 1
