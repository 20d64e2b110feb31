"""The segments of one writer, used again and again.

A writer fills memory that it has used before at full speed. Fresh memory takes ten times as long, because the kernel
clears and maps each page. So a segment is kept when its content is no longer needed, until it has been idle for a while
or there are too many.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from scaler_protocol.ids import ID_BYTES
from scaler_protocol.objects.segments.layout import (
    ALIGNMENT,
    TAKEN_AT,
    head,
    lock_exclusive,
    new_memory,
    offsets,
    slices,
    unlock,
)
from scaler_protocol.objects.segments.place import Place
from scaler_protocol.objects.segments.reading import descriptors_to_spend
from scaler_protocol.wire.envelope import Frame

IDLE_BYTES_MAX = 512 * 1024 * 1024
"""Most bytes kept for reuse."""

IDLE_SECONDS = 10.0
"""Segments that nobody has used for this long are returned to the system."""

SEGMENTS_MAX = 2048

ROUNDING = 8
"""Capacities have three significant bits, so that segments of similar size can replace each other."""

WASTE = 4
"""A segment is used only for objects of at least a quarter of its size."""

MAPPED_FROM_USE = 3
"""A segment is mapped from this use on: mapping costs as much as a few writes through the descriptor."""

MAPPED_BYTES_MAX = 64 * 1024 * 1024
"""Larger objects are written through the descriptor, so that other threads run meanwhile."""

PROBES_MAX = 64
"""Most segments that are checked to find one that nobody reads any more; the next search begins with others. To check so many
takes less than to get the pages of a new one, and the newest ones, which are checked first, are likely to be held."""

JOIN_SECONDS = 1.0

_BUFFERS_PER_WRITE = 512


class _Segment:
    """One segment. Its pool gives it to one thread at a time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.descriptor = new_memory(capacity)
        self.idle_since = 0.0
        # The descriptor is closed in any case, however the pool and its leases end.
        self._closing = weakref.finalize(self, os.close, self.descriptor)
        self._closing.atexit = False
        self._uses = 0
        self._view: memoryview | None = None

    def fill(self, token: bytes, stamp: bytes, buffers: Sequence[Frame], lengths: Sequence[int]) -> None:
        """Write a content. This is the only copy that is made of its bytes."""
        self._uses += 1
        at = offsets(lengths)
        if self._uses < MAPPED_FROM_USE or at[-1] > MAPPED_BYTES_MAX:
            self._write(head(token, stamp, lengths), buffers)
            return
        if self._view is None or len(self._view) < at[-1]:
            # Writing to a page for which there is no memory would kill this process. This raises OSError.
            os.posix_fallocate(self.descriptor, 0, at[-1])
        view = self.view(at[-1])
        header = head(token, stamp, lengths)
        view[: len(header)] = header
        for start, buffer in zip(at, buffers, strict=False):
            view[start : start + len(buffer)] = buffer

    def begin(self, token: bytes, stamp: bytes, lengths: Sequence[int]) -> None:
        """Write what stands before a content."""
        self._uses += 1
        self._write(head(token, stamp, lengths), ())

    def write_at(self, at: int, data: memoryview) -> None:
        """Write a part of a content."""
        while len(data):
            written = os.pwrite(self.descriptor, data, at)
            at, data = at + written, data[written:]

    def _write(self, header: bytes, buffers: Sequence[Frame]) -> None:
        pieces: list[Frame] = [header]
        for buffer in buffers:
            pieces.append(buffer)
            if len(buffer) % ALIGNMENT:
                pieces.append(bytes(ALIGNMENT - len(buffer) % ALIGNMENT))
        pieces = [piece for piece in pieces if len(piece)]
        at = 0
        while pieces:
            written = os.pwritev(self.descriptor, pieces[:_BUFFERS_PER_WRITE], at)
            at += written
            while pieces and written >= len(pieces[0]):
                written -= len(pieces.pop(0))
            if written:
                pieces[0] = memoryview(pieces[0])[written:]

    def view(self, size: int) -> memoryview:
        """Return at least the first `size` bytes, mapped."""
        if self._view is None or len(self._view) < size:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._view = memoryview(mmap.mmap(self.descriptor, size, flags, mmap.PROT_READ | mmap.PROT_WRITE))
        return self._view

    def taken(self) -> bytes:
        """Return the stamp of the last content that the server holds as an object's."""
        return os.pread(self.descriptor, ID_BYTES, TAKEN_AT)

    def close(self) -> None:
        """Release it. Its memory is freed when nobody else holds it."""
        self._view = None
        self._closing()


