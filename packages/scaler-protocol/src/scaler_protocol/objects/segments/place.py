"""Where a segment is, as messages say it."""

from __future__ import annotations

import struct
from typing import NamedTuple

from scaler_protocol.ids import ID_BYTES

_PLACE = struct.Struct(f"<II{ID_BYTES}s")

PLACE_BYTES = _PLACE.size


class Place(NamedTuple):
    """A segment with a certain content: the process that has it open, its descriptor there, and the stamp of the content.

    The stamp (16 random bytes, new for every content) shows whether the segment still has this content, because
    descriptors and segments are used again.
    """

    pid: int
    descriptor: int
    stamp: bytes

    @property
    def path(self) -> str:
        """The path under which other processes open it."""
        return f"/proc/{self.pid}/fd/{self.descriptor}"


def pack_place(place: Place) -> bytes:
    """Return the 24 bytes that stand for `place` in a message."""
    return _PLACE.pack(*place)


def unpack_place(raw: bytes) -> Place:
    """Return the place that `raw` stands for. Raises ValueError unless it has 24 bytes."""
    if len(raw) != PLACE_BYTES:
        raise ValueError(f"a place has {PLACE_BYTES} bytes, not {len(raw)}")
    return Place(*_PLACE.unpack(raw))
