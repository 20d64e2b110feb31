"""The two folders for a host's objects: what finds no room in the first goes to the spare one."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.objects.segments import Place
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.shell import object_cache
from scaler_worker.shell.object_cache import make_object_folders

ID, OTHER = b"i" * 16, b"o" * 16
CONTENT: list[Any] = [b"P1", bytes(range(256)) * 1200]
LEFT_BYTES = 64 * 1024
PLACE = Place(1, 2, b"s" * 16)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[ObjectFolders]:
    """The first folder is a file system that has room for some KiB."""
    first, spare = tmp_path / "first", tmp_path / "spare"
    first.mkdir()
    spare.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={LEFT_BYTES}", "tmpfs", str(first)], capture_output=True
        ).returncode
    ):
        pytest.skip("only root can mount a small file system")
    yield ObjectFolders(str(first), str(spare))
    subprocess.run(["umount", "-l", str(first)], check=True)


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_an_object_is_written_to_the_first_folder_that_has_room(
    full: ObjectFolders, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    full.write(OTHER, [b"small"])
    assert (names(full.first), names(full.spare)) == ({OTHER.hex()}, set())
    assert not caplog.records
    for number in range(3):
        object_id = bytes([number]) * 16
        assert full.write(object_id, CONTENT) == sum(map(len, CONTENT))
        assert full.map(object_id) == CONTENT
        assert full.read(object_id) == CONTENT
        assert full.size_of(object_id)
        assert full.read_copy(object_id, 1 << 30, os.getuid()) == CONTENT
        full.drop(object_id)
        assert full.read(object_id) is None
    # Nothing of the attempts is left.
    assert names(full.first) == {OTHER.hex()}
    (record,) = caplog.records
    assert "is full: large values of tasks go to files in" in record.getMessage()


def test_what_is_mapped_is_a_copy_of_ones_own(full: ObjectFolders) -> None:
    full.write(ID, CONTENT)
    first, second = full.map(ID), full.map(ID)
    assert first is not None
    first[1][0] = 77
    assert second == CONTENT


def test_a_place_that_cannot_be_replaced_is_not_found_any_more(
    full: ObjectFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = Place(1, 2, b"n" * 16)
    full.write_place(ID, PLACE)
    assert full.read_place(ID) == full.read(ID) == PLACE
    write = os.symlink

    def symlink(target: str, path: str) -> None:
        if path.startswith(full.first):
            raise OSError(28, "No space left on device")
        write(target, path)

    monkeypatch.setattr(os, "symlink", symlink)
    full.write_place(ID, newer)
    assert full.read_place(ID) == full.read(ID) == newer
    full.drop(ID)
    assert full.read_place(ID) is None


def test_without_a_spare_folder_the_error_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ObjectFolders(str(tmp_path / "missing")).write(ID, CONTENT)
    with pytest.raises(OSError, match="No such file"):
        ObjectFolders(str(tmp_path / "missing")).write_place(ID, PLACE)
    assert ObjectFolders(str(tmp_path / "missing")).read(ID) is None


def test_the_first_folder_may_vanish(tmp_path: Path) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    folders = ObjectFolders(str(tmp_path / "missing"), str(spare))
    folders.write(ID, CONTENT)
    folders.write_token(b"t" * 32)
    assert folders.map(ID) == CONTENT
    assert folders.read_token() == b"t" * 32


@pytest.mark.parametrize("there", [True, False])
def test_without_room_in_memory_all_objects_are_in_the_temporary_folder(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    memory = tmp_path / "memory"
    if there:
        memory.mkdir()
        monkeypatch.setattr(object_cache, "SHARED_MEMORY_BYTES_MIN", 1 << 60)
    monkeypatch.setattr(object_cache, "SHARED_MEMORY", memory)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    paths, folders, size = make_object_folders()
    assert paths == (folders.first,)
    assert (folders.spare, Path(folders.first).parent) == ("", tmp_path)
    assert size > 0
    (record,) = caplog.records
    assert ("MiB free, less than" if there else "cannot be used: No such file") in record.getMessage()


def test_with_room_in_memory_there_is_a_spare_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(object_cache, "SHARED_MEMORY_BYTES_MIN", 1)
    monkeypatch.setattr(object_cache, "SHARED_MEMORY", memory)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    paths, folders, _ = make_object_folders()
    assert paths == tuple(folders)
    assert (Path(folders.first).parent, Path(folders.spare).parent) == (memory, tmp_path)
