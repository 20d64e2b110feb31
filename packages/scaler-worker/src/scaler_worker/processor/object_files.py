"""Objects as files of the host's cache: written once, then mapped by whoever reads them.

A file has a small table (number of buffers, their lengths) and the buffers, each aligned for any data type. Its name is the
object's id; it gets that name when it is complete. A mapping is private: writing to an array that was unpickled from it
changes neither the file nor what other tasks see, and costs memory only for the pages written to.

An object in a segment of this host (see `scaler_protocol.objects.segments`) is not copied into the cache: a symbolic link
of its name says where it lies. Such a place can be out of date; whoever finds it so asks for the object once more.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import struct
from collections.abc import Sequence
from os import close
from pathlib import Path

from scaler_protocol.objects.segments import Place, pack_place, unpack_place
from scaler_protocol.wire.envelope import FRAMES_MAX, MESSAGE_BYTES_MAX

Buffer = bytes | bytearray | memoryview

ALIGNMENT = 64
_COUNT = struct.Struct("=Q")
_WRITE_BUFFERS_MAX = 512
_TOKEN_NAME = "segment-token"
_SHARED_MEMORY = "/dev/shm"


def _table_bytes(count: int) -> int:
    return -(-(_COUNT.size * (1 + count)) // ALIGNMENT) * ALIGNMENT


def object_path(folder: str, object_id: bytes) -> str:
    """Return where an object lies in the host's cache."""
    return f"{folder}/{object_id.hex()}"


def write_object(folder: str, object_id: bytes, buffers: Sequence[Buffer], owner: tuple[int, int] | None = None) -> int:
    """Write an object, and give it to `owner` (user, group); return the bytes of its buffers.

    Raises OSError, and leaves nothing behind then.
    """
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    table = struct.pack(f"={1 + len(views)}Q", len(views), *(len(view) for view in views))
    pieces: list[Buffer] = [table.ljust(_table_bytes(len(views)), b"\0")]
    for view in views:
        pieces.append(view)
        if len(view) % ALIGNMENT:
            pieces.append(bytes(ALIGNMENT - len(view) % ALIGNMENT))
    unfinished = f"{object_path(folder, object_id)}.{os.getpid()}"
    # Tasks can write to the folder: what they may have left under this name must be neither followed nor used.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(unfinished, flags, 0o600)
    except FileExistsError:
        os.unlink(unfinished)
        descriptor = os.open(unfinished, flags, 0o600)
    try:
        if owner is not None:
            os.fchown(descriptor, *owner)
        _write_all(descriptor, pieces)
        os.rename(unfinished, object_path(folder, object_id))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
    finally:
        close(descriptor)
    return sum(len(view) for view in views)


def _write_all(descriptor: int, pieces: list[Buffer]) -> None:
    pieces = [piece for piece in pieces if len(piece)]
    while pieces:
        written = os.writev(descriptor, pieces[:_WRITE_BUFFERS_MAX])
        while pieces and written >= len(pieces[0]):
            written -= len(pieces.pop(0))
        if written:
            pieces[0] = memoryview(pieces[0])[written:]


def write_place(folder: str, object_id: bytes, place: Place) -> None:
    """Say where an object lies. One that is in the folder, or has another place, is replaced. Raises OSError."""
    unfinished = f"{object_path(folder, object_id)}.{os.getpid()}"
    # A link is the smallest file there is, and is there with its content at once.
    os.symlink(pack_place(place).hex(), unfinished)
    os.rename(unfinished, object_path(folder, object_id))


def read_place(folder: str, object_id: bytes) -> Place | None:
    """Return where an object lies, or None where the folder has itself, or nothing."""
    try:
        return unpack_place(bytes.fromhex(os.readlink(object_path(folder, object_id))))
    except OSError:
        return None


