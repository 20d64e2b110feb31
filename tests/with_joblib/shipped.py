"""A pytest plugin that runs scikit-learn's tests with a joblib backend: `-p tests.with_joblib.shipped --scheduler NAME`.

What the tests compute with joblib runs with two jobs there: on a local cluster (`scaler`), on joblib's processes (`loky`), or on
threads. Its other options are those of `tests/with_dask/outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import joblib
import pytest

from tests.with_dask import outcomes

WORKERS = 2
SCHEDULERS = ("scaler", "loky", "threading")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scheduler", choices=SCHEDULERS, default="scaler", help="joblib's backend")
    outcomes.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    outcomes.register(config)


@pytest.fixture(scope="session", autouse=True)
def chosen_backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """joblib uses the chosen backend, also where a test says nothing of jobs."""
    name = request.config.getoption("--scheduler")
    settings: dict[str, Any] = {}
    if name == "scaler":
        import scaler.joblib  # noqa: F401

        settings["n_workers"] = WORKERS
    with joblib.parallel_config(backend=name, n_jobs=WORKERS, **settings):
        yield
