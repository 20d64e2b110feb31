"""Any picklable value, and any tree of exceptions, by any road: a few hundred here, 100,000 in `tests/soak`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.properties import BATCH_MAX, BATCH_MIN, EXCEPTION_ROADS, VALUE_ROADS, Both, both
from tests.conformance.strategies import TREES, VALUES, Tree

SMALL = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def pool_and_cluster() -> Iterator[Both]:
    with both() as pair:
        yield pair


@pytest.mark.timeout(180)
@SMALL
@given(st.lists(VALUES, min_size=BATCH_MIN, max_size=BATCH_MAX), st.sampled_from(VALUE_ROADS))
def test_a_value_comes_back_as_from_the_pool(pool_and_cluster: Both, values: list[Any], road: str) -> None:
    pool_and_cluster.check_values(values, road)


@pytest.mark.parametrize("road", ["submit", "map", "get"])
def test_arrays_of_foreign_byte_order_come_back_as_pickle_has_them(pool_and_cluster: Both, road: str) -> None:
    # One of them as from the pool, the other as it was.
    pool_and_cluster.check_values([{None: np.array("NaT", dtype=">M8[Y]"), (): np.array(0, dtype=">i2")}], road)


@pytest.mark.timeout(180)
@SMALL
@given(st.lists(TREES, min_size=BATCH_MIN, max_size=BATCH_MAX), st.sampled_from(EXCEPTION_ROADS))
def test_an_exception_comes_back_as_it_was_raised(pool_and_cluster: Both, trees: list[Tree], road: str) -> None:
    pool_and_cluster.check_exceptions(trees, road)
