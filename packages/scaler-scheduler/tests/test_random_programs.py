"""Random programs keep what the core promises; `nox -s scheduler_programs -- --seeds 1000` runs many more of them."""

from __future__ import annotations

import pytest
from scheduler_programs import run_seed

SEEDS = range(1, 25)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_program_ends_as_it_must(seed: int) -> None:
    run_seed(seed)
