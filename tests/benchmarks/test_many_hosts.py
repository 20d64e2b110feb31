"""The program with played hosts and clients, at a small size. No timing: what it counts must be right, and complete."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from benchmarks.many_hosts import __main__ as command
from benchmarks.many_hosts.play import Cast

pytestmark = pytest.mark.without_keys("the played peers have none")


def test_every_task_of_fifty_clients_is_answered_once_though_the_scheduler_is_killed(tmp_path: Path) -> None:
    figures = command.play(Cast(agents=20, clients=50, workers=4, batch=20, task_seconds=0.001, seconds=0.5))
    assert figures["peers"] == 70
    assert figures["tasks, each answered once"] > 50 * 20
    assert figures["killed, tasks under way"] > 0
    assert figures["killed, all tasks answered after, s"] >= figures["killed, all peers back after, s"]
    for act in ("connect", "idle", "full load", "half load", "killed", "leave"):
        assert figures[f"{act}, longest turn, ms"] > 0
    for act in ("idle", "full load", "half load"):
        assert 0 < figures[f"{act}, lone task p50, ms"] <= figures[f"{act}, lone task p99, ms"]


def test_the_command_prints_and_writes_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cast = []

    def play(played: Cast) -> dict[str, float]:
        cast.append(played)
        return {"full load, longest turn, ms": 7.5, "tasks, each answered once": 12345.0}

    monkeypatch.setattr(command, "play", play)
    path = tmp_path / "figures.json"
    assert command.main(["--agents", "3", "--clients", "4", "--seconds", "1.5", "--json", str(path)]) == 0
    assert (cast[0].agents, cast[0].clients, cast[0].seconds) == (3, 4, 1.5)
    assert json.loads(path.read_text())["tasks, each answered once"] == 12345
    printed = capsys.readouterr().out
    assert "7.50  (more than 5)" in printed
    assert "12,345.00" in printed


@pytest.mark.parametrize(
    "arguments", [["--agents", "0"], ["--clients", "x"], ["--seconds", "0"], ["--task-seconds", "-1"]]
)
def test_wrong_numbers_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_more_peers_than_open_files_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this process may open as many files as it likes")
    assert command.main(["--clients", str(hard)]) == 2
    assert f"this process may have {hard}" in capsys.readouterr().err
