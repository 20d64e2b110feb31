"""100,000 random values and as many random exceptions, by random roads, against `ProcessPoolExecutor`.

`SCALER_SOAK_VALUES=1000 pytest -m soak tests/soak/test_random_values.py` for a short run. `SCALER_SOAK_SEED` repeats one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.conformance.properties import EXCEPTION_ROADS, VALUE_ROADS, Both, both
from tests.conformance.strategies import TREES, VALUES

COUNT = int(os.environ.get("SCALER_SOAK_VALUES", "100000"))
SEED = int(os.environ.get("SCALER_SOAK_SEED", str(random.randrange(2**32))))
BATCH_MIN, BATCH_MAX = 10, 30
EXAMPLES_PER_ROUND = 200


def run(
    check: Callable[[Both], Callable[[list[Any], str], None]], values: st.SearchStrategy[Any], roads: list[str]
) -> None:
    """Check at least COUNT values, in rounds, each of which has a seed of its own."""
    began = time.monotonic()
    with both() as pair:
        for number in range(SEED, SEED + COUNT):
            if pair.checked >= COUNT:
                break

            @seed(number)
            @settings(
                max_examples=min(EXAMPLES_PER_ROUND, max(1, COUNT // BATCH_MIN)),
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(st.lists(values, min_size=BATCH_MIN, max_size=BATCH_MAX), st.sampled_from(roads))
            def example(made: list[Any], road: str) -> None:
                check(pair)(made, road)

            print(f"seed {number}, {pair.checked:,} checked, {time.monotonic() - began:.0f} s", flush=True)
            example()
    print(f"{pair.checked:,} checked from seed {SEED} in {time.monotonic() - began:.0f} s")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_random_values_come_back_as_from_the_pool() -> None:
    run(lambda pair: pair.check_values, VALUES, VALUE_ROADS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_random_exceptions_come_back_as_they_were_raised() -> None:
    run(lambda pair: pair.check_exceptions, TREES, EXCEPTION_ROADS)
