"""Connections to a Redis or Valkey server, for one thread that asks one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scaler_protocol.service.storage_url import RedisUrl


def connect(url: RedisUrl, seconds: float) -> tuple[redis.ConnectionPool, Callable[..., Any]]:
    """Return connections, and what sends a command. `seconds` is what an answer may take, and as much to be connected."""
    options: dict[str, Any] = dict(url.tls)
    pool = redis.ConnectionPool(
        redis.SSLConnection if url.is_tls else redis.Connection,
        host=url.host,
        port=url.port,
        db=url.database,
        username=url.username,
        password=url.password,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        protocol=2,
        # Whoever asks does so again soon.
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    # The library's methods for commands have no types for bytes.
    return pool, redis.Redis(connection_pool=pool).execute_command
