"""Where contents are kept. The core names them by keys of the storage, and knows nothing else about where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NewType, Protocol

from scaler_protocol.objects.comparison import same_buffers
from scaler_protocol.wire.envelope import Frame

StorageKey = NewType("StorageKey", int)
"""Names one content in its storage. Never used again after the content was removed."""

Buffers = Sequence[Frame]
"""The content of an object: a header and any number of raw buffers, never joined."""

CONTENT_OVERHEAD_BYTES = 500
BUFFER_OVERHEAD_BYTES = 200


class StorageFullError(Exception):
    """There is no room; nothing was changed. The message is one sentence that says how much is used of how much."""


class Storage(Protocol):
    """Keeps immutable contents until they are removed, within a limit of its own."""

    @property
    def used_bytes(self) -> int:
        """What the contents take up, bookkeeping included."""

    @property
    def limit_bytes(self) -> int:
        """What they may take up."""

    def add(self, buffers: Buffers) -> StorageKey:
        """Keep `buffers` as they are, without copying. Raises StorageFullError."""

    def read(self, key: StorageKey) -> Buffers:
        """Return the buffers of a content."""

    def holds(self, key: StorageKey, buffers: Buffers) -> bool:
        """Whether a content equals `buffers`: as many, with the same bytes each."""

    def remove(self, key: StorageKey) -> None:
        """Forget a content and free its room."""


def content_bytes(buffers: Buffers) -> int:
    """Return how many bytes `buffers` take up in memory, bookkeeping included."""
    return CONTENT_OVERHEAD_BYTES + sum(BUFFER_OVERHEAD_BYTES + len(buffer) for buffer in buffers)


class MemoryStorage:
    """Contents in memory, in the very buffers they arrived in, which may be views of a segment. A `Storage`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._contents: dict[StorageKey, Buffers] = {}
        self._used_bytes = 0
        self._last_key = 0

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    def add(self, buffers: Buffers) -> StorageKey:
        size = content_bytes(buffers)
        if self._used_bytes + size > self._limit_bytes:
            raise StorageFullError(
                f"object storage is full: {size} bytes do not fit, {self._used_bytes} of {self._limit_bytes} are used"
            )
        self._last_key += 1
        key = StorageKey(self._last_key)
        self._contents[key] = buffers
        self._used_bytes += size
        return key

    def read(self, key: StorageKey) -> Buffers:
        return self._contents[key]

    def holds(self, key: StorageKey, buffers: Buffers) -> bool:
        return same_buffers(self._contents[key], buffers)

    def remove(self, key: StorageKey) -> None:
        self._used_bytes -= content_bytes(self._contents.pop(key))
