"""The files that jobs are kept in: whatever is wrong with one, nothing is lost that is whole, and the log says what it is."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import pytest

from scaler_protocol.service.errors import ServiceError
from scaler_scheduler import job_journals
from scaler_scheduler.core.events import JournalsBehind, JournalsStored
from scaler_scheduler.job_journals import JobJournals, read_records, size_of, sync_files, whole_file

JOB, OTHER = b"j" * 16, b"o" * 16
RECORDS = [b"first", b"", b"third" * 1000]
MARK = b"mark8byt"
LENGTH_AT = 8
"""Where a record has its length, behind the mark."""


def written(folder: Path) -> Path:
    journals = JobJournals(folder)
    for record in RECORDS:
        journals.append(JOB, record)
    journals.close()
    return folder / "jobs" / f"{JOB.hex()}.job"


def loaded(folder: Path) -> dict[bytes, list[bytes]]:
    journals = JobJournals(folder)
    found = dict(journals.load())
    journals.close()
    return found


def test_records_come_back_and_others_are_appended(tmp_path: Path) -> None:
    written(tmp_path)
    journals = JobJournals(tmp_path)
    assert dict(journals.load()) == {JOB: RECORDS}
    journals.append(JOB, b"later")
    journals.append(OTHER, b"another")
    journals.sync(JOB)
    journals.close()
    assert loaded(tmp_path) == {JOB: [*RECORDS, b"later"], OTHER: [b"another"]}


def test_a_file_that_ends_anywhere_keeps_its_whole_records(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    ends = [size_of(RECORDS[:count]) for count in range(len(RECORDS) + 1)]
    for size in [*range(18, 80), len(data) - 1, len(data)]:
        path.write_bytes(data[:size])
        whole = max(count for count, end in enumerate(ends) if end <= size)
        assert loaded(tmp_path) == {JOB: RECORDS[:whole]}, size
        # What is appended then stands behind the last whole one.
        journals = JobJournals(tmp_path)
        journals.append(JOB, b"later")
        journals.close()
        assert loaded(tmp_path) == {JOB: [*RECORDS[:whole], b"later"]}, size


def test_a_damaged_record_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[18 + 16] ^= 1
    path.write_bytes(data)
    assert loaded(tmp_path) == {JOB: RECORDS[1:]}
    assert "has 1 damaged place;" in caplog.text
    assert path.with_suffix(".damaged").read_bytes() == data
    # The new file is whole.
    caplog.clear()
    assert loaded(tmp_path) == {JOB: RECORDS[1:]}
    assert caplog.text == ""


def test_foreign_files_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path)
    folder = tmp_path / "jobs"
    foreign, later, unnamed = folder / f"{'aa' * 16}.job", folder / f"{'bb' * 16}.job", folder / "notes.job"
    foreign.write_bytes(b"something else altogether")
    later.write_bytes(b"SCALERJOB\x07and more")
    unnamed.write_bytes(b"notes")
    assert loaded(tmp_path) == {JOB: RECORDS}
    assert "does not begin like a journal" in caplog.text
    assert "it has version 7, and this scheduler reads versions 1 and 2" in caplog.text
    assert "notes.job is no journal" in caplog.text
    assert foreign.read_bytes() == b"something else altogether"
    assert later.read_bytes() == b"SCALERJOB\x07and more"


def test_a_damaged_length_costs_its_record_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = [bytes([number]) * (10 + number) for number in range(12)]
    starts = [size_of(records[:count]) for count in range(12)]
    whole = whole_file(records)
    for damaged in range(12):
        for length in (0xFFFFFFFF, 0x7FFFFFFF, len(whole), 5, 40):
            data = bytearray(whole)
            struct.pack_into("<I", data, starts[damaged] + LENGTH_AT, length)
            found, _, places = read_records(bytes(data))
            left = [*records[:damaged], *records[damaged + 1 :]]
            assert found == left, (damaged, length)
            # At the end it cannot be told from a record that was cut off, unless no record can be so long.
            assert places == 1 or damaged == 11, (damaged, length)
    data = bytearray(whole)
    struct.pack_into("<I", data, starts[3] + LENGTH_AT, 0x7FFFFFFF)
    path = written(tmp_path)
    path.write_bytes(data)
    assert loaded(tmp_path) == {JOB: [*records[:3], *records[4:]]}
    assert f"has 1 damaged place; {16 + len(records[3]):,} bytes of it cannot be read" in caplog.text
    assert path.with_suffix(".damaged").read_bytes() == data


def test_a_length_that_no_record_has_keeps_the_file_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    data = whole_file([b"one"], MARK) + MARK + struct.pack("<II", 0xFFFFFFFF, 0) + b"x" * 100
    path.write_bytes(data)
    assert loaded(tmp_path) == {JOB: [b"one"]}
    assert "has 1 damaged place; 116 bytes of it cannot be read" in caplog.text
    assert path.with_suffix(".damaged").read_bytes() == data


def test_a_journal_in_the_value_of_a_task_is_no_journal() -> None:
    """Zeros, and journals as the value of a task, behind a damaged length: even this very journal, which has the same mark."""
    inner = [b"inner%d" % number for number in range(10)]
    own = whole_file([b"one", *inner], MARK)
    others = (bytes(100_000), whole_file(inner), own[18:], own, MARK * 1000, unmarked_file(inner)[10:])
    for payload in others:
        data = whole_file([b"one", payload, b"two", b"three"], MARK)
        for length in (0xFFFFFFFF, 0x7FFFFFFF, 0, 5, 18, len(payload) - 1, len(payload) + 1):
            broken = bytearray(data)
            struct.pack_into("<I", broken, size_of([b"one"]) + LENGTH_AT, length)
            found, end, damaged = read_records(bytes(broken))
            assert (found, end, damaged) == ([b"one", b"two", b"three"], len(data), 1), length


def test_a_damaged_mark_of_the_file_costs_no_record(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[12] ^= 1
    path.write_bytes(data)
    assert loaded(tmp_path) == {JOB: RECORDS}
    assert path.with_suffix(".damaged").read_bytes() == data


def unmarked_file(records: list[bytes]) -> bytes:
    """A file of version 1."""
    return b"SCALERJOB\x01" + b"".join(struct.pack("<II", len(each), zlib.crc32(each)) + each for each in records)


def test_a_file_of_version_1_is_read_and_becomes_one_of_version_2(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path)
    old = unmarked_file(RECORDS)
    for tail in (b"", b"\x05\0\0\0\1\1\1\1cut", bytes(4096)):
        path.write_bytes(old + tail)
        journals = JobJournals(tmp_path)
        assert dict(journals.load()) == {JOB: RECORDS}
        journals.append(JOB, b"later")
        journals.close()
        assert path.read_bytes()[:10] == b"SCALERJOB\x02"
        assert loaded(tmp_path) == {JOB: [*RECORDS, b"later"]}
    assert not path.with_suffix(".damaged").exists()
    # A damaged one costs no other where the rest is whole to its end.
    broken = bytearray(old)
    broken[10 + 8] ^= 1
    path.write_bytes(broken)
    assert loaded(tmp_path) == {JOB: RECORDS[1:]}
    assert path.with_suffix(".damaged").read_bytes() == broken
    assert "has 1 damaged place; 13 bytes of it cannot be read" in caplog.text
    # Behind a damaged length nothing is sought: a value of a task may look like records.
    for length in (0xFFFFFFFF, 8):
        broken = bytearray(unmarked_file([b"one", b"12345678" + old[10:] + b"end", b"two"]))
        struct.pack_into("<I", broken, 10 + 8 + 3, length)
        assert read_records(bytes(broken))[0] == [b"one"]


def test_what_a_full_disk_does_not_take_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journals = JobJournals(tmp_path)
    journals.append(JOB, b"before")
    write = os.write
    room = [3]

    def full(fd: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "no space left")
        return write(fd, bytes(data)[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    journals.append(JOB, b"one")
    journals.append(JOB, b"two")
    assert "is tried again" in caplog.text
    monkeypatch.undo()
    sync_files(journals.look(100.0))
    journals.append(JOB, b"three")
    journals.close()
    assert loaded(tmp_path) == {JOB: [b"before", b"one", b"two", b"three"]}


def test_a_new_job_on_a_full_disk_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals = JobJournals(tmp_path)
    write, truncate = os.write, os.ftruncate
    room = [3]

    def full(fd: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "no space left")
        return write(fd, bytes(data)[: room.pop()])

    def failing(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "not even this")

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "ftruncate", failing)
    opened = len(os.listdir("/proc/self/fd"))
    journals.append(JOB, b"one")
    for second in range(20):
        journals.append(JOB, b"%d" % second)
        assert journals.look(100.0 * second) == []
    # Not one more for each attempt.
    assert len(os.listdir("/proc/self/fd")) <= opened + 1
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", truncate)
    sync_files(journals.look(1e6))
    journals.close()
    assert loaded(tmp_path) == {JOB: [b"one", *(b"%d" % second for second in range(20))]}


def test_a_journal_of_which_only_a_part_of_the_first_line_is_there_is_removed(tmp_path: Path) -> None:
    path = written(tmp_path)
    for size in (0, 4, 9, 10, 17):
        path.write_bytes(whole_file([])[:size])
        assert loaded(tmp_path) == {}
        assert not path.exists()


def test_zeros_at_the_end_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert loaded(tmp_path) == {JOB: RECORDS}
    assert path.stat().st_size == size
    assert "4096 bytes are dropped" in caplog.text


def test_what_cannot_be_repaired_or_removed_stops_no_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-1])

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "truncate", failing)
    monkeypatch.setattr(Path, "unlink", failing)
    journals = JobJournals(tmp_path)
    assert dict(journals.load()) == {}
    assert "cannot be repaired" in caplog.text
    journals.drop(JOB)
    journals.close()
    assert "cannot be removed" in caplog.text
    assert path.read_bytes() == data[:-1]


def test_more_jobs_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_journals, "OPEN_FILES_MAX", 2)
    journals = JobJournals(tmp_path)
    jobs = [bytes([number]) * 16 for number in range(5)]
    for text in (b"a", b"b"):
        for job in jobs:
            journals.append(job, text)
    journals.drop(jobs[0])
    journals.drop(jobs[4])
    journals.close()
    assert loaded(tmp_path) == {job: [b"a", b"b"] for job in jobs[1:4]}


def test_a_folder_has_one_scheduler(tmp_path: Path) -> None:
    first = JobJournals(tmp_path)
    with pytest.raises(ServiceError, match="another scheduler keeps its jobs"):
        JobJournals(tmp_path)
    first.close()
    JobJournals(tmp_path).close()
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="cannot be kept"):
        JobJournals(tmp_path / "file")


class Disk:
    """What `os.write` writes to, while it is not full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        self.writes = 0
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        self.writes += 1
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(fd, data)


