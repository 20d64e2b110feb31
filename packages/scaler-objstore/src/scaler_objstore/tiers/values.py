"""The port of a remote store of values by key, as far as `remote` needs it. Redis and S3 have one each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from scaler_objstore.tiers.port import TierUnavailableError
from scaler_protocol.wire.envelope import Frame


class RejectedError(TierUnavailableError):
    """The store does not let us: a wrong password, no permission, no such bucket, or it is read-only. Asking again is useless."""


class ValueStore(Protocol):
    """Values by key. Each call is one request with a deadline, may be made in any thread, and raises only `TierError`.

    Keys are short texts of letters, digits and slashes.
    """

    part_bytes: int
    """Longest part of a record, in bytes."""

    concurrency: int
    """How many parts are worth sending at once."""

    def __str__(self) -> str:
        """The store as logs and errors name it: without secrets."""

    def check(self) -> str:
        """Try all that is needed. Returns a warning for the operator, or an empty text. Raises `TierError`."""

    def put(self, key: str, value: Frame) -> None:
        """Store one value, whole or not at all. Raises `TierFullError` or `TierUnavailableError`."""

    def get(self, key: str, length: int | None = None) -> Frame:
        """Return a value, or its first `length` bytes. Raises `NotStoredError`."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete these values. One that does not exist is no error."""

    def list(self) -> Iterator[tuple[str, int]]:
        """Return all keys, with the length of each value."""

    def close(self) -> None:
        """Close connections. Requests under way end by themselves, at their time limit at the latest."""
