"""Copies of large values on their way to object storage, and which of them are equal.

A value is looked up by its sizes and some sampled bytes, which costs microseconds; only a comparison of all bytes decides,
at memory speed. What was copied most recently is kept for that, up to a bound, and for sending it once more should the
object storage server be replaced.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview
Key = tuple[object, ...]

KEPT_BYTES_MAX = 256 * 1024 * 1024
CANDIDATES_MAX = 4
"""Values with equal samples that are compared; more of them are just sent again."""

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


def same(kept: Sequence[Buffer], buffers: Sequence[Buffer]) -> bool:
    """Whether buffers of equal sizes have equal bytes. `kept` comes from `snapshot`."""
    # What is kept is bytes or bytearray, and these compare by memcmp; two views would compare element by element.
    return len(kept) == len(buffers) and all(one == other for one, other in zip(kept, buffers, strict=True))


def snapshot(buffers: Sequence[Buffer]) -> list[Buffer]:
    """Return buffers nobody can change: `bytes` as they are, copies of all others."""
    return [buffer if isinstance(buffer, bytes) else bytearray(buffer) for buffer in buffers]


class Snapshots:
    """The copies kept, by object id. Not thread-safe."""

    def __init__(self, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._kept_bytes_max = kept_bytes_max
        self._kept: OrderedDict[bytes, tuple[Key, list[Buffer], int]] = OrderedDict()
        self._by_key: dict[Key, list[bytes]] = {}
        self._bytes = 0

    def candidates(self, key: Key) -> list[tuple[bytes, list[Buffer]]]:
        """Return (object id, buffers) of those that may be equal, the latest first."""
        ids = self._by_key.get(key, ())
        return [(object_id, self._kept[object_id][1]) for object_id in reversed(ids)][:CANDIDATES_MAX]

    def add(self, object_id: bytes, key: Key, buffers: list[Buffer]) -> None:
        size = sum(map(len, buffers))
        if size > self._kept_bytes_max:
            return
        self._kept[object_id] = (key, buffers, size)
        self._by_key.setdefault(key, []).append(object_id)
        self._bytes += size
        while self._bytes > self._kept_bytes_max:
            self.drop(next(iter(self._kept)))

    def drop(self, object_id: bytes) -> None:
        """Forget one; unknown ids are ignored."""
        entry = self._kept.pop(object_id, None)
        if entry is None:
            return
        key, _, size = entry
        self._bytes -= size
        ids = self._by_key[key]
        ids.remove(object_id)
        if not ids:
            del self._by_key[key]

    def all(self) -> list[tuple[bytes, list[Buffer]]]:
        return [(object_id, buffers) for object_id, (_, buffers, _) in self._kept.items()]
