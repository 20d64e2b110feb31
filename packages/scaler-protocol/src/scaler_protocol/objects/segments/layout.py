"""The layout of a segment.

0    magic, 8 bytes
8    token, 32 bytes: proof that the writer is on the server's host (see `offer`)
64   stamp, 16 bytes: which content this is
128  taken, 16 bytes: the stamp of the last content that the server holds as an object's
192  number of buffers, U64, and their lengths, U64 each
...  the buffers, each aligned for any data type
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from os import close
from typing import Any

from scaler_protocol.ids import ID_BYTES
from scaler_protocol.wire.envelope import FRAMES_MAX, OBJECT_BYTES_MAX

MAGIC = b"scaler\0\1"
TOKEN_BYTES = 32
TOKEN_AT = len(MAGIC)
STAMP_AT = 64
TAKEN_AT = 128
TABLE_AT = 192
ALIGNMENT = 64

SEGMENT_BYTES_MIN = 256 * 1024
"""Smaller objects travel through the socket, because a segment costs each process a descriptor and some system calls."""

_WORD = struct.Struct("<Q")
_HEAD_BYTES = 4096


def supported() -> bool:
    """Whether this system has the calls that segments need."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def data_at(count: int) -> int:
    """Return where the first of `count` buffers begins."""
    return aligned(TABLE_AT + _WORD.size * (1 + count))


def aligned(size: int) -> int:
    """Return `size` rounded up to where a buffer may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def head(token: bytes, stamp: bytes, lengths: Sequence[int]) -> bytes:
    """Return the bytes before the buffers."""
    fixed = (MAGIC + token).ljust(STAMP_AT, b"\0") + stamp.ljust(TABLE_AT - STAMP_AT, b"\0")
    table = struct.pack(f"<{1 + len(lengths)}Q", len(lengths), *lengths)
    return (fixed + table).ljust(data_at(len(lengths)), b"\0")


def offsets(lengths: Sequence[int]) -> list[int]:
    """Return where each buffer begins, and as the last element where the last buffer ends."""
    found = []
    at = data_at(len(lengths))
    for length in lengths:
        found.append(at)
        at += aligned(length)
    return [*found, at]


def read_lengths(descriptor: int, stamp: bytes, token: bytes | None = None) -> list[int] | None:
    """Return the lengths of the buffers in an open segment; None if it is no segment, or has another content.

    With `token` it must also contain that token. Raises OSError.
    """
    first = os.pread(descriptor, _HEAD_BYTES, 0)
    if not first.startswith(MAGIC) or first[STAMP_AT : STAMP_AT + ID_BYTES] != stamp:
        return None
    if token is not None and first[TOKEN_AT : TOKEN_AT + TOKEN_BYTES] != token:
        return None
    (count,) = _WORD.unpack_from(first, TABLE_AT)
    if count > FRAMES_MAX:
        return None
    end = TABLE_AT + _WORD.size * (1 + count)
    if end > len(first):
        first += os.pread(descriptor, end - len(first), len(first))
    lengths = list(struct.unpack_from(f"<{count}Q", first, TABLE_AT + _WORD.size))
    if sum(lengths) > OBJECT_BYTES_MAX or offsets(lengths)[-1] > os.fstat(descriptor).st_size:
        return None
    return lengths


def slices(view: memoryview, lengths: Sequence[int]) -> list[memoryview]:
    """Return the buffers as views of the whole segment's bytes."""
    return [view[at : at + length] for at, length in zip(offsets(lengths), lengths, strict=False)]


def lock_shared(descriptor: int) -> bool:
    """Take the shared lock of an open segment; False if its writer is about to use it again.

    The lock ends with the last copy of the descriptor.
    """
    return _lock(descriptor, exclusive=False)


def lock_exclusive(descriptor: int) -> bool:
    """Take the exclusive lock; False if anybody holds the segment. Nobody else can hold it until `unlock`."""
    return _lock(descriptor, exclusive=True)


def unlock(descriptor: int) -> None:
    """Release the exclusive lock."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def new_memory(capacity: int) -> int:
    """Return the descriptor of a new segment that can neither grow nor shrink. Raises OSError."""
    memory: Any = os  # Absent on the systems this module is only imported on.
    import fcntl

    descriptor: int = memory.memfd_create("scaler-segment", memory.MFD_CLOEXEC | memory.MFD_ALLOW_SEALING)
    try:
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, capacity)
        # A process that maps a file which others can shrink can be killed by them.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        close(descriptor)
        raise
    return descriptor


def is_segment(descriptor: int) -> bool:
    """Whether an open file is memory that cannot shrink, as segments are."""
    import fcntl

    try:
        return bool(fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:
        return False
