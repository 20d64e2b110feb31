"""A pytest plugin that runs joblib's own tests: `-p tests.with_joblib.in_place_of_loky --scheduler NAME`.

With `scaler`, what the tests ask of the backend "loky", joblib's default, is done by ours, on one local cluster for all tests.
With `loky` nothing is changed. Its other options are those of `tests/with_dask/outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import joblib.parallel
import pytest

from tests.with_dask import outcomes

WORKERS = 2
SCHEDULERS = ("scaler", "loky")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scheduler", choices=SCHEDULERS, default="scaler", help="what does the work of loky")
    outcomes.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    outcomes.register(config)
    if config.getoption("--scheduler") == "scaler":
        _replace_loky(config)


@pytest.fixture(autouse=True)
def default_backend() -> Iterator[None]:
    """No test sees the backend that one before it has left as the default."""
    yield
    joblib.parallel.DEFAULT_BACKEND = "loky"


def _replace_loky(config: pytest.Config) -> None:
    # Here and not with the module: importing it registers a backend, which tests with loky must not see.
    from scaler import SchedulerClusterCombo
    from scaler.joblib import ScalerBackend

    cluster = SchedulerClusterCombo(n_workers=WORKERS)
    config.add_cleanup(cluster.shutdown)

    class InPlaceOfLoky(ScalerBackend):
        # Where a program names no backend, joblib makes calls one after the other unless it is told how many jobs it has.
        default_n_jobs = 1

        def __init__(self, **settings: Any) -> None:
            if not {"address", "client", "n_workers"} & settings.keys():
                settings["address"] = cluster.get_address()
            super().__init__(**settings)

    del joblib.parallel.BACKENDS["scaler"]
    joblib.parallel.BACKENDS["loky"] = InPlaceOfLoky
