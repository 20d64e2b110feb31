"""Values in a bucket of S3, or of a store that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from scaler_objstore.tiers.lease import Found
from scaler_objstore.tiers.port import NotStoredError, TierError, TierFullError, TierUnavailableError
from scaler_objstore.tiers.values import RejectedError
from scaler_protocol.service.s3_client import lacks_credentials, make_s3_client, text_of
from scaler_protocol.service.storage_url import S3Url
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from obstore import PutMode

PART_BYTES = 16 * 1024 * 1024
"""Large enough that a request's own time hardly counts, and small enough that it ends in time on a slow link."""

CONCURRENCY = 8
LISTED_AT_ONCE = 1000
PROBE = "scaler-probe"
CLOCK = "scaler-clock"
"""Written to learn what time it is in the store."""

_FULL = ("QuotaExceeded", "StorageFull", "InsufficientStorage", " 507 ")
_REJECTED = (
    "NoSuchBucket",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "AllAccessDisabled",
    "PermanentRedirect",
    "MethodNotAllowed",
    " 403 Forbidden",
    "invalid peer certificate",
)
"""Texts of errors that do not pass. The library has no classes for most of them."""


class S3Values:
    """A `ValueStore` below a prefix of a bucket. Credentials come from the environment, as AWS names them."""

    part_bytes = PART_BYTES
    concurrency = CONCURRENCY

    def __init__(self, url: S3Url, endpoint: str | None, request_seconds: float) -> None:
        """`endpoint`: the URL of a store other than AWS. Raises `TierError`."""
        self._url = url
        try:
            with _translated():
                self._store = make_s3_client(url, endpoint, request_seconds)
        except ValueError as error:
            raise RejectedError(str(error)) from None

    def __str__(self) -> str:
        return str(self._url)

    def check(self) -> str:
        """Store, read and delete a value."""
        self.put(PROBE, b"probe")
        if bytes(self.get(PROBE)) != b"probe":
            raise TierUnavailableError("it returned other bytes than were stored")
        self.delete([PROBE])
        return ""

    def put(self, key: str, value: Frame) -> None:
        """Store a value in one request. Large records come in parts already."""
        with _translated():
            obstore.put(self._store, key, value, use_multipart=False)

    def get(self, key: str, length: int | None = None) -> Frame:
        """Return a value or its beginning. Raises `NotStoredError`."""
        with _translated():
            if length is None:
                return memoryview(obstore.get(self._store, key).bytes())
            return memoryview(obstore.get_range(self._store, key, start=0, length=length))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete values, a thousand in one request."""
        if keys:
            with _translated():
                try:
                    obstore.delete(self._store, list(keys))
                except (NotFoundError, FileNotFoundError) as error:
                    if "NoSuchBucket" in str(error):
                        raise

    def list(self) -> Iterator[tuple[str, int]]:
        """Return all keys and lengths."""
        with _translated():
            for page in obstore.list(self._store, chunk_size=LISTED_AT_ONCE):
                for found in page:
                    yield found["path"], found["size"]

    def find_lease(self, key: str, seconds: float) -> Found | None:
        """See `LeaseStore`. Both times are the store's, in whole seconds: a probe tells what time it is there."""
        with _translated():
            try:
                got = obstore.get(self._store, key)
                value, written = bytes(got.bytes()), got.meta["last_modified"]
            except (NotFoundError, FileNotFoundError) as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
        try:
            with _translated():
                obstore.put(self._store, CLOCK, b"now", use_multipart=False)
                now = obstore.head(self._store, CLOCK)["last_modified"]
        except TierError:
            # It takes in nothing, so no other lease either.
            return Found(value, 0.0)
        return Found(value, max(0.0, (now - written).total_seconds() - 1.0))

    def replace_lease(self, key: str, before: bytes | None, after: bytes, seconds: float) -> bool:
        """See `LeaseStore`. A store that knows no conditions is asked without them."""
        with _translated():
            try:
                mode = self._mode(key, before)
                if mode is None:
                    return False
                obstore.put(self._store, key, after, use_multipart=False, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                return False
            except BaseError as error:
                if not isinstance(error, NotSupportedError) and "NotImplemented" not in str(error):
                    raise
                obstore.put(self._store, key, after, use_multipart=False)
        return True

    def _mode(self, key: str, before: bytes | None) -> PutMode | None:
        """Return the condition that a value is still `before`; None if it is not."""
        if before is None:
            return "create"
        got = obstore.get(self._store, key)
        tag = got.meta["e_tag"]
        if bytes(got.bytes()) != before:
            return None
        return {"e_tag": tag} if tag is not None else "overwrite"

    def close(self) -> None:
        """Do nothing: connections that are not used close themselves."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    # The library raises FileNotFoundError, too.
    except (BaseError, OSError) as error:
        raise _translation(error) from None


def _translation(error: BaseError | OSError) -> TierError:
    text, said = " ".join(str(error).split()), text_of(error)
    if lacks_credentials(error):
        return RejectedError(said)
    if any(part in text for part in _FULL):
        return TierFullError(f"the store is full: {said}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or any(part in text for part in _REJECTED):
        return RejectedError(said)
    if isinstance(error, NotFoundError | FileNotFoundError):
        return NotStoredError(said)
    return TierUnavailableError(said)
