"""Policies are pure arithmetic; these are their promises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scaler_scheduler.policy.balancing import Load, tasks_to_recall
from scaler_scheduler.policy.placement import share_of

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


loads = st.lists(st.builds(Load, st.integers(0, 500), st.integers(1, 32)), max_size=12)


@given(loads)
def test_only_what_cannot_run_at_once_is_recalled(agents: list[Load]) -> None:
    for load, recall in zip(agents, tasks_to_recall(agents), strict=True):
        assert recall >= 0
        assert recall == 0 or load.assigned - recall >= load.slots


@given(loads)
def test_nothing_is_recalled_while_all_workers_have_work(agents: list[Load]) -> None:
    busy = [Load(max(load.assigned, load.slots), load.slots) for load in agents]
    assert not any(tasks_to_recall(busy))
