"""Whole clusters whose applications are in groups with shares and limits, under the virtual clock."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.cluster import Cluster


@pytest.mark.parametrize("seed", range(1, 11))
def test_no_group_exceeds_its_limit_and_every_task_ends_whatever_happens(seed: int) -> None:
    Cluster(seed, changes={"groups": True}).run(300)


def test_all_groups_are_served() -> None:
    assigned: Counter[str] = Counter()
    for seed in (21, 22, 23):
        cluster = Cluster(seed, changes={"groups": True, "scheduler_dies": False, "shutdown": False, "clients": 3})
        watch = cluster.scheduler.groups if cluster.scheduler is not None else None
        assert watch is not None
        cluster.run(200)
        assigned += watch.assigned
    # Seen so that a change of the simulation does not leave nothing to see.
    assert assigned.keys() == {"pricing", "research", "default"}
    assert min(assigned.values()) > 10
