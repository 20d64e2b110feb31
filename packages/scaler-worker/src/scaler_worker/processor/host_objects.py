"""Large values of one processor: read from, and written to, what its host has of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic

from scaler_protocol.objects.segments import SEGMENT_BYTES_MIN, Lease, SegmentPool
from scaler_protocol.objects.segments.mapping_cache import MappingCache
from scaler_worker.processor.object_files import Buffer
from scaler_worker.processor.object_folders import ObjectFolders

PLACE_BYTES = 1024 * 1024
"""What a place counts as in the cache: so that there are some thousands of them at most."""

LOOKS = 4
"""Results that are looked at when one is written: more than one, so that what the server takes is noticed in time."""

HANDOVER_SECONDS = 180.0
"""A result that the server has not looked at for so long was given up: longer than any request to it takes."""


class PlaceGoneError(Exception):
    """Where the object was said to be it is not, or not any more."""


def bytes_of(buffers: Iterable[Buffer]) -> int:
    """Return how many bytes an object has, wherever they lie."""
    return sum(memoryview(buffer).nbytes for buffer in buffers)


class HostObjects:
    """The objects in the host's cache, and segments for results. Used by the processor's main thread."""

    def __init__(self, folders: ObjectFolders) -> None:
        self._folders = folders
        self._token: bytes | None = None
        self._pool: SegmentPool | None = None
        self._mappings: MappingCache | None = None
        self._untaken: list[tuple[float, Lease]] = []

    def read(self, object_id: bytes) -> Sequence[memoryview] | None:
        """Return an object's buffers, writable by this task alone; None where the host does not have it.

        Raises PlaceGoneError.
        """
        place = self._folders.read(object_id)
        if place is None:
            # It may have come just now.
            place = self._folders.read(object_id)
        if place is None or isinstance(place, list):
            return place
        if self._mappings is None:
            self._mappings = MappingCache()
        found = self._mappings.read(place)
        if found is None:
            raise PlaceGoneError
        return [memoryview(buffer) for buffer in found]

    def write(self, object_id: bytes, buffers: Sequence[Buffer]) -> int:
        """Keep an object for the agent to store; return what it counts as in the host's cache. Raises OSError.

        Its bytes are copied once: into a segment, where the object storage server is on this host and they are many.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        if sum(map(len, views)) >= SEGMENT_BYTES_MIN:
            lease = self._lease(object_id, views)
            if lease is not None:
                self._folders.write_place(object_id, lease.place)
                self._untaken.append((monotonic(), lease))
                return PLACE_BYTES
        return self._folders.write(object_id, views)

    def _lease(self, object_id: bytes, buffers: Sequence[memoryview]) -> Lease | None:
        token = self._folders.read_token()
        if token != self._token:
            if self._pool is not None:
                self._pool.close()
            self._token = token
            self._pool = SegmentPool(token) if token is not None else None
        self._let_go()
        return self._pool.write(object_id, buffers) if self._pool is not None else None

    def _let_go(self) -> None:
        """Give up the leases of results that the server holds by now, or that were given up."""
        before = monotonic() - HANDOVER_SECONDS
        # Each look is a system call, and the server takes them in about this order. Made anew, as a task that is cancelled
        # may interrupt this anywhere.
        looked_at, others = self._untaken[:LOOKS], self._untaken[LOOKS:]
        left = [(written_at, lease) for written_at, lease in looked_at if not lease.taken and written_at > before]
        self._untaken = others + left