def test_who_waits_for_a_journal_is_told_once_a_full_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk, told = Disk(monkeypatch), list[JournalsBehind | JournalsStored]()
    journals = JobJournals(tmp_path, told.append)
    for record in RECORDS:
        journals.append(JOB, record)
    journals.sync_all(1)
    journals.sync(JOB)
    journals.sync_all(2)
    journals.look(100.0)
    assert told == []
    disk.is_full = False
    journals.look(102.0)
    assert told == [JournalsStored(1), JournalsStored(2)]
    journals.sync_all(3)
    assert told[2:] == [JournalsStored(3)]
    journals.close()
    assert loaded(tmp_path) == {JOB: RECORDS}
    # One line about it, and the file's name in it.
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert f"{JOB.hex()}.job cannot be written" in line
    assert line.endswith("No space left on device")


def test_a_full_disk_is_asked_again_now_and_then_and_not_with_each_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    journals = JobJournals(tmp_path)
    for _ in range(1000):
        journals.append(JOB, b"record")
    assert disk.writes == 1
    journals.look(100.0)
    assert disk.writes == 2
    disk.is_full = False
    journals.close()
    assert loaded(tmp_path) == {JOB: [b"record"] * 1000}


def test_no_further_tasks_while_a_full_disk_does_not_take_those_that_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_journals, "BEHIND_BYTES", 10_000)
    disk, told = Disk(monkeypatch), list[JournalsBehind | JournalsStored]()
    journals = JobJournals(tmp_path, told.append)
    for job in (JOB, OTHER) * 5:
        journals.append(job, b"x" * 1000)
    (behind,) = told
    assert isinstance(behind, JournalsBehind)
    assert behind.text.startswith("jobs take no further tasks now: 10000 bytes wait for the disk at ")
    assert behind.text.endswith("which does not take them: No space left on device. Try again later")
    # Forgetting a job counts, and so does what is written.
    journals.drop(OTHER)
    journals.look(100.0)
    assert len(told) == 1
    disk.is_full = False
    journals.look(102.0)
    assert told[1:] == [JournalsBehind("")]
    journals.close()
