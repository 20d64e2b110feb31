"""A tier in a folder: one file for each record, in 256 folders by the last two digits of its name.

    FOLDER/lock                 held while a server uses the folder
    FOLDER/scaler-storage.json  the format of the files, and whose they are
    FOLDER/objects/3f/…3f       a record

A file begins as a segment does (`scaler_protocol.objects.segments`), so readers on this host map it as they map segments. Behind
the buffers are the header and a footer with lengths and checksums. A file is written aside and renamed, so under a record's name
there is a whole one. After a power failure it may be torn, unless files are synced: then its checksum tells.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import mmap
import os
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import close
from pathlib import Path
from typing import IO, NamedTuple

import xxhash

from scaler_objstore.tiers.port import (
    HEADER_BYTES_MAX,
    DamagedError,
    NotStoredError,
    Record,
    StoredRecord,
    TierFullError,
    TierUnavailableError,
    check_name,
)
from scaler_protocol.ids import ID_BYTES
from scaler_protocol.objects.segments import Place, pack_place
from scaler_protocol.objects.segments.layout import (
    ALIGNMENT,
    STAMP_AT,
    TOKEN_BYTES,
    head,
    offsets,
    read_lengths,
    slices,
)
from scaler_protocol.objects.segments.reading import descriptors_to_spend
from scaler_protocol.service.errors import ConfigurationError, ServiceError
from scaler_protocol.wire.envelope import Frame

logger = logging.getLogger(__name__)

FORMAT = 1

MAPPINGS_MAX = 16_384
"""Further records are copied into memory."""

_FOOTER = struct.Struct("<QI16s16s8s")
"""Where the buffers end, bytes of the header, checksums of the buffers and of header and footer, magic."""

_MAGIC = b"scalerD\1"
_PIECE_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 16
"""Smaller than a piece, so that pieces are not copied once more."""
_UNFINISHED = ".part"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(slots=True, frozen=True)
class MappedRecord(Record):
    """A record whose buffers are views of a mapped file."""

    place: bytes
    """Where readers on this host can map the file, while the buffers exist."""


class _Footer(NamedTuple):
    data_bytes: int
    checksum: bytes
    header: bytes


class DiskTier:
    """See the module, and `Tier`. Several threads may use it."""

    def __init__(self, folder: Path, cluster: str = "", *, sync: bool = False) -> None:
        """`cluster` names whose records these are. `sync`: wait until each record has reached the disk.

        Raises ServiceError: another server uses the folder, it is another cluster's, or it cannot be used.
        """
        self._folder = folder
        self._objects = folder / "objects"
        self._sync = sync
        self._sizes: dict[str, int] = {}
        self._used_bytes = 0
        self._guard = threading.Lock()
        self._mappings_max = descriptors_to_spend(MAPPINGS_MAX) // 2
        self._mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(folder)
            try:
                _claim(folder, cluster)
                self._objects.mkdir(mode=0o700, exist_ok=True)
            except BaseException:
                close(self._lock)
                raise
        except OSError as error:
            raise ConfigurationError(f"--storage-path {folder} cannot be used: {error.strerror or error}") from None

    @property
    def used_bytes(self) -> int:
        """See `Tier`."""
        return self._used_bytes

    def write(self, name: str, header: bytes, buffers: Sequence[Frame]) -> None:
        """See `Tier`."""
        path = self._path(name)
        unfinished = f"{path}{_UNFINISHED}"
        try:
            self._make_folder(os.path.dirname(path))
            with _new_file(unfinished) as file:
                size = _write(file, header, buffers)
                if self._sync:
                    os.fsync(file.fileno())
            os.rename(unfinished, path)
            if self._sync:
                _sync_folder(os.path.dirname(path))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            failure = TierFullError if error.errno in _FULL else TierUnavailableError
            raise failure(f"record {name} cannot be written to {self._folder}: {error.strerror}") from None
        self._note(name, size)

    def read(self, name: str) -> Record:
        """See `Tier`. The buffers are views of the mapped file, which has been read and checked once."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not self._objects.is_dir():
                raise TierUnavailableError(f"the folder {self._objects} is not there") from None
            raise NotStoredError(f"there is no record {name} in {self._folder}") from None
        except OSError as error:
            raise self._unreadable(name, error) from None
        try:
            record = self._map(name, descriptor)
        except OSError as error:
            close(descriptor)
            raise self._unreadable(name, error) from None
        except BaseException:
            close(descriptor)
            raise
        if not isinstance(record, MappedRecord):
            close(descriptor)
        return record

    def delete(self, names: Sequence[str]) -> None:
        """See `Tier`."""
        for name in names:
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                pass
            except OSError as error:
                text = f"record {name} cannot be deleted from {self._folder}: {error.strerror}"
                raise TierUnavailableError(text) from None
            self._note(name, None)

    def records(self) -> Iterator[StoredRecord]:
        """See `Tier`. Reads the end of each file."""
        damaged = 0
        try:
            for shard in sorted(self._objects.iterdir()):
                if not shard.is_dir():
                    continue
                for path in sorted(shard.iterdir()):
                    found = _stored(path)
                    if found is not None:
                        self._note(found.name, found.size_bytes)
                        yield found
                    elif _is_ours(path):
                        damaged += 1
                        path.unlink()
        except OSError as error:
            raise TierUnavailableError(f"{self._folder} cannot be read: {error.strerror}") from None
        if damaged:
            logger.warning("%d files in %s were damaged or unfinished, and are removed", damaged, self._folder)

    def close(self) -> None:
        """See `Tier`."""
        if self._lock >= 0:
            close(self._lock)
        self._lock = -1

    # --- inside

    def _path(self, name: str) -> str:
        check_name(name)
        return f"{self._objects}/{name[-2:]:0>2}/{name}"

    def _make_folder(self, shard: str) -> None:
        # A folder that somebody has removed is made again, but not one above it: a disk that is not mounted must not come back
        # as a folder of another one.
        for path in (str(self._objects), shard):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)

    def _note(self, name: str, size: int | None) -> None:
        with self._guard:
            self._used_bytes -= self._sizes.pop(name, 0)
            if size is not None:
                self._sizes[name] = size
                self._used_bytes += size

    def _unreadable(self, name: str, error: OSError) -> TierUnavailableError:
        return TierUnavailableError(f"record {name} cannot be read from {self._folder}: {error.strerror}")

    def _map(self, name: str, descriptor: int) -> Record:
        footer = _read_footer(descriptor)
        lengths = stamp = None
        if footer is not None and _checksum(descriptor, footer.data_bytes) == footer.checksum:
            stamp = os.pread(descriptor, ID_BYTES, STAMP_AT)
            lengths = read_lengths(descriptor, stamp)
        if footer is None or stamp is None or lengths is None:
            raise DamagedError(f"record {name} in {self._folder} is damaged")
        if len(self._mapped) >= self._mappings_max:
            return Record(footer.header, _copies(descriptor, lengths))
        mapping = mmap.mmap(descriptor, footer.data_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        self._mapped.add(mapping)
        weakref.finalize(mapping, close, descriptor).atexit = False
        place = pack_place(Place(os.getpid(), descriptor, stamp))
        return MappedRecord(footer.header, slices(memoryview(mapping), lengths), place)


def _lock(folder: Path) -> int:
    """Return a descriptor that holds the folder. It is open for reading only, so that the disk may become read-only."""
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        close(descriptor)
        raise ServiceError(
            f"--storage-path {folder} is in use by another object storage server (process {holder or 'unknown'})"
        ) from None
    except BaseException:
        close(descriptor)
        raise
    return descriptor


def _claim(folder: Path, cluster: str) -> None:
    """Note whose folder this is. Raises ConfigurationError if it is somebody else's."""
    path = folder / "scaler-storage.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        path.write_text(json.dumps({"format": FORMAT, "cluster": cluster}) + "\n", encoding="utf-8")
        return
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        text = f"files of another format than {FORMAT}, which this version writes"
    elif found.get("cluster") != cluster:
        text = f"objects of another cluster ({found.get('cluster') or 'without keys'}, not {cluster or 'without keys'})"
    else:
        return
    raise ConfigurationError(f"--storage-path {folder} has {text}: name another folder, or remove this one")


def _new_file(path: str) -> IO[bytes]:
    return open(path, "wb", _BUFFER_BYTES, opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, 0o600))


