"""Whole clusters whose tasks ask for retries, limits, priorities and to run once at most, under the virtual clock."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, Prefer, Retries
from simulation.cluster import Cluster
from simulation.ledger import SimulationError
from simulation.options import OptionsWatch

FAULTLESS: dict[str, Any] = {
    **dict.fromkeys(("kills", "cuts", "scheduler_dies", "storage_dies", "results_lost", "stalls"), False),
    **dict.fromkeys(("homes_die", "spills", "disk_faults", "shutdown"), False),
    "task_timeout_seconds": 0.0,
    "disk_limit_bytes": None,
    "memory_limit_bytes": 100_000_000,
}


@pytest.mark.parametrize("seed", range(1, 13))
def test_no_task_runs_twice_that_must_not_whatever_happens(seed: int) -> None:
    Cluster(seed, changes={"options": True}).run(400)


def test_counts_and_times_are_exact_where_nothing_goes_wrong() -> None:
    ends: Counter[str] = Counter()
    failures = 0
    for seed in range(1, 9):
        cluster = Cluster(seed, changes={"options": True, **FAULTLESS})
        assert cluster.ledger.options.is_strict
        cluster.run(300)
        ends += cluster.ledger.ends
        failures += cluster.ledger.options.failures.total()
    # Seen so that a change of the simulation does not leave nothing to see.
    assert failures > 20
    assert ends["success"] > 100
    assert ends["timed_out"] > 20


def test_counts_are_exact_when_the_scheduler_is_restarted() -> None:
    failures = 0
    for seed in range(1, 11):
        cluster = Cluster(seed, changes={"options": True, **FAULTLESS, "scheduler_dies": True})
        assert cluster.ledger.options.counts_are_exact
        cluster.run(400)
        failures += cluster.ledger.options.failures.total()
    assert failures > 20


def test_no_attempt_begins_before_its_time_where_results_are_lost() -> None:
    lost = waits = 0
    for seed in range(1, 9):
        cluster = Cluster(seed, changes={"options": True, **FAULTLESS, "results_lost": True})
        assert cluster.ledger.options.waits_are_exact
        cluster.run(1500)
        lost += cluster.ledger.excuses.results_lost
        waits += sum(
            one.retries is not None and one.retries.wait_seconds > 0 for one in cluster.ledger.options.asked.values()
        )
    assert lost > 3
    assert waits > 20


def test_nothing_is_kept_of_a_graph_that_ends_before_it_has_begun_as_a_whole() -> None:
    """In this run one does, after a restart; the checks of the scheduler's core look for what is kept."""
    Cluster(2734, changes={"options": True}).run(2000)


KEY = (b"c" * 16, 3)


def watch(**options: Any) -> OptionsWatch:
    watched = OptionsWatch()
    watched.is_strict = True
    watched.note(KEY, NO_OPTIONS.with_given(options, "test"))
    return watched


def test_the_watch_notices_a_retry_too_few_and_one_too_many() -> None:
    for failures, said in ((2, "failed 2 times, not 3"), (3, ""), (4, "failed 4 times, not 3")):
        watched = watch(retries=Retries(3))
        watched.failures[KEY] = failures
        assert said in watched.problem(KEY, m.Status.SUCCESS, "", 1.0, always=False)
        assert bool(said) == bool(watched.problem(KEY, m.Status.SUCCESS, "", 1.0, always=False))


def test_the_watch_notices_an_attempt_before_its_time() -> None:
    watched = watch(retries=Retries(3, wait_seconds=2.0))
    watched.waits_are_exact = True
    assert not watched.is_early(KEY, 1.0)
    assert watched.raises(KEY, watched.asked[KEY], 1.0, always=True)
    assert watched.is_early(KEY, 2.9)
    assert not watched.is_early(KEY, 3.0)


def test_the_watch_notices_a_deadline_too_early_and_one_too_late() -> None:
    watched = watch(deadline_seconds=5)
    assert watched.problem(KEY, m.Status.TIMED_OUT, "task 3 (f): (deadline_seconds)", 4.0, always=False)
    assert not watched.problem(KEY, m.Status.TIMED_OUT, "task 3 (f): (deadline_seconds)", 5.0, always=False)
    assert watched.problem(KEY, m.Status.SUCCESS, "", 9.0, always=False)


def test_the_watch_notices_a_task_at_another_host() -> None:
    for options in ({"host": "agent 2"}, {"worker": "agent 2-1"}):
        assert not watch(**options).is_elsewhere(KEY, "agent 2/processor 7")
        assert watch(**options).is_elsewhere(KEY, "agent 21/processor 7")
    assert not watch(host=Prefer("agent 2")).is_elsewhere(KEY, "agent 3/processor 7")


def test_the_ledger_notices_a_second_run() -> None:
    cluster = Cluster(1, changes={"options": True})
    cluster.ledger.options.note(KEY, NO_OPTIONS.with_given({"idempotent": False}, "test"))
    cluster.ledger.excuses.process_deaths = 1
    cluster.ledger.started(KEY, "here")
    with pytest.raises(SimulationError, match="must not"):
        cluster.ledger.started(KEY, "there")
