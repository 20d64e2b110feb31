"""Whole clusters whose tasks ask for counted resources, with all that may go wrong.

After every event the scheduler's counts are compared with what agents were given, and no host may have given more than it offers,
at the scheduler and at the agent; devices are not given twice. In the end every task has ended.
"""

from __future__ import annotations

import os

import pytest

from simulation.cluster import Cluster
from simulation.resources import Program

FIRST = int(os.environ.get("SCALER_RESOURCES_SEED", "1"))
SEEDS = int(os.environ.get("SCALER_RESOURCES_SEEDS", "12"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_a_cluster_whose_tasks_need_resources(seed: int) -> None:
    Cluster(seed, changes={"resources": True}).run(600)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 4))
def test_a_long_program_on_the_rules_alone(seed: int) -> None:
    """`nox -s resources` runs ten million events; here are some thousand."""
    Program(seed).run(3_000)
