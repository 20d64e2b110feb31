"""Content addressing: identical contents are stored once, however many objects have them.

A hash finds candidates, and a comparison of the bytes decides. So a collision costs time, but never gives a client another
client's data. The hash has a random key per process, so that nobody can prepare contents that collide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scaler_objstore.core.storage import Buffers, Storage, StorageFullError, StorageKey

ContentHash = Callable[[Buffers], bytes]
"""Equal contents have equal hashes; different ones mostly different hashes."""

CANDIDATES_MAX = 8
"""How many contents of equal hash are compared, the latest first. A hash of samples may find many."""


OBJECT_BYTES = 300
"""Memory of an object whose content another one has too, about."""

SHARED_PART = 8
SHARED_BYTES_MIN = 1 << 20
"""Objects that share contents may take this part of the storage's limit beside it, and so much in any case."""


@dataclass(slots=True, eq=False)
class Content:
    """One content and how many objects share it."""

    key: StorageKey
    digest: bytes
    size_bytes: int
    place: bytes
    """Where peers on this machine can map it; empty: nowhere."""
    references: int = 0


class Contents:
    """All contents by hash, with the storage that keeps their bytes."""

    def __init__(self, storage: Storage, content_hash: ContentHash) -> None:
        self._storage = storage
        self._hash = content_hash
        self._by_digest: dict[bytes, list[Content]] = {}
        self._shared = 0
        """Objects beyond the first one of each content."""

    def acquire(self, buffers: Buffers, place: bytes = b"", *, compare: bool = True) -> Content:
        """Return the content equal to `buffers`, and store it if there is none. Raises StorageFullError.

        `place` says where the buffers lie in a segment; empty: they do not. Without `compare` they are always stored as a
        new content. Their digest is then `place`, which no other content has.
        """
        digest = self._hash(buffers) if compare else place
        candidates = self._by_digest.get(digest, [])
        for content in candidates[: -CANDIDATES_MAX - 1 : -1]:
            if self._storage.holds(content.key, buffers):
                self._share(content)
                return content
        key = self._storage.add(buffers)
        content = Content(key, digest, sum(len(buffer) for buffer in buffers), place, references=1)
        self._by_digest.setdefault(digest, []).append(content)
        return content

    def _share(self, content: Content) -> None:
        # Such an object stores nothing, but the tables of objects must not grow without end.
        if (self._shared + 1) * OBJECT_BYTES > max(SHARED_BYTES_MIN, self._storage.limit_bytes // SHARED_PART):
            raise StorageFullError(f"object storage is full: {self._shared} objects have the contents of others")
        self._shared += 1
        content.references += 1

    def release(self, content: Content) -> None:
        """Give up one reference; the last one frees the bytes."""
        content.references -= 1
        if content.references:
            self._shared -= 1
            return
        same_digest = self._by_digest[content.digest]
        same_digest.remove(content)
        if not same_digest:
            del self._by_digest[content.digest]
        self._storage.remove(content.key)

    def read(self, content: Content) -> Buffers:
        """Return the buffers of `content`."""
        return self._storage.read(content.key)

    def holds(self, content: Content, buffers: Buffers) -> bool:
        """Whether `content` equals `buffers`, byte for byte."""
        return self._storage.holds(content.key, buffers)

    @property
    def used_bytes(self) -> int:
        """How many bytes the storage uses."""
        return self._storage.used_bytes

    @property
    def limit_bytes(self) -> int:
        """How many bytes the storage may use."""
        return self._storage.limit_bytes

    def all(self) -> list[Content]:
        """Return every content there is."""
        return [content for same_digest in self._by_digest.values() for content in same_digest]
