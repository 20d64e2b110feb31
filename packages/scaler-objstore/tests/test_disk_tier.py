"""The tier in a folder: torn and damaged files, full and failing disks, and whose folder it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler_objstore.tiers.disk import DiskTier, MappedRecord
from scaler_objstore.tiers.port import DamagedError, NotStoredError, TierFullError, TierUnavailableError
from scaler_protocol.objects.segments import SegmentReader, unpack_place
from scaler_protocol.service.errors import ConfigurationError, ServiceError

NAME = "0123abcd"
BODY = [os.urandom(300_000), b"", os.urandom(70_001)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def tier(folder: Path) -> Iterator[DiskTier]:
    tier = DiskTier(folder)
    yield tier
    tier.close()


def file_of(folder: Path) -> Path:
    return folder / "objects" / NAME[-2:] / NAME


def listed(folder: Path) -> list[str]:
    """The records that the next process finds."""
    tier = DiskTier(folder)
    try:
        return [found.name for found in tier.records()]
    finally:
        tier.close()


def test_another_process_finds_what_was_written(folder: Path, tier: DiskTier) -> None:
    tier.write(NAME, b"header", BODY)
    tier.close()
    again = DiskTier(folder)
    (found,) = again.records()
    assert (found.name, found.header, found.size_bytes) == (NAME, b"header", file_of(folder).stat().st_size)
    assert [bytes(buffer) for buffer in again.read(NAME).buffers] == BODY
    assert again.used_bytes == found.size_bytes
    again.close()


def test_readers_on_this_host_map_a_record_while_it_is_held(tier: DiskTier) -> None:
    tier.write(NAME, b"header", BODY)
    record = tier.read(NAME)
    assert isinstance(record, MappedRecord)
    place = unpack_place(record.place)
    mapped = SegmentReader().read(place)
    assert mapped is not None
    assert [bytes(buffer) for buffer in mapped] == BODY
    mapped[0][0:4] = b"mine"  # type: ignore[index]
    assert [bytes(buffer) for buffer in tier.read(NAME).buffers] == BODY
    tier.delete([NAME])
    assert SegmentReader().read(place) is not None
    del record
    assert SegmentReader().read(place) is None


def test_synced_records_are_the_same(folder: Path) -> None:
    tier = DiskTier(folder, sync=True)
    tier.write(NAME, b"header", BODY)
    assert [bytes(buffer) for buffer in tier.read(NAME).buffers] == BODY
    tier.close()


@pytest.mark.parametrize("kept", [0, 1, 50, 1000, 300_000, -1])
def test_a_torn_file_is_dropped_and_never_read(
    folder: Path, tier: DiskTier, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    tier.write(NAME, b"header", BODY)
    size = file_of(folder).stat().st_size
    os.truncate(file_of(folder), kept if kept >= 0 else size + kept)
    with pytest.raises(DamagedError, match=NAME):
        tier.read(NAME)
    tier.close()
    assert listed(folder) == []
    assert not file_of(folder).exists()
    assert "1 files in" in caplog.text


@pytest.mark.parametrize("at", ["first", "stamp", "table", "body", "last", "header", "footer"])
def test_a_flipped_bit_is_noticed(folder: Path, tier: DiskTier, at: str) -> None:
    tier.write(NAME, b"header", BODY)
    path = file_of(folder)
    content = bytearray(path.read_bytes())
    header = content.rindex(b"header")
    place = {"first": 0, "stamp": 70, "table": 200, "body": 5000, "last": header - 64, "header": header, "footer": -60}
    content[place[at]] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        tier.read(NAME)


def test_what_was_being_written_at_a_crash_is_removed(folder: Path, tier: DiskTier) -> None:
    tier.write(NAME, b"header", BODY)
    unfinished = file_of(folder).with_name("77.part")
    unfinished.write_bytes(b"half")
    strange = folder / "objects" / "notes.txt"
    strange.write_text("not ours")
    tier.close()
    assert listed(folder) == [NAME]
    assert not unfinished.exists()
    assert strange.exists()


def test_a_removed_folder_is_told_and_made_again_for_the_next_record(folder: Path, tier: DiskTier) -> None:
    tier.write(NAME, b"header", BODY)
    held = tier.read(NAME)
    shutil.rmtree(folder / "objects")
    with pytest.raises(TierUnavailableError, match="is not there"):
        tier.read(NAME)
    assert [bytes(buffer) for buffer in held.buffers] == BODY
    tier.write("55", b"header", BODY)
    with pytest.raises(NotStoredError):
        tier.read(NAME)
    shutil.rmtree(folder)
    with pytest.raises(TierUnavailableError, match="No such file"):
        tier.write("56", b"header", BODY)


def test_a_file_in_the_place_of_a_folder_is_no_disaster(folder: Path, tier: DiskTier) -> None:
    (folder / "objects" / "cd").write_text("in the way")
    with pytest.raises(TierUnavailableError, match="Not a directory"):
        tier.write(NAME, b"header", BODY)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_a_record_and_keeps_the_others(small_disk: Path) -> None:
    tier = DiskTier(small_disk)
    tier.write(NAME, b"header", BODY)
    with pytest.raises(TierFullError, match="No space left"):
        tier.write("aa", b"header", [bytes(900_000)])
    assert [bytes(buffer) for buffer in tier.read(NAME).buffers] == BODY
    assert [found.name for found in tier.records()] == [NAME]
    tier.write("bb", b"header", [bytes(200_000)])
    tier.close()


def test_a_read_only_folder_is_told_and_still_read(small_disk: Path) -> None:
    tier = DiskTier(small_disk)
    tier.write(NAME, b"header", BODY)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(TierUnavailableError, match="Read-only"):
        tier.write("aa", b"header", [b"x"])
    with pytest.raises(TierUnavailableError, match="Read-only"):
        tier.delete([NAME])
    assert [bytes(buffer) for buffer in tier.read(NAME).buffers] == BODY
    tier.close()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        DiskTier(small_disk)


def test_two_servers_do_not_share_a_folder(folder: Path, tier: DiskTier) -> None:
    with pytest.raises(ServiceError, match=f"in use by another object storage server .process {os.getpid()}"):
        DiskTier(folder)
    tier.close()
    DiskTier(folder).close()


def test_the_folder_of_another_cluster_or_format_is_refused(folder: Path) -> None:
    DiskTier(folder, "one").close()
    with pytest.raises(ConfigurationError, match=r"objects of another cluster .one, not two"):
        DiskTier(folder, "two")
    with pytest.raises(ConfigurationError, match=r"objects of another cluster .one, not without keys"):
        DiskTier(folder)
    DiskTier(folder, "one").close()
    for text in ('{"format": 99, "cluster": "one"}', "[]", "not JSON"):
        (folder / "scaler-storage.json").write_text(text)
        with pytest.raises(ConfigurationError, match="another format"):
            DiskTier(folder, "one")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"--storage-path .* cannot be used"):
        DiskTier(tmp_path / "file" / "storage")
