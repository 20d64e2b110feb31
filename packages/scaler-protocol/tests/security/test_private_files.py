"""Files with secrets must be for their owner only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.private_files import require_private


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_ones_own_is_taken(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.touch()
    path.chmod(mode)
    require_private(path)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o644, 0o666, 0o602, 0o610])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "the token"
    path.touch()
    path.chmod(mode)
    with pytest.raises(SecurityFileError, match=f"mode is 0{mode:o}.*chmod 600 '{path}'"):
        require_private(path)


def test_a_directory_is_told_its_own_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(SecurityFileError, match="chmod 700"):
        require_private(tmp_path)


def test_where_a_link_leads_counts(tmp_path: Path) -> None:
    (tmp_path / "token").touch(0o644)
    (tmp_path / "token").chmod(0o644)
    (tmp_path / "link").symlink_to(tmp_path / "token")
    with pytest.raises(SecurityFileError):
        require_private(tmp_path / "link")


def stat_of(path: Path, uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file seem to belong to this user."""
    real = os.stat_result(path.stat())

    def stat(self: Path, **options: Any) -> os.stat_result:
        return os.stat_result((*real[:4], uid, *real[5:]))

    monkeypatch.setattr(Path, "stat", stat)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    stat_of(path, 1001, monkeypatch)
    with pytest.raises(SecurityFileError, match=r"belongs to another user \(uid 1001\)"):
        require_private(path)


@pytest.mark.parametrize(("mode", "accepted"), [(0o440, True), (0o400, True), (0o444, False), (0o460, False)])
def test_root_may_hand_a_file_to_the_group_of_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, accepted: bool
) -> None:
    path = tmp_path / "token"
    path.touch()
    path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    stat_of(path, 0, monkeypatch)
    if accepted:
        require_private(path)
    else:
        with pytest.raises(SecurityFileError):
            require_private(path)


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        require_private(tmp_path / "missing")
