"""A cluster in this process, and a client of it. No test leaves threads of clients behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from scaler import Client
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until


def threads_of_clients() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("scaler")}


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """Set up before a test's own fixtures, and so at work after their ends."""
    before = threads_of_clients()
    yield
    wait_until(lambda: threads_of_clients() <= before, what=lambda: f"left: {threads_of_clients() - before}")


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    with InProcessCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: InProcessCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout_seconds=10) as client:
        yield client
