"""How many workers there should be: the arithmetic, and what it comes to under synthetic loads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling_loads import (
    START_S,
    WORKERS_MAX,
    Model,
    loads,
    ratio_policy,
    recorded_loads,
    synthetic_loads,
    vanilla_policy,
)

from scaler_scheduler.policy.durations import MeanSeconds
from scaler_scheduler.policy.scaling import (
    PLAIN,
    AdapterView,
    Demand,
    Names,
    Strategy,
    View,
    share_out,
    steady,
    workers_needed,
)

GPU = frozenset({"gpu"})
LINUX = frozenset({"linux"})
BOTH = GPU | LINUX


def need(demand: Demand, adapter: AdapterView | None = None, connected: int = 0, standing: int = 0) -> int:
    view = View([demand], [adapter or AdapterView()], {PLAIN: connected} if connected else {}, {PLAIN: standing})
    return workers_needed(Strategy.VANILLA, view).get(PLAIN, 0)


def test_nothing_to_do_needs_nobody() -> None:
    assert need(Demand(PLAIN, 0, 0, None), connected=3) == 0


def test_the_first_task_is_worth_a_worker() -> None:
    assert need(Demand(PLAIN, 1, 0, None)) == 1
    assert need(Demand(PLAIN, 2_000, 0, None)) == 1, "nothing is known of them: the first results will say"


@pytest.mark.parametrize(("waiting", "expected"), [(9, 1), (10, 2), (500, 2)])
def test_more_than_ten_unknown_tasks_per_worker_start_one_more(waiting: int, expected: int) -> None:
    assert need(Demand(PLAIN, waiting, 1, None), AdapterView(groups={PLAIN: 1}), connected=1) == expected


def test_known_work_counts_in_seconds() -> None:
    assert need(Demand(PLAIN, 2_000, 0, 0.05)) == 34
    assert need(Demand(PLAIN, 20_000, 0, 0.000_01)) == 1
    assert need(Demand(PLAIN, 4, 1, 3_600.0), connected=1) == 5, "never more workers than tasks"


def test_workers_that_take_long_to_start_must_be_worth_it() -> None:
    slow = AdapterView(start_seconds=50.0)
    assert need(Demand(PLAIN, 2_000, 0, 0.05), slow) == 2


def test_nothing_shrinks_while_work_waits() -> None:
    eight = AdapterView(groups={PLAIN: 8})
    assert need(Demand(PLAIN, 1, 1, 0.001), eight, connected=8) == 8
    assert need(Demand(PLAIN, 0, 1, 0.001), eight, connected=8) == 1


def test_who_is_busy_is_needed() -> None:
    assert need(Demand(PLAIN, 0, 5, 0.001), AdapterView(groups={PLAIN: 8}), connected=8) == 5


def test_needs_come_down_only_after_the_cool_down() -> None:
    history = [(0.0, 8), (10.0, 3), (20.0, 1)]
    assert [steady(history, now, 15.0) for now in (14.0, 20.0, 30.0, 40.0)] == [8, 3, 1, 0]


def test_standing_workers_come_first() -> None:
    view = View([], [AdapterView()], {PLAIN: 4}, {PLAIN: 4})
    assert share_out({PLAIN: 6}, view) == [{PLAIN: 2}]
    assert share_out({PLAIN: 4}, view) == [{}]


def test_groups_of_several_workers_are_rounded_up() -> None:
    assert share_out({PLAIN: 5}, View([], [AdapterView(workers_per_group=4)])) == [{PLAIN: 2}]


def test_the_first_of_two_adapters_is_filled_first_and_shrinks_last() -> None:
    view = View([], [AdapterView(groups_max=3), AdapterView(groups_max=10)])
    assert share_out({PLAIN: 5}, view) == [{PLAIN: 3}, {PLAIN: 2}]
    assert share_out({PLAIN: 2}, view) == [{PLAIN: 2}, {}]
    assert share_out({PLAIN: 50}, view) == [{PLAIN: 3}, {PLAIN: 10}]


def test_each_set_of_capabilities_has_its_own_groups() -> None:
    adapter = AdapterView(offers=LINUX)
    demands = [Demand(GPU, 2, 0, 60.0), Demand(LINUX, 3, 0, 60.0), Demand(BOTH, 1, 0, 60.0)]
    view = View(demands, [adapter])
    needs = workers_needed(Strategy.CAPABILITY, view)
    assert needs == {GPU: 2, LINUX: 3, BOTH: 1}
    assert share_out(needs, view) == [{GPU: 3, PLAIN: 3}]


def test_plain_strategies_ask_for_nothing_that_their_adapter_does_not_offer() -> None:
    view = View([Demand(GPU, 5, 0, 60.0), Demand(LINUX, 2, 0, 60.0)], [AdapterView(offers=LINUX)])
    assert workers_needed(Strategy.VANILLA, view) == {PLAIN: 2}


def test_every_kind_gets_one_group_before_any_gets_a_second() -> None:
    view = View([], [AdapterView(groups_max=3)])
    assert share_out({GPU: 10, PLAIN: 10}, view) == [{GPU: 2, PLAIN: 1}]


def test_what_an_adapter_refuses_goes_to_the_next() -> None:
    view = View([], [AdapterView(refuses=frozenset({GPU})), AdapterView()])
    assert share_out({GPU: 1}, view) == [{}, {GPU: 1}]


kinds = st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=3)
adapters = st.builds(
    AdapterView,
    offers=kinds,
    workers_per_group=st.integers(1, 4),
    groups_max=st.none() | st.integers(0, 6),
    groups=st.dictionaries(kinds, st.integers(0, 5), max_size=3),
    refuses=st.frozensets(kinds, max_size=2),
)


@given(
    needs=st.dictionaries(kinds, st.integers(0, 30), max_size=4),
    adapters=st.lists(adapters, min_size=1, max_size=3),
    standing=st.dictionaries(kinds, st.integers(0, 5), max_size=3),
)
def test_wishes_keep_to_limits_and_suffice_where_there_is_none(
    needs: dict[Names, int], adapters: list[AdapterView], standing: dict[Names, int]
) -> None:
    wishes = share_out(needs, View([], adapters, {}, standing))
    for adapter, wish in zip(adapters, wishes, strict=True):
        assert all(count > 0 for count in wish.values())
        assert adapter.groups_max is None or sum(wish.values()) <= adapter.groups_max
        assert not wish.keys() & adapter.refuses
    for kind, workers in needs.items():
        if any(a.groups_max is None and a.extra_for(kind) is not None for a in adapters):
            able = sum(count for names, count in standing.items() if kind <= names)
            for adapter, wish in zip(adapters, wishes, strict=True):
                groups = sum(count for extra, count in wish.items() if kind <= extra | adapter.offers)
                able += groups * adapter.workers_per_group
            assert able >= workers


def test_durations_follow_what_is_measured_and_notice_what_does_not_end() -> None:
    durations = MeanSeconds(keys_max=2)
    assert durations.of("f") is None
    durations.at_least("f", 3.0)
    assert durations.of("f") == 3.0
    durations.observe("f", 0.1)
    assert durations.of("f") == 0.1
    durations.at_least("f", 0.9)
    assert durations.of("f") == 0.1, "ordinary variation"
    durations.at_least("f", 10.1)
    assert durations.of("f") == pytest.approx(2.1)
    durations.observe("g", 1.0)
    durations.observe("h", 1.0)
    assert durations.of("f") is None, "the oldest is forgotten"


COOL_DOWN_S = 30.0


@pytest.mark.parametrize("name", loads())
def test_no_oscillation_and_nothing_shrinks_while_work_waits(name: str) -> None:
    load = loads()[name]
    ours, older = Model(load, vanilla_policy(COOL_DOWN_S)).run(), Model(load, ratio_policy()).run()
    assert ours.restarts == 0
    assert ours.shrunk_while_waiting == 0
    assert ours.workers_max <= WORKERS_MAX
    assert ours.mean_wait_s <= older.mean_wait_s + 1.0


@pytest.mark.parametrize("name", synthetic_loads())
def test_steadiness_has_a_price_with_a_bound(name: str) -> None:
    load = synthetic_loads()[name]
    ours, older = Model(load, vanilla_policy(COOL_DOWN_S)).run(), Model(load, ratio_policy()).run()
    assert ours.end_s <= 1.3 * older.end_s
    # The price of not oscillating with a cool-down of half a minute: docs/elastic.md has the table.
    assert ours.paid_s <= 3.5 * older.paid_s


@pytest.mark.parametrize("name", recorded_loads())
def test_recorded_jobs_pay_for_one_cool_down_and_recorded_days_for_steadiness(name: str) -> None:
    load = recorded_loads()[name]
    ours, older = Model(load, vanilla_policy(COOL_DOWN_S)).run(), Model(load, ratio_policy()).run()
    # A job of some seconds is over before half a minute of keeping its workers has begun.
    assert ours.end_s <= 1.05 * older.end_s + 2 * START_S
    assert ours.paid_s <= 1.7 * older.paid_s + (COOL_DOWN_S + START_S) * ours.workers_max


@pytest.mark.parametrize("day", ["departures-busiest-day", "departures-snowstorm"])
def test_work_that_takes_long_does_not_wait_long(day: str) -> None:
    load = recorded_loads()[f"recorded: {day}"]
    ours, older = Model(load, vanilla_policy(COOL_DOWN_S)).run(), Model(load, ratio_policy()).run()
    assert ours.mean_wait_s < 0.2 * older.mean_wait_s


def test_few_long_tasks_get_a_worker_each() -> None:
    ours, older = (Model(loads()["long: 8 × 60 s"], policy).run() for policy in (vanilla_policy(), ratio_policy()))
    assert ours.end_s < 70.0
    assert older.end_s > 480.0


def test_regular_pulses_keep_their_workers() -> None:
    pulses = loads()["pulses: 100 × 100 ms each 20 s"]
    ours, older = Model(pulses, vanilla_policy()).run(), Model(pulses, ratio_policy()).run()
    assert ours.starts <= 5
    assert older.starts > 100
