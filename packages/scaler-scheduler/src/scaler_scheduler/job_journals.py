"""The journals of jobs, on disk: one file for each job in `jobs` below `--storage-path`.

A file begins with `MAGIC`, a version and a mark of 8 random bytes. Then come records: the mark, length and CRC-32 (4 bytes each,
little-endian), then the bytes, which only the core understands. The CRC-32 covers the place in the file and the length too: so
a copy of a journal that is the value of a task, even of this one, is never taken for records.

A file grows only at its end. Each record is given to the system at once, so nothing is lost when the scheduler is killed. It is
on the disk (fsync) when a job's block is left, and otherwise after about `SYNC_SECONDS`: so much may be lost with the power. A
record that was cut off at the end of a file is removed with the next start; damaged ones are passed over, also where their
length is damaged, and the file is kept as it was beside the new one.

What a full or failing disk does not take is kept in memory and tried again each second. Answers that say that something is kept
wait for that (`core.jobs.saving`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from scaler_protocol.runtime.counted import counted
from scaler_protocol.service.errors import ServiceError
from scaler_scheduler.core.events import JournalsBehind, JournalsStored

logger = logging.getLogger(__name__)

MAGIC = b"SCALERJOB"
VERSION = 2
UNMARKED_VERSION = 1
"""Its records have no mark: length and CRC-32 of the bytes only. Such a file is read, and written anew as it is now."""
MARK_BYTES = 8
_START = struct.Struct("<9sB8s")
_RECORD = struct.Struct("<8sII")
_COVERED = struct.Struct("<QI")
_UNMARKED_START = struct.Struct("<9sB")
_UNMARKED_RECORD = struct.Struct("<II")

SYNC_SECONDS = 1.0
"""How long a record may be with the system only."""

RECORD_BYTES_MAX = 1 << 31
"""A length beyond this is damage."""

OPEN_FILES_MAX = 64

BEHIND_BYTES = 64 * 1024 * 1024
"""If so many bytes wait for the disk, no further tasks are taken."""

SUFFIX = ".job"


class JournalsInUseError(ServiceError):
    """Another scheduler uses the folder."""


class JobJournals:
    """The files of one folder. Raises ServiceError where it cannot be used; JournalsInUseError: another scheduler uses it."""

    def __init__(
        self, storage_path: Path, on_event: Callable[[JournalsBehind | JournalsStored], None] = lambda _event: None
    ) -> None:
        """`on_event` is called from within methods."""
        self.folder = storage_path / "jobs"
        self._on_event = on_event
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
        self._unwritten: dict[bytes, list[bytes]] = {}
        """What a full or failing disk has not taken."""
        self._cut_at: dict[bytes, int] = {}
        """Where a file is to end before it is written again: behind that is a part of a record, which could not be removed."""
        self._waiting_bytes = 0
        """Those of `_unwritten`."""
        self._waits: list[int] = []
        """Those of `sync_all` that nobody was told of yet."""
        self._failure = ""
        self._is_behind = False
        self._synced_at = float("-inf")

    def close(self) -> None:
        """Write what is left, and close all files."""
        for job in list(self._unwritten):
            self._write(job)
        for job in list(self._unsynced):
            self._sync_file(job)
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
            if _is_cut_header(data):
                # Its first write was cut off, so nothing was kept in it.
                self._unlink(path)
                continue
            trouble = foreign_text(data)
            if trouble:
                logger.error("the journal %s is left alone, its job is not there: %s", path, trouble)
                continue
            records, end, damaged = read_records(data)
            try:
                if damaged:
                    aside = path.with_suffix(".damaged")
                    unread = len(data) - size_of(records, data[len(MAGIC)])
                    logger.error(
                        "the journal %s has %s; %s of it cannot be read and are kept in %s",
                        path,
                        counted(damaged, "damaged place"),
                        counted(unread, "byte"),
                        aside,
                    )
                    self._write_anew(path, records, aside)
                else:
                    if end < len(data):
                        logger.warning(
                            "the journal %s ended within a record: %d bytes are dropped", path, len(data) - end
                        )
                    if data[len(MAGIC)] == UNMARKED_VERSION:
                        self._write_anew(path, records)
                    elif end < len(data):
                        os.truncate(path, end)
            except OSError as error:
                logger.error("the journal %s cannot be repaired, its job is not there: %s", path, error)
                continue
            yield job, records

    @staticmethod
    def _write_anew(path: Path, records: list[bytes], aside: Path | None = None) -> None:
        """Write a file with these records in place of the one that is there, which is kept as `aside`."""
        whole = path.with_suffix(".new")
        with whole.open("wb") as file:
            file.write(whole_file(records))
            file.flush()
            os.fsync(file.fileno())
        if aside is not None:
            path.replace(aside)
        whole.replace(path)

    # --- later

    def append(self, job: bytes, record: bytes) -> None:
        """Append a record to a job's journal. What the disk does not take is tried again with `look`."""
        is_tried_later = job in self._unwritten
        self._unwritten.setdefault(job, []).append(record)
        self._waiting_bytes += len(record)
        if not is_tried_later:
            self._write(job)
        self._note_backlog()

    def sync(self, job: bytes) -> None:
        """Have all records of a job on the disk, as far as it takes them."""
        if job in self._unwritten:
            self._write(job)
        self._sync_file(job)
        self._note_backlog()

    def sync_all(self, wait: int) -> None:
        """Have all records on the disk, and say `JournalsStored` with this number when they are."""
        self._waits.append(wait)
        self._write_left()

    def _write_left(self) -> None:
        """Write again what the disk did not take, and tell who waits for that."""
        for job in list(self._unwritten):
            self._write(job)
        self._note_backlog()
        if self._waits and not self._unwritten:
            for job in list(self._unsynced):
                self._sync_file(job)
            waits, self._waits = self._waits, []
            for wait in waits:
                self._on_event(JournalsStored(wait))

    def _sync_file(self, job: bytes) -> None:
        self._unsynced.discard(job)
        fd = self._files.get(job)
        if fd is not None:
            try:
                os.fsync(fd)
            except OSError as error:
                logger.error("the journal of a job may not be on the disk: %s", error)

    def drop(self, job: bytes) -> None:
        """Remove a job's journal."""
        self._waiting_bytes -= sum(map(len, self._unwritten.pop(job, ())))
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
        self._write_left()
        due = [os.dup(self._files[job]) for job in self._unsynced if job in self._files]
        self._unsynced.clear()
        return due

    def _write(self, job: bytes) -> None:
        records = self._unwritten.pop(job)
        fd = -1
        end = 0
        try:
            fd = self._open(job)
            if job in self._cut_at:
                os.ftruncate(fd, self._cut_at[job])
                del self._cut_at[job]
            end = os.lseek(fd, 0, os.SEEK_END)
            if end:
                mark = os.pread(fd, MARK_BYTES, _START.size - MARK_BYTES)
                whole = framed_all(records, end, mark)
            else:
                whole = whole_file(records)
            written = 0
            while written < len(whole):
                written += os.write(fd, memoryview(whole)[written:])
        except OSError as error:
            self._unwritten[job] = records
            if not self._failure:
                # Once for all jobs: records come by the thousand.
                logger.error(
                    "the journal %s cannot be written, and is tried again each second: %s",
                    self._path(job),
                    error.strerror or error,
                )
            self._failure = error.strerror or str(error)
            if fd >= 0 and job not in self._cut_at:
                # What comes later must not stand behind half a record.
                try:
                    os.ftruncate(fd, end)
                except OSError:
                    self._cut_at[job] = end
            return
        self._waiting_bytes -= sum(map(len, records))
        self._unsynced.add(job)
        if self._failure and not self._unwritten:
            self._failure = ""
            logger.info("the journals in %s are written again", self.folder)

    def _note_backlog(self) -> None:
        if not self._is_behind and self._waiting_bytes >= BEHIND_BYTES:
            self._is_behind = True
            text = (
                f"jobs take no further tasks now: {self._waiting_bytes} bytes wait for the disk at {self.folder}, which does "
                f"not take them: {self._failure}. Try again later"
            )
            self._on_event(JournalsBehind(text))
        elif self._is_behind and self._waiting_bytes < BEHIND_BYTES // 2:
            self._is_behind = False
            self._on_event(JournalsBehind(""))

    def _open(self, job: bytes) -> int:
        fd = self._files.pop(job, None)
        if fd is None:
            while len(self._files) >= OPEN_FILES_MAX:
                oldest = next(iter(self._files))
                if oldest in self._unsynced:
                    self._sync_file(oldest)
                os.close(self._files.pop(oldest))
            fd = os.open(self._path(job), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
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


def framed(record: bytes, place: int, mark: bytes) -> bytes:
    """Return a record as it lies at this place of a file."""
    return _RECORD.pack(mark, len(record), _checksum(record, place)) + record


def framed_all(records: Iterable[bytes], place: int, mark: bytes) -> bytes:
    """Return records as they lie one behind the other, from this place of a file on."""
    parts = []
    for record in records:
        parts.append(framed(record, place, mark))
        place += len(parts[-1])
    return b"".join(parts)


def whole_file(records: Iterable[bytes], mark: bytes | None = None) -> bytes:
    """Return a file with these records. Its mark is drawn at random unless it is given."""
    mark = os.urandom(MARK_BYTES) if mark is None else mark
    return _START.pack(MAGIC, VERSION, mark) + framed_all(records, _START.size, mark)


def size_of(records: list[bytes], version: int = VERSION) -> int:
    """Return how long a file with these records is."""
    start, record = (_START, _RECORD) if version == VERSION else (_UNMARKED_START, _UNMARKED_RECORD)
    return start.size + sum(record.size + len(each) for each in records)


def _checksum(record: bytes | memoryview, place: int) -> int:
    return zlib.crc32(record, zlib.crc32(_COVERED.pack(place, len(record))))


def read_records(data: bytes) -> tuple[list[bytes], int, int]:
    """Return the whole records of a file, where the last one ends, and how many damaged places there are.

    A record that the end of the file cuts off is no damage. Behind a damaged one, the next whole one counts.
    """
    if len(data) > len(MAGIC) and data[len(MAGIC)] == UNMARKED_VERSION:
        return _read_unmarked(data)
    records: list[bytes] = []
    start = end = _START.size
    mark, damaged = data[start - MARK_BYTES : start], 0
    other = data[start : start + MARK_BYTES]
    if other != mark and _end_of_whole(data, start, other) is not None:
        # It is the file's mark that is damaged.
        mark, damaged = other, 1
    while start + _RECORD.size <= len(data):
        stop = _end_of_whole(data, start, mark)
        if stop is None:
            following = _next_whole(data, start + 1, mark)
            if following is None:
                damaged += not _may_be_cut(data, start, mark)
                break
            damaged += 1
            start = following
        else:
            records.append(data[start + _RECORD.size : stop])
            start = end = stop
    return records, end, damaged


def _end_of_whole(data: bytes, start: int, mark: bytes) -> int | None:
    """Return where the whole record ends that begins here; None: none does."""
    if start + _RECORD.size > len(data):
        return None
    found, length, checksum = _RECORD.unpack_from(data, start)
    begin, stop = start + _RECORD.size, start + _RECORD.size + length
    if found != mark or length > RECORD_BYTES_MAX or stop > len(data):
        return None
    return stop if _checksum(memoryview(data)[begin:stop], start) == checksum else None


def _next_whole(data: bytes, start: int, mark: bytes) -> int | None:
    """Return where, from `start` on, the next whole record begins; None: nowhere."""
    at = data.find(mark, start)
    while at >= 0 and _end_of_whole(data, at, mark) is None:
        at = data.find(mark, at + 1)
    return None if at < 0 else at


def _may_be_cut(data: bytes, start: int, mark: bytes) -> bool:
    """Whether what begins here, behind which no record is whole, may be one whose end was never written.

    The system may have written the length before the bytes; after the power has failed, the end of a file may be zeros.
    """
    found, length, _ = _RECORD.unpack_from(data, start)
    if found != mark:
        return not data[start:].strip(b"\0")
    return length <= RECORD_BYTES_MAX and start + _RECORD.size + int(length) >= len(data)


def _read_unmarked(data: bytes) -> tuple[list[bytes], int, int]:
    """As `read_records`, for a file of `UNMARKED_VERSION`.

    Behind a damaged record others count only if they are whole to the last one: a value of a task may look like some.
    """
    start = _UNMARKED_START.size
    records, end, cut, stop = _unmarked_from(data, start)
    if cut:
        return records, end, 0
    if stop is not None:
        others, end_of_others, _, _ = _unmarked_from(data, stop)
        if end_of_others == len(data):
            return [*records, *others], end_of_others, 1
    return records, end, 1


def _unmarked_from(data: bytes, start: int) -> tuple[list[bytes], int, bool, int | None]:
    """Return whole records from here on, where they end, whether nothing damaged follows, and where what is damaged would end."""
    records: list[bytes] = []
    while start + _UNMARKED_RECORD.size <= len(data):
        length, checksum = _UNMARKED_RECORD.unpack_from(data, start)
        if (
            not length
            and not checksum
            and not data[start:].strip(b"\0")
            and len(data) - start > 2 * _UNMARKED_RECORD.size
        ):
            break
        stop = start + _UNMARKED_RECORD.size + length
        if length > RECORD_BYTES_MAX:
            return records, start, False, None
        if stop > len(data):
            break
        record = data[start + _UNMARKED_RECORD.size : stop]
        if zlib.crc32(record) != checksum:
            return records, start, stop == len(data), stop
        records.append(record)
        start = stop
    return records, start, True, None


def _is_cut_header(data: bytes) -> bool:
    """Whether the first write was cut off, so that nothing is kept in the file."""
    magic, version = data[: len(MAGIC)], data[len(MAGIC) : len(MAGIC) + 1]
    return len(data) < _START.size and MAGIC.startswith(magic) and version in (b"", bytes([VERSION]))


def foreign_text(data: bytes) -> str:
    """Return why this is no journal that we can read; empty: it is one."""
    if len(data) < _UNMARKED_START.size or not data.startswith(MAGIC):
        return "it does not begin like a journal"
    version = data[len(MAGIC)]
    if version in (UNMARKED_VERSION, VERSION):
        return ""
    return f"it has version {version}, and this scheduler reads versions {UNMARKED_VERSION} and {VERSION}"
