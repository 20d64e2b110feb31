"""The manifest of a record: header, lengths and checksum, and where the bytes lie. It makes a record whole.

A record's bytes are all buffers, joined. They are cut into parts of equal length, but the last one, which may be shorter, follows
the manifest in the same value. So a small record is one value, and a large one exists from the moment when its manifest does.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from scaler_objstore.tiers.port import HEADER_BYTES_MAX, DamagedError
from scaler_protocol.wire.envelope import Frame

_MAGIC = b"SCR1"
_START = struct.Struct("<4sIQ")
"""Magic, length of what follows, and its checksum."""
_FIXED = struct.Struct("<16s16sQII")
"""Stamp, checksum of the bytes, length of a part, length of the header, number of buffers."""

STAMP_BYTES = 16
BUFFERS_MAX = 1 << 20
LENGTH_BYTES_MAX = _FIXED.size + HEADER_BYTES_MAX + 8 * BUFFERS_MAX
"""Longest manifest, without its start. A longer one is damaged."""


@dataclass(slots=True, frozen=True)
class Manifest:
    """What is known of a record before its bytes are read."""

    header: bytes
    lengths: tuple[int, ...]
    """Of each buffer, in bytes."""
    checksum: bytes
    stamp: bytes
    """Names the parts of this very write, so that they are never confused with those of another."""
    part_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(self.lengths)

    @property
    def parts(self) -> int:
        """How many parts there are beside the last one, which follows the manifest."""
        return max(0, -(-self.total_bytes // self.part_bytes) - 1)

    @property
    def rest_bytes(self) -> int:
        """Length of the last part."""
        return self.total_bytes - self.parts * self.part_bytes


def checksum_of(buffers: Sequence[Frame]) -> bytes:
    """Return the checksum of all bytes of these buffers."""
    state = xxhash.xxh3_128()
    for buffer in buffers:
        state.update(buffer)
    return state.digest()


def pack_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest. Raises ValueError for a header that is too long."""
    if len(manifest.header) > HEADER_BYTES_MAX:
        raise ValueError(f"a header of {len(manifest.header)} bytes; at most {HEADER_BYTES_MAX} are accepted")
    if len(manifest.lengths) > BUFFERS_MAX:
        raise ValueError(f"{len(manifest.lengths)} buffers; at most {BUFFERS_MAX} are accepted")
    fixed = _FIXED.pack(
        manifest.stamp, manifest.checksum, manifest.part_bytes, len(manifest.header), len(manifest.lengths)
    )
    body = fixed + manifest.header + struct.pack(f"<{len(manifest.lengths)}Q", *manifest.lengths)
    return _START.pack(_MAGIC, len(body), xxhash.xxh3_64_intdigest(body)) + body


def manifest_bytes(start: Frame) -> int:
    """Return the length of the manifest with which `start` begins. Raises `DamagedError` if there is none."""
    if len(start) < _START.size:
        raise DamagedError("it ends before its manifest")
    magic, length, _ = _START.unpack_from(start)
    if magic != _MAGIC or not _FIXED.size <= length <= LENGTH_BYTES_MAX:
        raise DamagedError("it has no manifest")
    return _START.size + int(length)


def unpack_manifest(value: Frame) -> Manifest:
    """Return the manifest with which `value` begins. Raises `DamagedError` unless it is whole."""
    end = manifest_bytes(value)
    if len(value) < end:
        raise DamagedError("it ends in its manifest")
    body = memoryview(value)[_START.size : end]
    if xxhash.xxh3_64_intdigest(body) != _START.unpack_from(value)[2]:
        raise DamagedError("its manifest has another checksum")
    stamp, checksum, part_bytes, header_bytes, buffers = _FIXED.unpack_from(body)
    if part_bytes == 0 or _FIXED.size + header_bytes + 8 * buffers != len(body):
        raise DamagedError("its manifest has another length")
    lengths = struct.unpack_from(f"<{buffers}Q", body, _FIXED.size + header_bytes)
    return Manifest(bytes(body[_FIXED.size : _FIXED.size + header_bytes]), lengths, checksum, stamp, part_bytes)


def pieces_of(buffers: Sequence[Frame], start: int, end: int) -> list[memoryview]:
    """Return views of the bytes from `start` to `end` of all buffers joined, none of them empty."""
    pieces: list[memoryview] = []
    at = 0
    for buffer in buffers:
        first, last = max(start - at, 0), min(end - at, len(buffer))
        if first < last:
            pieces.append(memoryview(buffer)[first:last])
        at += len(buffer)
        if at >= end:
            break
    return pieces


def cut(value: memoryview, lengths: Sequence[int]) -> list[memoryview]:
    """Return the buffers of these lengths of which `value` consists."""
    buffers = []
    at = 0
    for length in lengths:
        buffers.append(value[at : at + length])
        at += length
    return buffers