def _write(file: IO[bytes], header: bytes, buffers: Sequence[Frame]) -> int:
    lengths = [len(buffer) for buffer in buffers]
    pieces: list[Frame] = [head(bytes(TOKEN_BYTES), os.urandom(ID_BYTES), lengths)]
    for buffer in buffers:
        pieces.append(buffer)
        pieces.append(bytes(-len(buffer) % ALIGNMENT))
    checksum = xxhash.xxh3_128()
    for piece in pieces:
        # In pieces that stay in the processor's cache between the checksum and the copy.
        view = memoryview(piece)
        for at in range(0, len(view), _PIECE_BYTES):
            part = view[at : at + _PIECE_BYTES]
            checksum.update(part)
            file.write(part)
    data_bytes = offsets(lengths)[-1]
    file.write(header)
    file.write(_footer(data_bytes, checksum.digest(), header))
    file.flush()
    return data_bytes + len(header) + _FOOTER.size


def _footer(data_bytes: int, checksum: bytes, header: bytes) -> bytes:
    unsigned = _FOOTER.pack(data_bytes, len(header), checksum, bytes(16), _MAGIC)
    own = xxhash.xxh3_128(header)
    own.update(unsigned)
    return _FOOTER.pack(data_bytes, len(header), checksum, own.digest(), _MAGIC)