def map_object(folder: str, object_id: bytes) -> list[memoryview] | None:
    """Return an object's buffers as writable views of a private mapping, or None where there is no file of it."""
    try:
        descriptor = os.open(object_path(folder, object_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        # ELOOP: it is a link.
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return None
    try:
        mapping = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        close(descriptor)
    view = memoryview(mapping)
    (count,) = _COUNT.unpack_from(view)
    lengths = struct.unpack_from(f"={count}Q", view, _COUNT.size)
    buffers = []
    at = _table_bytes(count)
    for length in lengths:
        buffers.append(view[at : at + length])
        at += -(-length // ALIGNMENT) * ALIGNMENT
    return buffers


def size_of_object(folder: str, object_id: bytes) -> int | None:
    """Return how many bytes the file of an object has, or None where there is none. Raises OSError."""
    try:
        return os.lstat(object_path(folder, object_id)).st_size
    except FileNotFoundError:
        return None


def read_object(folder: str, object_id: bytes, bytes_max: int, owner: int) -> list[memoryview] | None:
    """Return a copy of an object's buffers, or None where there is no file of it. Raises OSError, ValueError.

    For an agent whose processors are another user's, the `owner`: whatever they do to the file, also meanwhile, this is safe,
    and takes no more than `bytes_max` bytes.
    """
    try:
        descriptor = os.open(object_path(folder, object_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        size = _checked_size(descriptor, bytes_max, owner)
        # Not a bytearray, which is filled with zeros while the agent waits, and not returned to the system at once.
        view, at = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)), 0
        while at < size and (count := os.readv(descriptor, [view[at:]])):
            at += count
    finally:
        close(descriptor)
    return _checked_buffers(view[:at])


def _checked_size(descriptor: int, bytes_max: int, owner: int) -> int:
    """Return how many bytes to copy from a file."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a file")
    if found.st_uid != owner:
        # With a second name for a file of somebody else, a task would see in its result what it may not read.
        raise ValueError("it is another user's")
    if found.st_size > min(bytes_max, MESSAGE_BYTES_MAX):
        raise ValueError(f"it has more than {min(bytes_max, MESSAGE_BYTES_MAX)} bytes")
    if found.st_size < _COUNT.size:
        raise ValueError("its table is not complete")
    if found.st_dev == _memory_device() and os.lseek(descriptor, 0, os.SEEK_HOLE) < found.st_size:
        # It costs whoever made it nothing, and would cost the agent all of its size.
        raise ValueError("not all of it was written")
    os.lseek(descriptor, 0, os.SEEK_SET)
    return found.st_size


def _memory_device() -> int:
    """Return the device of files in memory. On others, zeros may be holes, which read as what was written."""
    try:
        return os.stat(_SHARED_MEMORY).st_dev
    except OSError:
        return -1


def _checked_buffers(view: memoryview) -> list[memoryview]:
    if len(view) < _COUNT.size:
        raise ValueError("its table is not complete")
    (count,) = _COUNT.unpack_from(view)
    at = _table_bytes(count)
    if count > FRAMES_MAX or at > len(view):
        raise ValueError("its table is not complete")
    buffers = []
    for length in struct.unpack_from(f"={count}Q", view, _COUNT.size):
        if at + length > len(view):
            raise ValueError("its buffers are not complete")
        buffers.append(view[at : at + length])
        at += -(-length // ALIGNMENT) * ALIGNMENT
    return buffers


def write_token(folder: str, token: bytes | None) -> None:
    """Tell processors what segments must bear for the object storage server; None: it takes none from here."""
    path = f"{folder}/{_TOKEN_NAME}"
    if token is None:
        Path(path).unlink(missing_ok=True)
        return
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, token)
    finally:
        close(descriptor)
    os.rename(f"{path}.new", path)


def read_token(folder: str) -> bytes | None:
    """Return what `write_token` said last."""
    try:
        return Path(f"{folder}/{_TOKEN_NAME}").read_bytes()
    except OSError:
        return None


def drop_object(folder: str, object_id: bytes) -> None:
    """Remove an object from the host's cache, if it is there."""
    # What a task may have put there under its name is no object.
    with contextlib.suppress(OSError):
        os.unlink(object_path(folder, object_id))
