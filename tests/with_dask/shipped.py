"""A pytest plugin that runs the tests that come with Dask on another scheduler: `-p tests.with_dask.shipped --scheduler NAME`.

Dask's tests name their scheduler in many places, mostly the one that runs everything in the calling thread. All names stand for
the chosen one here: `scaler`, a local cluster of two workers; or, to compare with, `processes` and `threads`, two of Dask's own
each, and `sync`, the calling thread.

Its other options are those of `outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import dask.base
import dask.multiprocessing
import dask.threaded
import pytest

from tests.with_dask import outcomes

WORKERS = 2
SCHEDULERS = ("scaler", "processes", "threads", "sync")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scheduler", choices=SCHEDULERS, default="scaler", help="what runs Dask's tasks")
    outcomes.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    outcomes.register(config)


@contextmanager
def _scheduler(name: str) -> Iterator[Any]:
    if name == "sync":
        yield dask.base.named_schedulers["sync"]
    elif name == "threads":
        with ThreadPoolExecutor(WORKERS) as threads:
            yield partial(dask.threaded.get, pool=threads)
    elif name == "processes":
        with ProcessPoolExecutor(WORKERS, mp_context=dask.multiprocessing.get_context()) as pool:
            yield partial(dask.multiprocessing.get, pool=pool)
    else:
        import scaler.dask
        from scaler import Client, SchedulerClusterCombo

        with SchedulerClusterCombo(n_workers=WORKERS) as cluster, Client(cluster.get_address()) as client:
            yield scaler.dask.get(client)


@pytest.fixture(scope="session", autouse=True)
def chosen_scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    """All schedulers that Dask knows by name are the chosen one."""
    known = dict(dask.base.named_schedulers)
    with _scheduler(request.config.getoption("--scheduler")) as get:
        dask.base.named_schedulers.update(dict.fromkeys(known, get))
        try:
            yield
        finally:
            dask.base.named_schedulers.update(known)
