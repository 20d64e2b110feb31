"""A cluster in this process, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scaler import Client
from scaler.testing import InProcessCluster


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    with InProcessCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: InProcessCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout_seconds=10) as client:
        yield client