class Lease:
    """A content in a segment of this process. The segment is not used again while this is referenced."""

    def __init__(self, segment: _Segment, stamp: bytes, lengths: Sequence[int]) -> None:
        self._segment = segment
        self._lengths = lengths
        self.place = Place(os.getpid(), segment.descriptor, stamp)
        """For the server."""
        self.size_bytes = sum(lengths)

    def buffers(self) -> list[memoryview]:
        """Return what was written. Must not be changed, and not be used after the lease."""
        return slices(self._segment.view(offsets(self._lengths)[-1]), self._lengths)

    def fill(self, offset: int, parts: Sequence[Frame]) -> None:
        """Write a part of a content that `SegmentPool.begin` has begun: from `offset` on, of all buffers one after another.

        Raises OSError without memory for it, and ValueError behind the end.
        """
        data = [memoryview(part).cast("B") for part in parts if len(part)]
        for start, length in zip(offsets(self._lengths), self._lengths, strict=False):
            while data and offset < length:
                part = data.pop(0)
                here = part[: length - offset]
                self._segment.write_at(start + offset, here)
                offset += len(here)
                if len(here) < len(part):
                    data.insert(0, part[len(here) :])
            offset -= length
            if not data:
                return
        if data:
            raise ValueError("a part ends behind its content")

    @property
    def taken(self) -> bool:
        """Whether the server has an object with this content. From then on it holds the segment itself."""
        return self._segment.taken() == self.place.stamp

    @property
    def left(self) -> bool:
        """Whether the server had mapped the content, and neither it nor a reader has it mapped any more."""
        descriptor = self._segment.descriptor
        if not self.taken or not lock_exclusive(descriptor):
            return False
        unlock(descriptor)
        return True


