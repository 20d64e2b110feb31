"""What is packed of files and folders for an upload of modules, and what is told about edits."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scaler.client.module_archives import archive_of
from scaler.client.worker_setup import SetupOwner, WorkerSetup
from scaler.serialization.edited_modules import EDITED_MODULES


def entries(content: bytes) -> list[str]:
    return zipfile.ZipFile(BytesIO(content)).namelist()


def setup(store: Callable[[Any], bytes]) -> WorkerSetup:
    """Return what uploads, with an engine that stores by this."""
    engine = SimpleNamespace(client_id=b"c" * 16, unanswered_count=0, objects=SimpleNamespace(store=store))
    owner = SimpleNamespace(
        engine=engine, surroundings=None, inherits=False, require_open=lambda: None, surround=lambda *_: None
    )
    return WorkerSetup(cast(SetupOwner, owner))


def test_the_program_of_an_archive_is_none_of_its_modules(tmp_path: Path) -> None:
    path = tmp_path / "tool.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "import tool")
        archive.writestr("tool.py", "")
    assert archive_of(str(path))[1] == {"tool"}
    (tmp_path / "__main__.py").write_text("")
    with pytest.raises(ValueError, match="no module that could be imported"):
        archive_of(str(tmp_path / "__main__.py"))


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    for folder in (package, elsewhere):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    (package / "sub").symlink_to(elsewhere)
    assert entries(archive_of(str(package))[0]) == ["package/__init__.py", "package/sub/__init__.py"]
    (elsewhere / "back").symlink_to(package)
    with pytest.raises(ValueError, match="back' is a link to a folder that it is in"):
        archive_of(str(package))


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    try:
        Path(os.fsdecode(os.fsencode(package) + b"/data-\xff.txt")).write_text("")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(ValueError, match=r"data-.*is no text"):
        archive_of(str(package))


def test_two_paths_with_the_same_module(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "twice.py" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_text("")
    uploads = setup(lambda _: b"")
    with pytest.raises(ValueError, match="both have the module twice"):
        uploads.upload(paths)
    uploads.upload([paths[0], paths[0]])
    uploads.upload(paths[1])


def test_an_upload_of_what_was_edited_is_not_told_as_an_edit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "edited_and_uploaded.py"

    def store(_: Any) -> bytes:
        # As the engine does when it wakes up.
        EDITED_MODULES.look()
        return b"o" * 16

    uploads = setup(store)
    with caplog.at_level(logging.WARNING, "scaler"):
        for size in (100_000, 100_001):
            path.write_text(f"DATA = {os.urandom(size)!r}")
            uploads.upload(path)
        assert not caplog.messages
        path.write_text("")
        EDITED_MODULES.look()
    assert [str(path) in message for message in caplog.messages] == [True]


def test_an_edit_while_files_are_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edited_meanwhile.py"
    path.write_text("VALUE = 1")

    def read_and_edit(name: str) -> tuple[bytes, frozenset[str]]:
        content = archive_of(name)
        path.write_text("VALUE = 22")
        return content

    monkeypatch.setattr("scaler.client.worker_setup.archive_of", read_and_edit)
    with caplog.at_level(logging.WARNING, "scaler"):
        setup(lambda _: b"").upload(path)
        EDITED_MODULES.look()
    assert [str(path) in message for message in caplog.messages] == [True]
