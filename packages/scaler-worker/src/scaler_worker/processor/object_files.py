"""Objects as files of the host's cache: written once, then mapped by whoever reads them.

A file has a small table (number of buffers, their lengths) and the buffers, each aligned for any data type. Its name is the
object's id; it gets that name when it is complete. A mapping is private: writing to an array that was unpickled from it
changes neither the file nor what other tasks see, and costs memory only for the pages written to.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview

ALIGNMENT = 64
_COUNT = struct.Struct("=Q")
_WRITE_BUFFERS_MAX = 512


def _table_bytes(count: int) -> int:
    return -(-(_COUNT.size * (1 + count)) // ALIGNMENT) * ALIGNMENT


def object_path(folder: str, object_id: bytes) -> str:
    return f"{folder}/{object_id.hex()}"


def write_object(folder: str, object_id: bytes, buffers: Sequence[Buffer]) -> int:
    """Write an object; return the bytes of its buffers. Raises OSError, and leaves nothing behind then."""
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    table = struct.pack(f"={1 + len(views)}Q", len(views), *(len(view) for view in views))
    pieces: list[Buffer] = [table.ljust(_table_bytes(len(views)), b"\0")]
    for view in views:
        pieces.append(view)
        if len(view) % ALIGNMENT:
            pieces.append(bytes(ALIGNMENT - len(view) % ALIGNMENT))
    unfinished = f"{object_path(folder, object_id)}.{os.getpid()}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, pieces)
        os.rename(unfinished, object_path(folder, object_id))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
    finally:
        os.close(descriptor)
    return sum(len(view) for view in views)


def _write_all(descriptor: int, pieces: list[Buffer]) -> None:
    pieces = [piece for piece in pieces if len(piece)]
    while pieces:
        written = os.writev(descriptor, pieces[:_WRITE_BUFFERS_MAX])
        while pieces and written >= len(pieces[0]):
            written -= len(pieces.pop(0))
        if written:
            pieces[0] = memoryview(pieces[0])[written:]


def map_object(folder: str, object_id: bytes) -> list[memoryview] | None:
    """Return an object's buffers as writable views of a private mapping, or None where the file does not exist."""
    try:
        descriptor = os.open(object_path(folder, object_id), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        mapping = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(descriptor)
    view = memoryview(mapping)
    (count,) = _COUNT.unpack_from(view)
    lengths = struct.unpack_from(f"={count}Q", view, _COUNT.size)
    buffers = []
    at = _table_bytes(count)
    for length in lengths:
        buffers.append(view[at : at + length])
        at += -(-length // ALIGNMENT) * ALIGNMENT
    return buffers


def drop_object(folder: str, object_id: bytes) -> None:
    Path(object_path(folder, object_id)).unlink(missing_ok=True)
