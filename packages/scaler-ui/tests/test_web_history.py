"""The history file, HEAD requests, and compressed answers."""

from __future__ import annotations

import functools
import gzip
import json
import logging
from pathlib import Path

import httpx
import pytest
from synthetic_cluster import UNIX, SyntheticScheduler, finished_tasks, snapshot

from scaler_protocol.service.child import ChildService
from scaler_protocol.testing.waiting import wait_until
from scaler_ui.model import ClusterModel, Limits
from scaler_ui.model.history import SERIES
from scaler_ui.web.history_file import HistoryFile


def model_with(samples: int, limit: int = 3_600) -> ClusterModel:
    model = ClusterModel(Limits(samples=limit))
    for second in range(samples):
        model.accept(snapshot(second, success=7 * second), float(second))
    return model


def test_a_history_comes_back_as_it_was(tmp_path: Path) -> None:
    before = model_with(50).history
    file = HistoryFile(tmp_path / "history")
    file.write(before)
    after = ClusterModel().history
    file.load(after)
    assert after.after(0) == before.after(0)
    shorter = ClusterModel(Limits(samples=20)).history
    file.load(shorter)
    assert list(shorter.times) == [UNIX + second for second in range(30, 50)]
    assert [path.name for path in tmp_path.iterdir()] == ["history"]


def test_series_that_an_older_file_does_not_have_are_zero(tmp_path: Path) -> None:
    path = tmp_path / "history"
    HistoryFile(path).write(model_with(3).history)
    head, _, samples = path.read_bytes().partition(b"\n")
    known = json.loads(head)
    known["series"][SERIES.index("started")] = "forgotten"
    path.write_bytes(json.dumps(known).encode() + b"\n" + samples)
    after = ClusterModel().history
    HistoryFile(path).load(after)
    assert list(after.columns["started"]) == [0.0] * 3
    assert list(after.columns["waiting"]) == [120.0] * 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]\n",
        b"{}\n",
        b'{"format": "other", "series": [], "samples": 0}\n',
        b'{"format": "scaler_ui history 1", "series": ["waiting"], "samples": 2}\n' + bytes(8),
        b'{"format": "scaler_ui history 1", "series": [], "samples": 1}\n' + b"\xff" * 8,
        b'{"format": "scaler_ui history 1", "series": [], "samples": -1}\n',
        b'{"format": "scaler_ui history 1", "series": 5, "samples": 0}\n',
    ],
)
def test_a_file_that_is_none_is_left_out(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history"
    path.write_bytes(content)
    model = ClusterModel()
    with caplog.at_level(logging.WARNING):
        HistoryFile(path).load(model.history)
    assert model.history.count == 0
    assert "cannot be read" in caplog.text


def test_a_missing_file_and_a_folder_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = HistoryFile(tmp_path / "missing" / "history")
    file.load(ClusterModel().history)
    assert caplog.text == ""
    file.write(model_with(2).history)
    assert "cannot be written" in caplog.text


def test_a_restart_of_the_pages_keeps_the_history(scheduler: SyntheticScheduler, tmp_path: Path) -> None:
    path = tmp_path / "history"
    for run in (1, 2):
        child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", f"--history-file={path}"])
        base = str(child.wait_ready(30)["webui"]).replace("tcp", "http")
        scheduler.wait_for_monitor()
        scheduler.publish(*(snapshot(10 * run + second) for second in range(5)))
        wait_until(functools.partial(has_times, base, 5 * run))
        if run == 2:
            assert times(base) == [UNIX + second for second in (10, 11, 12, 13, 14, 20, 21, 22, 23, 24)]
        assert child.terminate(40) == 0
        wait_until(lambda: not scheduler.topics())


def has_times(base: str, count: int) -> bool:
    return len(times(base)) == count


def times(base: str) -> list[float]:
    found: list[float] = httpx.get(f"{base}/api/history", timeout=10).json()["time"]
    return found


def test_head_and_compression(scheduler: SyntheticScheduler) -> None:
    child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0"])
    base = str(child.wait_ready(30)["webui"]).replace("tcp", "http")
    scheduler.wait_for_monitor()
    scheduler.publish(snapshot(1), finished_tasks(2_000))
    with httpx.Client(base_url=base, timeout=10) as client:
        wait_until(lambda: client.get("/api/overview").json()["bars"] == 2_000)
        for path in ("/", "/api/overview", "/api/stream", "/api/trace", "/metrics", "/healthz", "/static/app.js"):
            answer = client.head(path)
            assert (answer.status_code, answer.content) == (200, b""), path
            assert "content-security-policy" in answer.headers
        assert client.head("/api/nothing").status_code == 404
        for path in ("/", "/static/app.js", "/api/bars", "/api/trace"):
            answer = client.get(path)
            assert answer.headers["content-encoding"] == "gzip", path
            with client.stream("GET", path) as raw:
                compressed = b"".join(raw.iter_raw())
            # What is told by the moment, such as for how long the scheduler has been silent, differs.
            assert abs(len(gzip.decompress(compressed)) - len(answer.content)) < 10
            assert len(compressed) < len(answer.content) / 2
        plain = client.get("/api/bars", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        with client.stream("GET", "/api/stream") as stream:
            assert "content-encoding" not in stream.headers
    assert child.terminate(40) == 0
