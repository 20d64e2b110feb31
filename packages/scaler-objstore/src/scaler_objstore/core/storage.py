"""Storage of contents. The core knows contents by their keys only, and not where they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NewType, Protocol

from scaler_protocol.objects.comparison import same_buffers
from scaler_protocol.wire.envelope import Frame

StorageKey = NewType("StorageKey", int)
"""Identifies one content in its storage. A key is never reused."""

Buffers = Sequence[Frame]
"""The content of an object: a header and any number of raw buffers, never joined."""

CONTENT_OVERHEAD_BYTES = 500
BUFFER_OVERHEAD_BYTES = 200


class StorageFullError(Exception):
    """There is not enough room; nothing has changed. The text says how much is used of how much."""


class Storage(Protocol):
    """Keeps immutable contents until they are removed, within a limit of its own."""

    @property
    def used_bytes(self) -> int:
        """Bytes that the contents use, bookkeeping included."""

    @property
    def limit_bytes(self) -> int:
        """Bytes that the contents may use."""

    def add(self, buffers: Buffers) -> StorageKey:
        """Store `buffers` without copying them, and return their key. Raises StorageFullError."""

    def read(self, key: StorageKey) -> Buffers:
        """Return the buffers of a content."""

    def holds(self, key: StorageKey, buffers: Buffers) -> bool:
        """Whether a content has the same number of buffers, with the same bytes."""

    def remove(self, key: StorageKey) -> None:
        """Forget a content and free its room."""


def content_bytes(buffers: Buffers) -> int:
    """Return how many bytes of memory `buffers` use, bookkeeping included."""
    return CONTENT_OVERHEAD_BYTES + sum(BUFFER_OVERHEAD_BYTES + len(buffer) for buffer in buffers)


class MemoryStorage:
    """A `Storage` in memory. It keeps the buffers that arrived, which may be views of a segment."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._contents: dict[StorageKey, Buffers] = {}
        self._used_bytes = 0
        self._last_key = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of all contents."""
        return self._used_bytes

    @property
    def limit_bytes(self) -> int:
        """The largest number of bytes it holds."""
        return self._limit_bytes

    def add(self, buffers: Buffers) -> StorageKey:
        """Keep these buffers and return their key. Raises `StorageFullError` if they exceed the limit."""
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
        """Return the buffers of a key."""
        return self._contents[key]

    def holds(self, key: StorageKey, buffers: Buffers) -> bool:
        """Return whether the buffers of a key equal these."""
        return same_buffers(self._contents[key], buffers)

    def remove(self, key: StorageKey) -> None:
        """Forget the buffers of a key."""
        self._used_bytes -= content_bytes(self._contents.pop(key))
