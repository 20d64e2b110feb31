"""Real servers of Redis and Valkey for fixtures: each with files of its own, gone with the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler_protocol.testing.real_stores import RedisServer


def server_of(program: str | None, *options: str) -> Iterator[RedisServer]:
    """Run a server while the test runs; skip the test where there is no such program."""
    if program is None:
        pytest.skip("redis-server is not installed (Debian: redis-server)")
    folder = tempfile.mkdtemp(prefix="scaler-redis-")
    server = RedisServer(program, Path(folder), *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)
