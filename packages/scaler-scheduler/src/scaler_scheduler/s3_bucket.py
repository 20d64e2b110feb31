"""A few requests to a bucket of S3, for one thread that asks one thing at a time. Credentials come from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, NotSupportedError

from scaler_protocol.service.s3_client import make_s3_client, text_of
from scaler_protocol.service.storage_url import S3Url
from scaler_scheduler.journal_store import JournalStoreError

LISTED_AT_ONCE = 1000
DELETED_AT_ONCE = 1000

UNCONDITIONAL_TEXT = (
    "this store does not know the condition that a value is new (If-None-Match: *), so jobs cannot be kept there"
)


@dataclass(slots=True, frozen=True)
class Listed:
    """A value as a listing has it."""

    key: str
    size: int
    modified: datetime
    """By the store's clock."""


class S3Bucket:
    """The values below a prefix. All methods raise JournalStoreError."""

    def __init__(self, url: S3Url, endpoint: str | None, request_seconds: float) -> None:
        """`endpoint`: the URL of a store other than AWS. `request_seconds`: what the store may take to answer."""
        with _translated():
            self._store = make_s3_client(url, endpoint, request_seconds)

    def put_new(self, key: str, value: bytes) -> bool:
        """Store a value, or return False: there is one of this key."""
        with _translated():
            try:
                obstore.put(self._store, key, value, use_multipart=False, mode="create")
            except AlreadyExistsError:
                return False
            except BaseError as error:
                if not isinstance(error, NotSupportedError) and "NotImplemented" not in str(error):
                    raise
                raise JournalStoreError(UNCONDITIONAL_TEXT) from None
        return True

    def put(self, key: str, value: bytes) -> None:
        """Store a value, in place of one that is there."""
        with _translated():
            obstore.put(self._store, key, value, use_multipart=False)

    def get(self, key: str) -> bytes | None:
        """Return a value, or None where there is none."""
        with _translated():
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except (NotFoundError, FileNotFoundError) as error:
                _require_bucket(error)
                return None

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return values, all of them asked for at once."""
        return asyncio.run(self._get_all(keys))

    async def _get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return await asyncio.gather(*map(self._get_one, keys))

    async def _get_one(self, key: str) -> bytes | None:
        with _translated():
            try:
                found = await obstore.get_async(self._store, key)
                return bytes(await found.bytes_async())
            except (NotFoundError, FileNotFoundError) as error:
                _require_bucket(error)
                return None

    def list(self, prefix: str) -> list[Listed]:
        """Return what there is below a prefix."""
        with _translated():
            pages = obstore.list(self._store, prefix=prefix, chunk_size=LISTED_AT_ONCE)
            return [Listed(one["path"], one["size"], one["last_modified"]) for page in pages for one in page]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete values, if they are there: no more than `DELETED_AT_ONCE`."""
        with _translated():
            try:
                obstore.delete(self._store, list(keys))
            except (NotFoundError, FileNotFoundError) as error:
                _require_bucket(error)


def _require_bucket(error: Exception) -> None:
    """Without a bucket, it is not only this value that is missing."""
    if "NoSuchBucket" in str(error):
        raise error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    # The library raises FileNotFoundError and ValueError, too.
    except (BaseError, OSError, ValueError) as error:
        raise JournalStoreError(text_of(error) or type(error).__name__) from None
