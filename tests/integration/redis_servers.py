"""Real servers of Redis and Valkey for fixtures: each with files of its own, gone with the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scaler_protocol.testing.real_stores import RedisServer, running


def server_of(program: str | None, *options: str) -> Iterator[RedisServer]:
    """Run a server while the test runs; skip the test where there is no such program."""
    if program is None:
        pytest.skip("redis-server is not installed (Debian: redis-server)")
    with running(RedisServer, program, *options) as server:
        yield server


def url_of(server: RedisServer, prefix: str = "scaler") -> str:
    """Return the URL that names it, with a prefix there."""
    return f"redis://{server.host}:{server.port}/0/{prefix}"


def flags_of(server: RedisServer) -> tuple[str, ...]:
    """Return what a scheduler is told to keep its jobs there."""
    return "--storage-url", url_of(server)
