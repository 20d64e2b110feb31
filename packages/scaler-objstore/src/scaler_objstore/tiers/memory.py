"""A tier in this process's own memory. It ends with the process; for tests, and as the plainest example of the port."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from scaler_objstore.tiers.port import NotStoredError, Record, StoredRecord, TierFullError, check_name
from scaler_protocol.wire.envelope import Frame


class MemoryTier:
    """A `Tier` that keeps copies, up to `limit_bytes` (default: without a limit)."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._records: dict[str, Record] = {}
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes of all headers and buffers."""
        return self._used_bytes

    def write(self, name: str, header: bytes, buffers: Sequence[Frame]) -> None:
        """Keep a copy of a record. Raises `TierFullError` beyond the limit."""
        check_name(name)
        record = Record(bytes(header), [bytes(buffer) for buffer in buffers])
        with self._lock:
            before = self._records.get(name)
            used = self._used_bytes + _size(record) - (_size(before) if before is not None else 0)
            if self._limit_bytes is not None and used > self._limit_bytes:
                raise TierFullError(
                    f"{_size(record)} bytes do not fit in memory: {self._used_bytes} of {self._limit_bytes} are used"
                )
            self._records[name] = record
            self._used_bytes = used

    def read(self, name: str) -> Record:
        """Return a record. Raises `NotStoredError`."""
        record = self._records.get(name)
        if record is None:
            raise NotStoredError(f"no record {name} in memory")
        return record

    def delete(self, names: Sequence[str]) -> None:
        """Forget these records."""
        with self._lock:
            for name in names:
                record = self._records.pop(name, None)
                if record is not None:
                    self._used_bytes -= _size(record)

    def records(self) -> Iterator[StoredRecord]:
        """Return all records."""
        with self._lock:
            found = list(self._records.items())
        return (StoredRecord(name, record.header, _size(record)) for name, record in found)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def _size(record: Record) -> int:
    return len(record.header) + sum(len(buffer) for buffer in record.buffers)
