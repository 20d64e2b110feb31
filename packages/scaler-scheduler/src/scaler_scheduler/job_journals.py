"""The journals of jobs, on disk: one file for each job in `jobs` below `--storage-path`.

A file begins with `MAGIC` and a version. Then come records: length and CRC-32 (4 bytes each, little-endian), then the bytes,
which only the core understands. A file grows only at its end. Each record is given to the system at once, so nothing is lost
when the scheduler is killed. It is on the disk (fsync) when a job's block is left, and otherwise after about `SYNC_SECONDS`:
so much may be lost with the power. A record that was cut off at the end of a file is removed with the next start; damaged ones
are passed over, also where their length is damaged, and the file is kept as it was beside the new one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from scaler_protocol.service.errors import ServiceError

logger = logging.getLogger(__name__)

MAGIC = b"SCALERJOB"
VERSION = 1
_START = struct.Struct("<9sB")
_RECORD = struct.Struct("<II")
_HEADER = _START.pack(MAGIC, VERSION)

SYNC_SECONDS = 1.0
"""How long a record may be with the system only."""

RECORD_BYTES_MAX = 1 << 31
"""A length beyond this is damage."""

SOUGHT_BYTES_MAX = 32 * 1024 * 1024
"""So far behind a damaged length the next whole record is sought."""

FOLLOWING_RECORDS = 4
"""So many lengths that are possible behind each other are taken for records, before their bytes are looked at."""

OPEN_FILES_MAX = 64

SUFFIX = ".job"


class JournalsInUseError(ServiceError):
    """Another scheduler uses the folder."""


class JobJournals:
    """The files of one folder. Raises ServiceError where it cannot be used; JournalsInUseError: another scheduler uses it."""

    def __init__(self, storage_path: Path) -> None:
        self.folder = storage_path / "jobs"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServiceError(f"--storage-path: jobs cannot be kept in {self.folder}: {error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise JournalsInUseError(
                f"--storage-path: another scheduler keeps its jobs in {self.folder}; each needs a folder of its own"
            ) from None
        self._files: dict[bytes, int] = {}
        """Open files by job, the one that was used last at the end."""
        self._unsynced: set[bytes] = set()
        self._unwritten: dict[bytes, bytes] = {}
        """What a full or failing disk has not taken."""
        self._cut_at: dict[bytes, int] = {}
        """Where a file is to end before it is written again: behind that is a part of a record, which could not be removed."""
        self._synced_at = float("-inf")

    def close(self) -> None:
        """Write what is left, and close all files."""
        for job in list(self._unwritten):
            self._write(job)
        for job in list(self._unsynced):
            self.sync(job)
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
        os.close(self._lock)

    # --- at the start

    def load(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield each job with its records. Says in the log what is wrong with a file, which stays where it is."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                job = bytes.fromhex(path.stem)
                data = path.read_bytes()
            except ValueError:
                logger.warning("%s is no journal of a job: its name is none", path)
                continue
            except OSError as error:
                logger.error("the journal %s cannot be read, its job is not there: %s", path, error)
                continue
            if _HEADER.startswith(data) and len(data) < len(_HEADER):
                # Its first write was cut off, so nothing was kept in it.
                self._unlink(path)
                continue
            trouble = _foreign(data)
            if trouble:
                logger.error("the journal %s is left alone, its job is not there: %s", path, trouble)
                continue
            records, end, damaged = read_records(data)
            try:
                if damaged:
                    aside = path.with_suffix(".damaged")
                    unread = len(data) - _START.size - sum(_RECORD.size + len(record) for record in records)
                    logger.error(
                        "the journal %s has %d damaged places, %d bytes of it cannot be read; they are kept in %s",
                        path,
                        damaged,
                        unread,
                        aside,
                    )
                    self._set_aside(path, aside, records)
                elif end < len(data):
                    logger.warning("the journal %s ended within a record: %d bytes are dropped", path, len(data) - end)
                    os.truncate(path, end)
            except OSError as error:
                logger.error("the journal %s cannot be repaired, its job is not there: %s", path, error)
                continue
            yield job, records

    @staticmethod
    def _set_aside(path: Path, aside: Path, records: list[bytes]) -> None:
        whole = path.with_suffix(".new")
        with whole.open("wb") as file:
            file.write(_HEADER)
            file.writelines(framed(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        path.replace(aside)
        whole.replace(path)

    # --- later

    def append(self, job: bytes, record: bytes) -> None:
        """Append a record to a job's journal. What the disk does not take is tried again with `look`."""
        self._unwritten[job] = self._unwritten.get(job, b"") + framed(record)
        self._write(job)

    def sync(self, job: bytes) -> None:
        """Have all records of a job on the disk."""
        self._unsynced.discard(job)
        fd = self._files.get(job)
        if fd is not None:
            try:
                os.fsync(fd)
            except OSError as error:
                logger.error("the journal of a job may not be on the disk: %s", error)

    def drop(self, job: bytes) -> None:
        """Remove a job's journal."""
        self._unwritten.pop(job, None)
        self._unsynced.discard(job)
        self._cut_at.pop(job, None)
        fd = self._files.pop(job, None)
        if fd is not None:
            os.close(fd)
        self._unlink(self._path(job))

    @staticmethod
    def _unlink(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.error("the journal %s cannot be removed, so its job is back after a restart: %s", path, error)

    def look(self, now: float) -> list[int]:
        """Write again what the disk did not take. Return descriptors for `sync_files`. To be called now and then."""
        if now < self._synced_at + SYNC_SECONDS:
            return []
        self._synced_at = now
        for job in list(self._unwritten):
            self._write(job)
        due = [os.dup(self._files[job]) for job in self._unsynced if job in self._files]
        self._unsynced.clear()
        return due

    def _write(self, job: bytes) -> None:
        data = self._unwritten.pop(job)
        fd = -1
        end = 0
        try:
            fd = self._open(job)
            if job in self._cut_at:
                os.ftruncate(fd, self._cut_at[job])
                del self._cut_at[job]
            end = os.lseek(fd, 0, os.SEEK_END)
            whole = data if end else _HEADER + data
            written = 0
            while written < len(whole):
                written += os.write(fd, memoryview(whole)[written:])
        except OSError as error:
            logger.error("the journal of a job cannot be written, and is tried again: %s", error)
            self._unwritten[job] = data
            if fd >= 0 and job not in self._cut_at:
                # What comes later must not stand behind half a record.
                try:
                    os.ftruncate(fd, end)
                except OSError:
                    self._cut_at[job] = end
            return
        self._unsynced.add(job)

    def _open(self, job: bytes) -> int:
        fd = self._files.pop(job, None)
        if fd is None:
            while len(self._files) >= OPEN_FILES_MAX:
                oldest = next(iter(self._files))
                if oldest in self._unsynced:
                    self.sync(oldest)
                os.close(self._files.pop(oldest))
            fd = os.open(self._path(job), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._files[job] = fd
        return fd

    def _path(self, job: bytes) -> Path:
        return self.folder / f"{job.hex()}{SUFFIX}"


def sync_files(descriptors: list[int]) -> None:
    """Have these files on the disk, and close the descriptors. It may take as long as the disk does."""
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as error:
            logger.error("the journal of a job may not be on the disk: %s", error)
        finally:
            os.close(descriptor)


def framed(record: bytes) -> bytes:
    """Return a record as it lies in a file."""
    return _RECORD.pack(len(record), zlib.crc32(record)) + record


def read_records(data: bytes) -> tuple[list[bytes], int, int]:
    """Return the whole records of a file, where the last one ends, and how many damaged places there are.

    A record that the end of the file cuts off is no damage. Where a record is damaged and the next one is whole, that one counts;
    so does one that is found behind a damaged length (`_next_whole`).
    """
    records: list[bytes] = []
    damaged = 0
    start = end = _START.size
    while start + _RECORD.size <= len(data):
        length, checksum = _RECORD.unpack_from(data, start)
        if not length and not checksum and len(data) - start > 2 * _RECORD.size and not data[start:].strip(b"\0"):
            # After the power has failed, the end of a file may be zeros, which look like empty records.
            break
        stop = start + _RECORD.size + length
        if length > RECORD_BYTES_MAX or stop > len(data):
            # Its length is damaged, or it is cut off: then nothing follows.
            following = _next_whole(data, start + 1)
            if following is None:
                damaged += length > RECORD_BYTES_MAX
                break
            damaged += 1
            start = following
            continue
        record = data[start + _RECORD.size : stop]
        if zlib.crc32(record) == checksum:
            records.append(record)
            end = stop
        elif stop == len(data):
            # The last one: the system may have written its length before its bytes.
            break
        else:
            damaged += 1
            # Where its length is damaged as well, the next one begins elsewhere.
            following = stop if _others_follow(data, stop) else _next_whole(data, start + 1)
            stop = stop if following is None else following
        start = stop
    return records, end, damaged


def _next_whole(data: bytes, start: int) -> int | None:
    """Return where, from `start` on, a whole record begins behind which others follow; None: nowhere.

    Records have no mark of their own. But lengths below 16 MiB have a zero as their fourth byte, which is found fast, and
    hardly any other bytes are followed by as many lengths that are possible. Only then the checksum is computed. A value of a
    task that itself consists of such records may be taken for some: the core looks at what they say.
    """
    limit = min(len(data), start + SOUGHT_BYTES_MAX)
    at = data.find(b"\0", start + 3, limit)
    while at >= 0:
        begin = at - 3
        if _others_follow(data, begin):
            length, checksum = _RECORD.unpack_from(data, begin)
            first = begin + _RECORD.size
            if length and zlib.crc32(data[first : first + length]) == checksum:
                return begin
        at = data.find(b"\0", at + 1, limit)
    return None


def _others_follow(data: bytes, start: int) -> bool:
    """Whether some records may follow here one another, by their lengths, or as many as there are to the end of the file."""
    for _ in range(FOLLOWING_RECORDS):
        if start == len(data):
            break
        if start + _RECORD.size > len(data):
            return False
        start += _RECORD.size + int(_RECORD.unpack_from(data, start)[0])
        if start > len(data):
            return False
    return True


def _foreign(data: bytes) -> str:
    """Return why this is no journal that we can read; empty: it is one."""
    if len(data) < _START.size or not data.startswith(MAGIC):
        return "it does not begin like a journal"
    version = data[len(MAGIC)]
    return "" if version == VERSION else f"it has version {version}, and this scheduler reads version {VERSION}"
