"""Values in a Redis or Valkey server, version 7 or newer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scaler_objstore.tiers.lease import Found
from scaler_objstore.tiers.port import NotStoredError, TierError, TierFullError, TierUnavailableError
from scaler_objstore.tiers.values import RejectedError
from scaler_protocol.service.storage_url import RedisUrl
from scaler_protocol.wire.envelope import Frame

PART_BYTES = 8 * 1024 * 1024
"""Far below the 512 MiB that a value may have: the server does nothing else while it takes in a value."""

CONCURRENCY = 4
CONNECT_SECONDS = 5.0
SCAN_COUNT = 1000
PROBE = "scaler-probe"
_NO_KEY = -2
"""What PTTL says where there is none."""

_REJECTED = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
    redis.ReadOnlyError,
)
_REJECTED_TEXTS = (
    "CERTIFICATE_VERIFY_FAILED",
    "WRONG_VERSION_NUMBER",
    "DB index is out of range",
    "MOVED ",
    "unknown command",
)
"""Of errors without a class of their own."""


class RedisValues:
    """A `ValueStore` in one database of a server; all keys begin with the URL's prefix."""

    part_bytes = PART_BYTES
    concurrency = CONCURRENCY

    def __init__(self, url: RedisUrl, request_seconds: float) -> None:
        self._url = url
        self._prefix = f"{url.prefix}:"
        options: dict[str, Any] = dict(url.tls)
        self._pool = redis.ConnectionPool(
            redis.SSLConnection if url.is_tls else redis.Connection,
            host=url.host,
            port=url.port,
            db=url.database,
            username=url.username,
            password=url.password,
            socket_timeout=request_seconds,
            socket_connect_timeout=min(CONNECT_SECONDS, request_seconds),
            socket_keepalive=True,
            # The newer protocol answers a missing password with a riddle about HELLO.
            protocol=2,
            # Whoever asks repeats its requests itself, up to a deadline.
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        client = redis.Redis(connection_pool=self._pool)
        self._client = client
        # The library's methods for commands have no types for views of bytes.
        self._command: Callable[..., Any] = client.execute_command

    def __str__(self) -> str:
        return str(self._url)

    def check(self) -> str:
        """Store, read and delete a value. Returns a warning if the server may throw values away."""
        self.put(PROBE, b"probe")
        if bytes(self.get(PROBE)) != b"probe":
            raise TierUnavailableError("it returned other bytes than were stored")
        self.delete([PROBE])
        try:
            policy = str(self._client.info("memory").get("maxmemory_policy", ""))
        except redis.RedisError:
            # Not every server lets everyone ask.
            return ""
        if policy.startswith("allkeys"):
            return f"its maxmemory-policy is {policy}: objects are lost when it is full; set it to noeviction"
        return ""

    def put(self, key: str, value: Frame) -> None:
        """Store a value."""
        with _translated():
            self._command("SET", self._prefix + key, value)

    def get(self, key: str, length: int | None = None) -> Frame:
        """Return a value or its beginning. Raises `NotStoredError`."""
        with _translated():
            if length is None:
                value = self._command("GET", self._prefix + key)
            else:
                value = self._command("GETRANGE", self._prefix + key, 0, length - 1)
        # The beginning of an absent value is empty, and no value of ours is.
        if not value:
            raise NotStoredError(f"no value {key}")
        return bytes(value)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete values. The server frees their memory in the background."""
        if keys:
            with _translated():
                self._command("UNLINK", *(self._prefix + key for key in keys))

    def list(self) -> Iterator[tuple[str, int]]:
        """Return all keys and lengths."""
        cursor = 0
        pattern = f"{self._prefix}scaler-*"
        with _translated():
            while True:
                scanned = self._command("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT, "TYPE", "string")
                cursor, found = int(scanned[0]), scanned[1]
                pipeline = self._client.pipeline(transaction=False)
                for key in found:
                    pipeline.strlen(key)
                for key, length in zip(found, pipeline.execute(), strict=True):
                    yield key.decode().removeprefix(self._prefix), length
                if cursor == 0:
                    return

    def find_lease(self, key: str, seconds: float) -> Found | None:
        """See `LeaseStore`. The server itself forgets it when its time is over."""
        with _translated():
            value = self._command("GET", self._prefix + key)
            left = int(self._command("PTTL", self._prefix + key))
        return None if value is None or left == _NO_KEY else Found(bytes(value), seconds - max(left, 0) / 1000)

    def replace_lease(self, key: str, before: bytes | None, after: bytes, seconds: float) -> bool:
        """See `LeaseStore`."""
        name, milliseconds = self._prefix + key, int(seconds * 1000)
        with _translated(), self._client.pipeline() as pipeline:
            watch: Callable[[str], Any] = pipeline.watch
            try:
                watch(name)
                if pipeline.get(name) != before:
                    return False
                pipeline.multi()
                pipeline.set(name, after, px=milliseconds)
                pipeline.execute()
            except redis.WatchError:
                return False
            except (redis.exceptions.OutOfMemoryError, redis.exceptions.ExecAbortError):
                # A full server lets a value live longer, and takes in no other one.
                if before is None or not self._command("PEXPIRE", name, milliseconds):
                    raise
        return True

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        self._pool.disconnect(inuse_connections=False)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise _translation(error) from error


def _translation(error: redis.RedisError) -> TierError:
    text = str(error) or type(error).__name__
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return TierFullError(f"the server is full: {text}")
    if isinstance(error, _REJECTED) or any(part in text for part in _REJECTED_TEXTS):
        return RejectedError(text)
    return TierUnavailableError(text)
