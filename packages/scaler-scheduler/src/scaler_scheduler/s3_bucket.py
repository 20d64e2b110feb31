"""A few requests to a bucket of S3, for one thread that asks one thing at a time. Credentials come from the environment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, NotSupportedError
from obstore.store import S3Store

from scaler_protocol.service.storage_url import S3Url
from scaler_scheduler.journal_store import JournalStoreError

if TYPE_CHECKING:
    from obstore.store import S3Config

CONNECT_SECONDS = 5.0
LISTED_AT_ONCE = 1000
DELETED_AT_ONCE = 1000

UNCONDITIONAL_TEXT = (
    "this store does not know the condition that a value is new (If-None-Match: *), so jobs cannot be kept there"
)

_METADATA_SERVICE = "169.254.169.254"
_DETAILS = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", re.DOTALL)
_TEXT_CHARACTERS = 300


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
        config: S3Config = {}
        if endpoint is not None:
            config["endpoint"] = endpoint
        with _translated():
            self._store = S3Store(
                url.bucket,
                prefix=url.prefix or None,
                config=config,
                client_options={
                    "timeout": timedelta(seconds=request_seconds),
                    "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, request_seconds)),
                    "allow_http": endpoint is not None and endpoint.startswith("http://"),
                },
                # Whoever asks does so again soon.
                retry_config={"max_retries": 0},
            )

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
        raise JournalStoreError(_text_of(error)) from None


def _text_of(error: Exception) -> str:
    text = " ".join(str(error).split())
    if _METADATA_SERVICE in text:
        # The last place where the library looks for credentials; it means nothing to people on other machines.
        return "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    details = _DETAILS.search(text)
    said = f"{details[1]}: {details[2]}" if details is not None else text.partition(" Debug source:")[0]
    return said[:_TEXT_CHARACTERS] or type(error).__name__
