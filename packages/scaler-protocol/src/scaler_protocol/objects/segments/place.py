"""Where a segment is, as it stands in messages."""

from __future__ import annotations

import struct
from typing import NamedTuple

from scaler_protocol.ids import ID_BYTES

_PLACE = struct.Struct(f"<II{ID_BYTES}s")

PLACE_BYTES = _PLACE.size


class Place(NamedTuple):
    """A segment with a certain content: who has it open, as which descriptor, and what must be stamped on it.

    The stamp (16 random bytes, new for every content) tells whether it is still that content: descriptors and segments
    are used again.
    """

    pid: int
    descriptor: int
    stamp: bytes

    @property
    def path(self) -> str:
        """Where to open it."""
        return f"/proc/{self.pid}/fd/{self.descriptor}"


def pack_place(place: Place) -> bytes:
    """Return the 24 bytes that stand for `place` in a message."""
    return _PLACE.pack(*place)


def unpack_place(raw: bytes) -> Place:
    """Return the place that `raw` stands for. Raises ValueError unless it has 24 bytes."""
    if len(raw) != PLACE_BYTES:
        raise ValueError(f"a place has {PLACE_BYTES} bytes, not {len(raw)}")
    return Place(*_PLACE.unpack(raw))
