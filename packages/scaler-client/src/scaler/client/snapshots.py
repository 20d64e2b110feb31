"""Copies of large values on their way to object storage, and which of them are equal.

A value is looked up by its sizes and some sampled bytes, which costs microseconds; only a comparison of all bytes decides,
at memory speed. What was copied most recently is kept for that, up to a bound, and for sending it once more should the
object storage server be replaced. Where the copy lies in a segment it takes no room beside the object itself, and is kept as
long as the server has it in memory. Large `bytes` are not copied, as nobody can change them: those that the application has too
take no room either, and are kept beyond the bound, until nobody else has them.
"""

from __future__ import annotations

import itertools
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from scaler_protocol.objects.comparison import same_buffers
from scaler_protocol.objects.segments import Lease

Buffer = bytes | bytearray | memoryview
Key = tuple[object, ...]

KEPT_BYTES_MAX = 256 * 1024 * 1024
CANDIDATES_MAX = 4
"""Values with equal samples that are compared; more of them are just sent again."""

LEASED_BYTES_MIN = 256 * 1024 * 1024
"""While copies in segments take less, it is not looked whether the server still has them in memory."""

LOOKS = 4
"""Copies that are looked at when one is added. Each look is some system calls."""

SHARED_BYTES_MIN = 64 * 1024
"""Smaller parts of a value count as room of our own, whoever else has them."""

_SAMPLES = 32
_SAMPLE_BYTES = 64


def flat(buffer: Buffer) -> Buffer:
    """Return a view of any buffer as bytes."""
    return buffer if isinstance(buffer, bytes | bytearray) else memoryview(buffer).cast("B")


def key_of(buffers: Sequence[Buffer]) -> Key:
    """Return what equal buffers have in common, without reading them whole. `buffers` are flat."""
    samples: list[object] = []
    for buffer in buffers:
        size = len(buffer)
        samples.append(size)
        step = max(_SAMPLE_BYTES, size // _SAMPLES)
        samples.append(b"".join(bytes(buffer[start : start + _SAMPLE_BYTES]) for start in range(0, size, step)))
    return tuple(samples)


class Snapshot(NamedTuple):
    """A copy of an object's buffers that nobody changes: in a segment, or in memory of our own."""

    lease: Lease | None
    copies: Sequence[Buffer] = ()

    def buffers(self) -> Sequence[Buffer]:
        """Return the copied buffers, in the object's order."""
        return self.copies if self.lease is None else self.lease.buffers()

    @property
    def size_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(map(len, self.copies)) if self.lease is None else self.lease.size_bytes

    @property
    def own_bytes(self) -> int:
        """The memory it takes beside the object in storage."""
        return sum(map(len, self.copies))

    def equals(self, buffers: Sequence[Buffer]) -> bool:
        """Whether `buffers` have the same bytes."""
        return same_buffers(self.buffers(), buffers)

    @property
    def is_shared(self) -> bool:
        """Whether all that is large of it is `bytes` that somebody else refers to: the application, or a message on its way."""
        copies = self.copies
        large = [at for at, copy in enumerate(copies) if len(copy) >= SHARED_BYTES_MIN]
        return bool(large) and all(type(copies[at]) is bytes and _references(copies, at) > _ALONE for at in large)


def _references(copies: Sequence[Buffer], at: int) -> int:
    return sys.getrefcount(copies[at])


_ALONE = _references([bytes(bytearray(SHARED_BYTES_MIN))], 0)
"""What that is for a value that nobody else has."""


def snapshot(buffers: Sequence[Buffer]) -> Snapshot:
    """Return a snapshot in memory of our own: `bytes` as they are, copies of all others."""
    return Snapshot(None, [buffer if isinstance(buffer, bytes) else bytearray(buffer) for buffer in buffers])


class Snapshots:
    """The copies kept, by object id. Not thread-safe."""

    def __init__(self, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._kept_bytes_max = kept_bytes_max
        self._kept: OrderedDict[bytes, tuple[Key, Snapshot]] = OrderedDict()
        self._by_key: dict[Key, list[bytes]] = {}
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        """Bytes of room of our own that each takes, the oldest first."""
        self._bytes = 0
        """Of all these."""
        self._shared: dict[bytes, None] = {}
        """Those that take none, because the application has them too."""
        self._leased: OrderedDict[bytes, Lease] = OrderedDict()
        """Those in segments, the one that was looked at longest ago first."""
        self._leased_bytes = 0

    def may_have(self, key: Key) -> bool:
        """Whether there are such values. From any thread."""
        return key in self._by_key

    def candidates(self, key: Key) -> list[tuple[bytes, Snapshot]]:
        """Return (object id, snapshot) of those that may be equal, the latest first."""
        ids = self._by_key.get(key, ())
        return [(object_id, self._kept[object_id][1]) for object_id in reversed(ids)][:CANDIDATES_MAX]

    def add(self, object_id: bytes, key: Key, snapshot: Snapshot) -> None:
        """Keep a copy; the oldest ones are dropped where too many bytes are kept."""
        size = snapshot.own_bytes
        beyond = self._bytes + size > self._kept_bytes_max and snapshot.is_shared
        if size > self._kept_bytes_max and not beyond:
            return
        self._kept[object_id] = (key, snapshot)
        self._by_key.setdefault(key, []).append(object_id)
        if beyond:
            self._shared[object_id] = None
        else:
            self._sizes[object_id] = size
            self._bytes += size
        if snapshot.lease is not None:
            self._leased[object_id] = snapshot.lease
            self._leased_bytes += snapshot.lease.size_bytes
        while self._bytes > self._kept_bytes_max:
            oldest = next(iter(self._sizes))
            if self._kept[oldest][1].is_shared:
                self._bytes -= self._sizes.pop(oldest)
                self._shared[oldest] = None
            else:
                self.drop(oldest)

    @property
    def has_shared(self) -> bool:
        """Whether some are kept beyond the bound: `drop_unshared` is to be called from time to time."""
        return bool(self._shared)

    def drop_unshared(self) -> None:
        """Forget those beyond the bound that nobody else refers to any more."""
        for object_id in [one for one in self._shared if not self._kept[one][1].is_shared]:
            self.drop(object_id)

    def drop(self, object_id: bytes) -> None:
        """Forget one; unknown ids are ignored."""
        entry = self._kept.pop(object_id, None)
        if entry is None:
            return
        key, _ = entry
        self._bytes -= self._sizes.pop(object_id, 0)
        self._shared.pop(object_id, None)
        lease = self._leased.pop(object_id, None)
        if lease is not None:
            self._leased_bytes -= lease.size_bytes
        ids = self._by_key[key]
        ids.remove(object_id)
        if not ids:
            del self._by_key[key]

    def left(self) -> list[bytes]:
        """Return copies in segments that the server does not have in memory any more, unless it has just ended.

        They may be dropped, or hold the memory that the server wanted to free.
        """
        if self._leased_bytes < LEASED_BYTES_MIN:
            return []
        looked = list(itertools.islice(self._leased, LOOKS))
        for object_id in looked:
            self._leased.move_to_end(object_id)
        return [object_id for object_id in looked if self._leased[object_id].left]

    def all(self) -> list[tuple[bytes, Snapshot]]:
        """Return (object id, snapshot) of all copies that are kept."""
        return [(object_id, snapshot) for object_id, (_, snapshot) in self._kept.items()]
