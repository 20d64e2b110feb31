"""Mappings that are used again: many tasks that read one large array map it once.

Mapping a segment costs microseconds. Touching all its pages for the first time costs a tenth of a second for each GiB, in
every new mapping. A mapping that is no longer used can serve the next reader if no page of it was written to. A page that
was written to has become memory of this process; the kernel says so for each page in `/proc/self/pagemap`. Mappings are
kept from the second reading on, because most objects are read once, and a kept mapping stops the writer from using the
segment again.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from scaler_protocol.objects.segments.layout import slices
from scaler_protocol.objects.segments.place import Place
from scaler_protocol.objects.segments.reading import SegmentReader
from scaler_protocol.wire.envelope import Frame

KEPT_SECONDS = 2.0
"""A mapping that was not used for this long is released, because it may be the last that holds its segment."""

KEPT_MAX = 8
REMEMBERED_MAX = 256
"""Most places that are remembered after their first reading."""

KEPT_BYTES_MIN = 4 * 1024 * 1024
"""Smaller segments are mapped again: checking their pages would cost as much."""

_ENTRY_BYTES = 8
_PRESENT, _SWAPPED, _OF_FILE = 0x80, 0x40, 0x20
"""Bits 63, 62 and 61 of an entry of pagemap, in its last byte."""

_UNTOUCHED = bytes(b for b in range(256) if not b & (_PRESENT | _SWAPPED) or b & _OF_FILE)


@dataclass(slots=True, eq=False)
class _Kept:
    mapping: mmap.mmap
    lengths: Sequence[int]
    used_at: float

    @property
    def reference_count(self) -> int:
        return sys.getrefcount(self.mapping)


class MappingCache:
    """Reads segments as `SegmentReader` does, for one reading thread. Another thread releases mappings."""

    def __init__(self, kept_seconds: float = KEPT_SECONDS) -> None:
        self._reader = SegmentReader()
        self._kept_seconds = kept_seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()
        self._read_once: OrderedDict[Place, None] = OrderedDict()
        self._timer: threading.Timer | None = None
        self.mapped_count = 0
        """How many mappings were made."""

    def read(self, place: Place) -> list[Frame] | None:
        """As `SegmentReader.read`. No other caller gets the same mapping until the last reference to it is gone."""
        with self._lock:
            kept = self._kept.pop(place, None)
        if kept is not None and kept.reference_count == _OURS_ALONE and is_untouched(kept.mapping):
            self._keep(place, kept)
            return list(slices(memoryview(kept.mapping), kept.lengths))
        buffers = self._reader.read(place)
        self.mapped_count += 1
        if buffers and isinstance(buffers[0], memoryview) and sum(map(len, buffers)) >= KEPT_BYTES_MIN:
            if place in self._read_once:
                mapping = buffers[0].obj
                assert isinstance(mapping, mmap.mmap)
                self._keep(place, _Kept(mapping, [len(buffer) for buffer in buffers], 0.0))
            self._read_once[place] = None
            if len(self._read_once) > REMEMBERED_MAX:
                self._read_once.popitem(last=False)
        return buffers

    def _keep(self, place: Place, kept: _Kept) -> None:
        kept.used_at = time.monotonic()
        with self._lock:
            self._kept[place] = kept
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
            self._set_timer_locked()

    def _set_timer_locked(self) -> None:
        if self._timer is None and self._kept:
            timer = threading.Timer(self._kept_seconds, self._give_up)
            timer.daemon = True
            timer.start()
            # Assigned only now, so that an interrupt before leaves no timer that never runs.
            self._timer = timer

    def _give_up(self) -> None:
        before = time.monotonic() - self._kept_seconds
        with self._lock:
            self._timer = None
            for place in [place for place, kept in self._kept.items() if kept.used_at <= before]:
                del self._kept[place]
            self._set_timer_locked()


_OURS_ALONE = _Kept(mmap.mmap(-1, 1), (), 0.0).reference_count


def is_untouched(mapping: mmap.mmap) -> bool:
    """Whether no page of a private mapping was written to. False if this cannot be determined."""
    first = ctypes.c_char.from_buffer(mapping)
    try:
        page = ctypes.addressof(first) // mmap.PAGESIZE
    finally:
        del first
    count = -(-len(mapping) // mmap.PAGESIZE)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            file.seek(page * _ENTRY_BYTES)
            entries = file.read(count * _ENTRY_BYTES)
    except OSError:
        return False
    if entries is None or len(entries) != count * _ENTRY_BYTES:
        return False
    return not entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES].translate(None, _UNTOUCHED)
