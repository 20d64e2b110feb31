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


class TooManySharedError(StorageFullError):
    """Too many objects have the contents of others. Room for bytes would not help."""


@dataclass(slots=True, eq=False)
class Content:
    """One content and the objects that share it."""

    key: StorageKey | None
    """Its bytes in memory; None: they are only in the tier below."""
    digest: bytes
    lengths: tuple[int, ...]
    """The bytes of each buffer."""
    place: bytes
    """Where peers on this machine can map it; empty: nowhere."""
    object_ids: set[bytes]
    accepts_objects: bool = True
    """Whether further objects may share it."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all buffers together."""
        return sum(self.lengths)


class Contents:
    """All contents by hash, with the storage that keeps the bytes of those in memory."""

    def __init__(self, storage: Storage, content_hash: ContentHash) -> None:
        self._storage = storage
        self._hash = content_hash
        self._by_digest: dict[bytes, list[Content]] = {}
        self._shared = 0
        """Objects beyond the first one of each content."""

    def acquire(self, object_id: bytes, buffers: Buffers, place: bytes = b"", *, compare: bool = True) -> Content:
        """Return the content equal to `buffers`, and store it if there is none. Raises StorageFullError.

        Only contents in memory are compared: reading others back would delay everybody.

        `place` says where the buffers lie in a segment; empty: they do not. Without `compare` they are always stored as a
        new content. Their digest is then `place`, which no other content has.
        """
        digest = self._hash(buffers) if compare else place
        candidates = self._by_digest.get(digest, [])
        for content in candidates[: -CANDIDATES_MAX - 1 : -1]:
            if content.key is not None and content.accepts_objects and self._storage.holds(content.key, buffers):
                self._share(content, object_id)
                return content
        key = self._storage.add(buffers)
        return self._register(Content(key, digest, tuple(map(len, buffers)), place, {object_id}))

    def add_stored(self, name: str, lengths: tuple[int, ...], object_ids: set[bytes]) -> Content:
        """Add a content that is in the tier below under `name`, and not in memory. It is never searched."""
        return self._register(Content(None, name.encode(), lengths, b"", object_ids, accepts_objects=False))

    def _register(self, content: Content) -> Content:
        self._by_digest.setdefault(content.digest, []).append(content)
        return content

    def _share(self, content: Content, object_id: bytes) -> None:
        # Such an object stores nothing, but the tables of objects must not grow without end.
        if (self._shared + 1) * OBJECT_BYTES > max(SHARED_BYTES_MIN, self._storage.limit_bytes // SHARED_PART):
            raise TooManySharedError(f"object storage is full: {self._shared} objects have the contents of others")
        self._shared += 1
        content.object_ids.add(object_id)

    def close(self, content: Content) -> None:
        """No further object may have this content: what is written below names those that have it now."""
        content.accepts_objects = False

    def drop_from_memory(self, content: Content) -> None:
        """Free the memory of a content that is in the tier below."""
        assert content.key is not None
        self._storage.remove(content.key)
        content.key = None
        content.place = b""

    def bring_back(self, content: Content, buffers: Buffers, place: bytes) -> None:
        """Keep the bytes of a content in memory again. Raises StorageFullError."""
        content.key = self._storage.add(buffers)
        content.place = place

    def release(self, content: Content, object_id: bytes) -> bool:
        """One object fewer has this content. Returns whether it was the last one: then the bytes are freed."""
        content.object_ids.remove(object_id)
        if content.object_ids:
            self._shared -= 1
            return False
        same_digest = self._by_digest[content.digest]
        same_digest.remove(content)
        if not same_digest:
            del self._by_digest[content.digest]
        if content.key is not None:
            self._storage.remove(content.key)
        return True

    def read(self, content: Content) -> Buffers:
        """Return the buffers of a content that is in memory."""
        assert content.key is not None
        return self._storage.read(content.key)

    def holds(self, content: Content, buffers: Buffers) -> bool:
        """Whether `content` equals `buffers`, byte for byte. Of one that is not in memory, the lengths are compared."""
        if content.key is None:
            return content.lengths == tuple(map(len, buffers))
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