class SegmentPool:
    """The segments of this process for one server. Safe to use from several threads, but not in forked children."""

    def __init__(
        self, token: bytes, *, idle_bytes_max: int = IDLE_BYTES_MAX, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._token = token
        self._idle_bytes_max = idle_bytes_max
        self._idle_seconds = idle_seconds
        self._segments_max = descriptors_to_spend(SEGMENTS_MAX)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._count = 0
        # Finalizers fill it. They may run anywhere, so they must not wait for a lock.
        self._returned: deque[_Segment] = deque()
        self._free: list[_Segment] = []
        """Not leased, oldest first. Server or readers may still hold some."""
        self._janitor: threading.Thread | None = None
        self._closed = threading.Event()
        weakref.finalize(self, self._closed.set).atexit = False
        self.copied_bytes = 0
        """Bytes of buffers copied into segments so far."""

    @property
    def idle_seconds(self) -> float:
        """How long a segment may be idle, in seconds."""
        return self._idle_seconds

    def write(self, stamp: bytes, buffers: Sequence[Frame]) -> Lease | None:
        """Copy `buffers` into a segment with a new stamp; None if there is no segment for them."""
        lengths = [len(buffer) for buffer in buffers]
        lease = self._fill(stamp, lengths, lambda segment: segment.fill(self._token, stamp, buffers, lengths))
        if lease is not None:
            self.copied_bytes += lease.size_bytes
        return lease

    def begin(self, stamp: bytes, lengths: Sequence[int]) -> Lease | None:
        """Return a content that `Lease.fill` will write, a part after another; None if there is no segment for it."""
        return self._fill(stamp, lengths, lambda segment: segment.begin(self._token, stamp, lengths))

    def _fill(self, stamp: bytes, lengths: Sequence[int], fill: Callable[[_Segment], None]) -> Lease | None:
        segment = self._take(offsets(lengths)[-1])
        if segment is None:
            return None
        try:
            fill(segment)
            unlock(segment.descriptor)
        except OSError:
            # No memory for it.
            self._drop(segment)
            return None
        except BaseException:
            # A task that is cancelled.
            self._drop(segment)
            raise
        lease = Lease(segment, stamp, lengths)
        weakref.finalize(lease, self._returned.append, segment).atexit = False
        return lease

    def trim(self) -> bool:
        """Return segments that were idle for long, or are too many, to the system; return whether any are left."""
        with self._lock:
            self._gather()
            before = time.monotonic() - self._idle_seconds
            idle_bytes = 0
            kept = []
            # Newest first, so that the oldest are released.
            for segment in reversed(self._free):
                if not lock_exclusive(segment.descriptor):
                    segment.idle_since = time.monotonic()
                    kept.append(segment)
                    continue
                unlock(segment.descriptor)
                idle_bytes += segment.capacity
                if segment.idle_since < before or idle_bytes > self._idle_bytes_max:
                    self._close(segment)
                else:
                    kept.append(segment)
            self._free = kept[::-1]
            return bool(self._count)

    def close(self) -> None:
        """Return segments to the system: those without a lease now, the others when their lease ends."""
        self._closed.set()
        with self._lock:
            self._idle_seconds = 0.0
            self._idle_bytes_max = 0
            janitor = self._janitor
        self.trim()
        if janitor is not None:
            janitor.join(JOIN_SECONDS)

    # --- inside

    def _take(self, size: int) -> _Segment | None:
        """Return a segment that nobody holds, locked."""
        if os.getpid() != self._pid or self._closed.is_set():
            return None
        with self._lock:
            self._gather()
            # The one used last is the most likely to be in the processor's caches.
            fitting = [s for s in reversed(self._free) if size <= s.capacity <= WASTE * size]
            for segment in fitting[:PROBES_MAX]:
                if lock_exclusive(segment.descriptor):
                    self._free.remove(segment)
                    return segment
            held = fitting[:PROBES_MAX]
            self._free = held + [segment for segment in self._free if segment not in held]
            if self._count >= self._segments_max and not self._make_room():
                return None
            self._count += 1
        try:
            segment = _Segment(_capacity(size))
        except OSError:
            with self._lock:
                self._count -= 1
            return None
        lock_exclusive(segment.descriptor)
        self._look_after()
        return segment

    def _gather(self) -> None:
        now = time.monotonic()
        with contextlib.suppress(IndexError):
            while True:
                segment = self._returned.popleft()
                segment.idle_since = now
                self._free.append(segment)

    def _make_room(self) -> bool:
        if not self._free:
            return False
        self._close(self._free.pop(0))
        return True

    def _drop(self, segment: _Segment) -> None:
        with self._lock:
            self._close(segment)

    def _close(self, segment: _Segment) -> None:
        self._count -= 1
        segment.close()

    def _look_after(self) -> None:
        with self._lock:
            if self._janitor is None:
                self._janitor = threading.Thread(
                    target=_look_after, args=(weakref.ref(self), self._closed), daemon=True
                )
                self._janitor.name = "scaler-segments"
                self._janitor.start()

    def rest(self) -> bool:
        """Return whether the thread that trims may end, because no segments are left."""
        if self.trim():
            return False
        with self._lock:
            if self._count:
                return False
            self._janitor = None
            return True


def _look_after(pool_reference: weakref.ref[SegmentPool], closed: threading.Event) -> None:
    """Trim a pool now and then until it is empty, closed or gone."""
    pool = pool_reference()
    while pool is not None:
        seconds = pool.idle_seconds
        del pool
        if closed.wait(max(seconds / 2, 0.05)):
            return
        pool = pool_reference()
        if pool is None or pool.rest():
            return


def _capacity(size: int) -> int:
    """Return `size` rounded up so that similar sizes become equal, in whole pages."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - ROUNDING.bit_length() + 1))
    return -(-size // step) * step
