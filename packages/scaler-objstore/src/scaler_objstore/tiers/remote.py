"""A tier in a remote store of values: Redis, Valkey, or S3 and its kin.

    scaler-records/NAME                  the manifest of a record and its last part
    scaler-parts/NAME/STAMP/NUMBER       its other parts

The parts are written first, under names that no other write has. The value that names them comes last and makes the record
whole, so a crash in between leaves parts that nothing names. The next start deletes them.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from scaler_objstore.tiers.manifest import (
    STAMP_BYTES,
    Manifest,
    checksum_of,
    cut,
    manifest_bytes,
    pack_manifest,
    pieces_of,
    unpack_manifest,
)
from scaler_objstore.tiers.patience import Patience
from scaler_objstore.tiers.port import (
    DamagedError,
    NotStoredError,
    Record,
    StoredRecord,
    TierError,
    TierUnavailableError,
    check_name,
    is_name,
)
from scaler_objstore.tiers.values import ValueStore
from scaler_protocol.wire.envelope import Frame

logger = logging.getLogger(__name__)

RECORDS = "scaler-records/"
PARTS = "scaler-parts/"

RETRY_SECONDS = 20.0
"""How long requests of one operation are repeated."""

FIRST_BYTES = 4096
"""How much of a record is read for its manifest. Most manifests are shorter."""

DELETED_AT_ONCE = 1000
"""Most keys in one request to delete."""

LEFTOVERS_MAX = 100_000
DOUBTFUL_MAX = 10_000
"""Most keys, and most names with such keys, that are remembered for deleting them later. The next start finds the others."""

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class _Stored:
    """A record of ours."""

    size_bytes: int
    parts: tuple[str, ...]


class RemoteTier:
    """A `Tier` in a `ValueStore`. All calls together have as many parts on their way as the store's `concurrency`."""

    def __init__(self, values: ValueStore, retry_seconds: float = RETRY_SECONDS, part_bytes: int | None = None) -> None:
        """`part_bytes`: length of the parts of records (default: what suits the store)."""
        self._values = values
        self._part_bytes = part_bytes if part_bytes is not None else values.part_bytes
        self._patience = Patience(retry_seconds)
        self._pool = concurrent.futures.ThreadPoolExecutor(values.concurrency, "scaler-tier-parts")
        self._lock = threading.Lock()
        self._stored: dict[str, _Stored] = {}
        self._used_bytes = 0
        # Parts of writes whose end is unknown. A record of this name may have them, until it is written again or deleted.
        self._doubtful: dict[str, tuple[str, ...]] = {}
        self._leftovers: deque[str] = deque(maxlen=LEFTOVERS_MAX)

    def __str__(self) -> str:
        return str(self._values)

    @property
    def used_bytes(self) -> int:
        """Bytes of all records, with their manifests."""
        return self._used_bytes

    def check(self) -> str:
        """Try whether the store can be used. Returns a warning, or an empty text. Raises `TierError`."""
        return self._patience.ask(self._values.check, self._patience.deadline())

    def write(self, name: str, header: bytes, buffers: Sequence[Frame]) -> None:
        """Store a record in parts. Raises `TierFullError` or `TierUnavailableError`."""
        check_name(name)
        deadline = self._patience.deadline()
        manifest = Manifest(
            bytes(header),
            tuple(map(len, buffers)),
            checksum_of(buffers),
            os.urandom(STAMP_BYTES),
            self._part_bytes,
        )
        head = pack_manifest(manifest)
        parts = tuple(_part_key(name, manifest.stamp, number) for number in range(manifest.parts))
        try:
            self._all_at_once([partial(self._put, key, number, buffers, deadline) for number, key in enumerate(parts)])
        except TierError as error:
            self._forget(parts)
            raise _about(error, name, self) from error
        rest = pieces_of(buffers, manifest.total_bytes - manifest.rest_bytes, manifest.total_bytes)
        value = b"".join([head, *rest])
        try:
            self._patience.ask(lambda: self._values.put(_record_key(name), value), deadline)
        except TierError as error:
            self._withdraw(name, parts)
            raise _about(error, name, self) from error
        self._forget(self._note(name, _Stored(len(head) + manifest.total_bytes, parts)))

    def read(self, name: str) -> Record:
        """Read a record with all its parts. Raises `NotStoredError`, `DamagedError` or `TierUnavailableError`."""
        deadline = self._patience.deadline()
        try:
            value = self._patience.ask(lambda: self._values.get(_record_key(name)), deadline)
            manifest = unpack_manifest(value)
            rest = memoryview(value).toreadonly()[manifest_bytes(value) :]
            if len(rest) != manifest.rest_bytes:
                raise DamagedError(f"{len(rest)} bytes follow its manifest instead of {manifest.rest_bytes}")
            joined = self._join(name, manifest, rest, deadline) if manifest.parts else rest
            buffers = cut(joined, manifest.lengths)
            if checksum_of(buffers) != manifest.checksum:
                raise DamagedError("its bytes have another checksum")
        except NotStoredError:
            raise NotStoredError(f"no record {name} in {self}") from None
        except TierError as error:
            raise _about(error, name, self) from error
        return Record(manifest.header, buffers)

    def delete(self, names: Sequence[str]) -> None:
        """Delete these records, and what else was left to delete. Raises `TierUnavailableError`."""
        deadline = self._patience.deadline()
        for first in range(0, len(names), DELETED_AT_ONCE):
            some = names[first : first + DELETED_AT_ONCE]
            keys = [_record_key(name) for name in some]
            self._patience.ask(partial(self._values.delete, keys), deadline)
            self._forget([part for name in some for part in self._note(name, None)])

    def records(self) -> Iterator[StoredRecord]:
        """Return all records, and delete what is damaged or left over. Raises `TierUnavailableError`."""
        deadline = self._patience.deadline()
        lengths = self._patience.ask(lambda: dict(self._values.list()), deadline)
        names = [name for key in lengths if key.startswith(RECORDS) and is_name(name := key.removeprefix(RECORDS))]
        manifests = self._all_at_once([partial(self._manifest, name, lengths) for name in names])
        found: list[StoredRecord] = []
        unnamed = {key for key in lengths if key.startswith(PARTS)}
        damaged: list[str] = []
        for name, manifest in zip(names, manifests, strict=True):
            if manifest is None:
                damaged.append(name)
                continue
            parts = tuple(_part_key(name, manifest.stamp, number) for number in range(manifest.parts))
            unnamed.difference_update(parts)
            size = lengths[_record_key(name)] + manifest.parts * manifest.part_bytes
            self._note(name, _Stored(size, parts))
            found.append(StoredRecord(name, manifest.header, size))
        self._delete_all([*map(_record_key, damaged), *unnamed], deadline)
        if damaged or unnamed:
            logger.warning(
                "%s: deleted %d damaged records, and %d parts of records that were never finished",
                self,
                len(damaged),
                len(unnamed),
            )
        return iter(found)

    def close(self) -> None:
        """Close connections. Operations under way make no further requests."""
        self._patience.close()
        self._values.close()
        # What waits in the pool ends at once. Cancelled, it would never end for those who wait for it.
        self._pool.shutdown(wait=False)

    def _put(self, key: str, number: int, buffers: Sequence[Frame], deadline: float) -> None:
        start = number * self._part_bytes
        pieces = pieces_of(buffers, start, start + self._part_bytes)
        # Joined here and not before, so that no more parts take memory than are sent at once.
        value = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._patience.ask(lambda: self._values.put(key, value), deadline)

    def _join(self, name: str, manifest: Manifest, rest: memoryview, deadline: float) -> memoryview:
        joined = memoryview(bytearray(manifest.total_bytes))
        joined[manifest.parts * manifest.part_bytes :] = rest

        def fetch(number: int) -> None:
            key = _part_key(name, manifest.stamp, number)
            try:
                part = self._patience.ask(lambda: self._values.get(key), deadline)
            except NotStoredError:
                raise DamagedError(f"part {number} of {manifest.parts} is missing") from None
            if len(part) != manifest.part_bytes:
                raise DamagedError(f"part {number} has {len(part)} bytes instead of {manifest.part_bytes}")
            start = number * manifest.part_bytes
            joined[start : start + manifest.part_bytes] = memoryview(part)

        self._all_at_once([partial(fetch, number) for number in range(manifest.parts)])
        return joined.toreadonly()

    def _manifest(self, name: str, lengths: dict[str, int]) -> Manifest | None:
        """Return the manifest of a record, or None unless all its values are there with the right lengths."""
        key = _record_key(name)
        deadline = self._patience.deadline()
        try:
            start = self._patience.ask(lambda: self._values.get(key, FIRST_BYTES), deadline)
            length = manifest_bytes(start)
            if len(start) < length <= lengths[key]:
                start = self._patience.ask(lambda: self._values.get(key, length), deadline)
            manifest = unpack_manifest(start)
        except (DamagedError, NotStoredError):
            return None
        parts = (_part_key(name, manifest.stamp, number) for number in range(manifest.parts))
        whole = lengths[key] == length + manifest.rest_bytes and all(
            lengths.get(part) == manifest.part_bytes for part in parts
        )
        return manifest if whole else None

    def _all_at_once(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Return what all calls return. The first that raises ends those that have not begun, and its error is raised."""
        if len(calls) <= 1:
            return [call() for call in calls]
        try:
            futures = [self._pool.submit(call) for call in calls]
        except RuntimeError:
            raise TierUnavailableError("it was closed") from None
        done, _ = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
        failed = any(not future.cancelled() and future.exception() is not None for future in done)
        if failed:
            for future in futures:
                future.cancel()
            # Parts that are on their way would arrive after they were deleted.
            concurrent.futures.wait(futures)
        try:
            return [future.result() for future in futures]
        except concurrent.futures.CancelledError:
            raise next(
                (error for future in futures if not future.cancelled() and (error := future.exception()) is not None),
                TierUnavailableError("it was closed"),
            ) from None

    def _note(self, name: str, stored: _Stored | None) -> tuple[str, ...]:
        """Note what is stored under a name now. Returns the parts that no record has any more."""
        with self._lock:
            before = self._stored.pop(name, None)
            unused = self._doubtful.pop(name, ())
            if before is not None:
                unused += before.parts
                self._used_bytes -= before.size_bytes
            if stored is not None:
                self._stored[name] = stored
                self._used_bytes += stored.size_bytes
        return unused

    def _withdraw(self, name: str, parts: tuple[str, ...]) -> None:
        """Undo a write whose last request failed. It may have been done all the same."""
        if name not in self._stored:
            try:
                self._patience.ask(lambda: self._values.delete([_record_key(name)]), time.monotonic())
                self._forget(parts)
                return
            except TierError:
                pass
        with self._lock:
            if parts and len(self._doubtful) < DOUBTFUL_MAX:
                self._doubtful[name] = self._doubtful.get(name, ()) + parts

    def _forget(self, keys: Sequence[str]) -> None:
        """Delete keys that nothing names. If the store does not answer, try again after the next success."""
        with self._lock:
            self._leftovers.extend(keys)
            some = [self._leftovers.popleft() for _ in range(min(DELETED_AT_ONCE, len(self._leftovers)))]
        if not some:
            return
        try:
            self._patience.ask(lambda: self._values.delete(some), time.monotonic())
        except TierError:
            with self._lock:
                self._leftovers.extend(some)

    def _delete_all(self, keys: Sequence[str], deadline: float) -> None:
        for first in range(0, len(keys), DELETED_AT_ONCE):
            self._patience.ask(partial(self._values.delete, keys[first : first + DELETED_AT_ONCE]), deadline)


def _record_key(name: str) -> str:
    return f"{RECORDS}{name}"


def _part_key(name: str, stamp: bytes, number: int) -> str:
    return f"{PARTS}{name}/{stamp.hex()}/{number:06}"


def _about(error: TierError, name: str, tier: RemoteTier) -> TierError:
    """Return the same error, with the names of record and tier."""
    return type(error)(f"record {name} in {tier}: {error}")
