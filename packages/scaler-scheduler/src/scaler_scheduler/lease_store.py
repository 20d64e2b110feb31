"""The value of a lease in a Redis or Valkey server: one request at a time, each with a short time limit."""

from __future__ import annotations

from typing import Any

from scaler_protocol.service.storage_url import RedisUrl
from scaler_scheduler.core.lease import Exchange
from scaler_scheduler.redis_connection import connect

NAME = "standby-lease"
"""The key, after the URL's prefix."""

REQUEST_SHARE = 0.1
"""What the server takes to answer is at most this share of the lease, and as much to be connected to. Looking up its name may
take longer, and a new connection asks several times."""

_EXCHANGE = """
local found = redis.call('GET', KEYS[1])
if (ARGV[1] == '0' and found == false) or (ARGV[1] == '1' and found == ARGV[2]) then
    redis.call('SET', KEYS[1], ARGV[3])
    return ARGV[3]
end
return found
"""
"""In one request, so that nothing comes between and a server that hangs costs one time limit."""


class LeaseStoreError(Exception):
    """The store has not done what was asked, or not said so."""


class LeaseStore:
    """One value. `exchange` may be called in any thread, by one at a time."""

    def __init__(self, url: RedisUrl, lease_seconds: float) -> None:
        self._key = f"{url.prefix}:{NAME}"
        seconds = REQUEST_SHARE * lease_seconds
        self._pool, self._command = connect(url, seconds)

    def exchange(self, request: Exchange) -> bytes | None:
        """Do what is asked, and return what is stored then. Raises LeaseStoreError."""
        try:
            if request.after is None:
                found: Any = self._command("GET", self._key)
            else:
                has_before = b"0" if request.before is None else b"1"
                words = (self._key, has_before, request.before or b"", request.after)
                found = self._command("EVAL", _EXCHANGE, 1, *words)
        except Exception as error:
            # Whatever the library raises: if nobody asked any more, nobody would renew the lease.
            raise LeaseStoreError(str(error) or type(error).__name__) from error
        return None if found is None else bytes(found)

    def close(self) -> None:
        """Close the connection."""
        self._pool.disconnect()
