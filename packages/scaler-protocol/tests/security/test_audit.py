"""The audit log: one line for each event that nobody can forge, in a file that may be moved and a disk that may be full."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.security import audit
from scaler_protocol.security.audit import FUNCTIONS_MAX, TEXT_CHARACTERS_MAX, AuditLog, bounded_names


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines() if line]


def test_each_event_is_one_line(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", "scheduler")
    log.record("submit", name="pricing", role="client", address="10.0.0.7:1", tasks=3, functions=["m.f"])
    log.record("shutdown", reason="SIGTERM received")
    log.close()
    first, second = lines(tmp_path / "audit.log")
    assert {**first, "time": ""} == {
        "time": "",
        "service": "scheduler",
        "event": "submit",
        "name": "pricing",
        "role": "client",
        "address": "10.0.0.7:1",
        "tasks": 3,
        "functions": ["m.f"],
    }
    assert second["name"] == second["role"] == ""
    assert first["time"].endswith("+00:00")


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\x0b", "\x85", "\u2028", "\0", "\x1b[2K"])
def test_a_name_cannot_forge_a_line(tmp_path: Path, separator: str) -> None:
    forged = f'x"}}{separator}{{"event": "shutdown", "name": "operator"}}'
    log = AuditLog(tmp_path / "audit.log", "scheduler")
    log.record("connect", name=forged, address=forged, peer=forged, functions=[forged])
    log.close()
    text = (tmp_path / "audit.log").read_text()
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    assert json.loads(text)["peer"] == forged


def test_lines_have_a_bound(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", "scheduler")
    names = bounded_names(["f" * 10_000] * 1_000)
    log.record("submit", name="n" * 100_000, functions=names)
    log.close()
    assert (tmp_path / "audit.log").stat().st_size < 12 * TEXT_CHARACTERS_MAX * FUNCTIONS_MAX
    assert names[-1] == "and 980 more"


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    AuditLog(tmp_path / "audit.log", "scheduler").close()
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("told", [True, False])
def test_a_moved_file_is_opened_anew(tmp_path: Path, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHECK_SECONDS", 0.0)
    path = tmp_path / "audit.log"
    log = AuditLog(path, "scheduler")
    log.record("connect")
    path.rename(tmp_path / "audit.log.1")
    if told:
        log.reopen()
    log.record("cancel")
    log.close()
    assert [line["event"] for line in lines(tmp_path / "audit.log.1")] == ["connect"]
    assert [line["event"] for line in lines(path)] == ["cancel"]


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHECK_SECONDS", 0.0)
    path = tmp_path / "audit.log"
    log = AuditLog(path, "scheduler")
    path.rename(tmp_path / "audit.log.1")
    path.touch()
    log.record("cancel")
    log.close()
    assert [line["event"] for line in lines(path)] == ["cancel"]


def test_a_full_disk_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(tmp_path / "audit.log", "scheduler")
    write, full = os.write, True

    def fill(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fill)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            log.record("connect")
        assert len(caplog.records) == 1
        assert "No space left on device" in caplog.text
        full = False
        log.record("cancel")
        log.record("cancel")
    log.close()
    assert len(caplog.records) == 2
    assert "100 lines were lost" in caplog.text
    assert [line["event"] for line in lines(tmp_path / "audit.log")] == ["cancel", "cancel"]


def test_a_device_that_is_really_full(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(Path("/dev/full"), "scheduler")
    log.record("connect")
    log.record("connect")
    log.close()
    assert caplog.text.count("cannot write the audit log /dev/full") == 1


def test_it_needs_no_keys() -> None:
    program = "import sys, scaler_protocol.security.audit; sys.exit('nacl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_pipe_and_a_file_of_several_are_refused_at_once(tmp_path: Path, mode: int) -> None:
    pipe, shared = tmp_path / "pipe", tmp_path / "shared"
    os.mkfifo(pipe)
    shared.touch()
    shared.chmod(mode)
    with pytest.raises(OSError, match="pipe"):
        AuditLog(pipe, "scheduler")
    with pytest.raises(OSError, match=r"others can write to it .*: chmod go-w /"):
        AuditLog(shared, "scheduler")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch(mode=0o600)
    os.chown(path, 12345, -1)
    with pytest.raises(OSError, match="belongs to another user"):
        AuditLog(path, "scheduler")