def _read_footer(descriptor: int) -> _Footer | None:
    """Return the end of a file; None if the file does not have the length, or the end not the checksum, it was written with."""
    size = os.fstat(descriptor).st_size
    if size < _FOOTER.size:
        return None
    raw = os.pread(descriptor, _FOOTER.size, size - _FOOTER.size)
    data_bytes, header_bytes, checksum, _, magic = _FOOTER.unpack(raw)
    if magic != _MAGIC or header_bytes > HEADER_BYTES_MAX or data_bytes + header_bytes + _FOOTER.size != size:
        return None
    header = os.pread(descriptor, header_bytes, data_bytes)
    return _Footer(data_bytes, checksum, header) if _footer(data_bytes, checksum, header) == raw else None


def _checksum(descriptor: int, size: int) -> bytes:
    """Return the checksum of the first bytes of a file. Read rather than mapped: a disk that fails is then an OSError."""
    checksum = xxhash.xxh3_128()
    piece = memoryview(bytearray(min(size, _PIECE_BYTES)))
    at = 0
    while at < size:
        count = os.preadv(descriptor, [piece[: size - at]], at)
        if not count:
            break
        checksum.update(piece[:count])
        at += count
    return checksum.digest()


def _copies(descriptor: int, lengths: Sequence[int]) -> list[Frame]:
    copies: list[Frame] = []
    for at, length in zip(offsets(lengths), lengths, strict=False):
        copy = bytearray(length)
        done = 0
        while done < length:
            count = os.preadv(descriptor, [memoryview(copy)[done:]], at + done)
            if not count:
                raise OSError(errno.EIO, "the file ended early")
            done += count
        copies.append(memoryview(copy).toreadonly())
    return copies


def _stored(path: Path) -> StoredRecord | None:
    """Return what a file of a record says; None if it is none, or damaged."""
    if not _is_ours(path) or path.name.endswith(_UNFINISHED):
        return None
    with open(path, "rb", buffering=0) as file:
        footer = _read_footer(file.fileno())
        size = os.fstat(file.fileno()).st_size
    return None if footer is None else StoredRecord(path.name, footer.header, size)


def _is_ours(path: Path) -> bool:
    try:
        check_name(path.name.removesuffix(_UNFINISHED))
    except ValueError:
        return False
    return path.is_file()


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        close(descriptor)
