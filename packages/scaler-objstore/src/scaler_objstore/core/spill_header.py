"""What is written beside a content in the tier below, so that another process can take it over: its objects and lengths.

version U8, number of objects U32, (object id, owner) each 16 bytes, number of buffers U32, their lengths U64
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from scaler_protocol.ids import ID_BYTES

VERSION = 1

_START = struct.Struct("<BI")
_COUNT = struct.Struct("<I")
_OBJECT = struct.Struct(f"<{ID_BYTES}s{ID_BYTES}s")


@dataclass(slots=True, frozen=True)
class SpillHeader:
    """The objects that have a content, as (object id, owner), and the bytes of each of its buffers."""

    objects: tuple[tuple[bytes, bytes], ...]
    lengths: tuple[int, ...]


def pack_header(objects: Iterable[tuple[bytes, bytes]], lengths: tuple[int, ...]) -> bytes:
    """Return the header of a content."""
    packed = [_OBJECT.pack(*names) for names in objects]
    sizes = struct.pack(f"<{len(lengths)}Q", *lengths)
    return b"".join((_START.pack(VERSION, len(packed)), *packed, _COUNT.pack(len(lengths)), sizes))


def unpack_header(raw: bytes) -> SpillHeader | None:
    """Return what a header says; None for what this version did not write."""
    try:
        version, count = _START.unpack_from(raw)
        if version != VERSION:
            return None
        end = _START.size + count * _OBJECT.size
        objects = tuple(_OBJECT.iter_unpack(raw[_START.size : end]))
        (buffers,) = _COUNT.unpack_from(raw, end)
        lengths = struct.unpack(f"<{buffers}Q", raw[end + _COUNT.size :])
    except struct.error:
        return None
    return SpillHeader(tuple((object_id, owner) for object_id, owner in objects), lengths)
