"""Clusters with two schedulers: either is killed, stopped for longer than the lease, or cut off from anybody for a while.

Every task ends once and with the right value, also while both believe that they are first. Those with `idempotent=False` never
run twice. In every other run, tasks ask for options.
"""

from __future__ import annotations

from collections import Counter

import pytest

from scaler_scheduler.core.succession import Change
from simulation.cluster import Cluster
from simulation.services import SchedulerProcess


def run(seed: int, steps: int = 1_000) -> Cluster:
    cluster = Cluster(seed, changes={"standby": True, "options": seed % 2 == 0})
    cluster.run(steps)
    return cluster


@pytest.mark.parametrize("seed", range(1, 13))
def test_every_promise_is_kept_with_two_schedulers(seed: int) -> None:
    run(seed)


def test_schedulers_change_places(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[Change] = Counter()
    note = SchedulerProcess.note

    def count(process: SchedulerProcess, change: Change | None) -> None:
        if change is not None:
            seen[change] += 1
        note(process, change)

    monkeypatch.setattr(SchedulerProcess, "note", count)
    for seed in range(20, 40):
        run(seed)
        if all(seen[change] >= 2 for change in Change):
            return
    pytest.fail(f"{seen}")
