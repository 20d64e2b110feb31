"""The native adapter as a real process, with real worker processes that a small stand-in plays."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from scaler_protocol.service.child import ChildService

# Found before the real scaler_worker, so that this package is tested without it: reports ready, waits for the end.
STAND_IN = """
    import json, sys, time
    from scaler_protocol.service.child import die_with_parent
    from scaler_protocol.service.readiness import Readiness
    die_with_parent()
    if any("broken" in argument for argument in sys.argv):
        sys.exit(3)
    with open(sys.argv[1].removeprefix("ipc://") + ".started", "a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\\n")
    Readiness.from_environment().ready()
    time.sleep(60)
"""


@pytest.fixture
def scheduler_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "modules" / "scaler_worker"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    return f"ipc://{tmp_path}/s"


@pytest.fixture
def adapter(scheduler_address: str) -> Iterator[ChildService]:
    child = ChildService.start(
        "scaler_adapters.native", [scheduler_address, "--port=0", "-mw=2", "-pwc=linux", "-tts=5"]
    )
    yield child
    child.terminate(10)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def url(adapter: ChildService) -> str:
    return str(adapter.wait_ready(30)["webhook"]).replace("tcp", "http")


def test_workers_are_real_processes(adapter: ChildService, tmp_path: Path) -> None:
    with httpx.Client(base_url=url(adapter), timeout=30) as http:
        answer = http.post("/", json={"action": "start_worker_group", "capabilities": {"gpu": 2}})
        assert answer.status_code == 200
        started = (tmp_path / "s.started").read_text()
        assert all(text in started for text in ("--num-of-workers=1", "linux,gpu=2", "--task-timeout-seconds=5.0"))
        assert len(psutil.Process(adapter.pid).children()) == 1
        assert http.post("/", json={"action": "start_worker"}).status_code == 200
        assert http.post("/", json={"action": "start_worker"}).status_code == 429
        group_id = answer.json()["worker_group_id"]
        assert http.post("/", json={"action": "shutdown_worker_group", "worker_group_id": group_id}).status_code == 200
        assert len(psutil.Process(adapter.pid).children()) == 1


def test_a_worker_that_died_is_not_listed_and_makes_room(adapter: ChildService) -> None:
    with httpx.Client(base_url=url(adapter), timeout=30) as http:
        http.post("/", json={"action": "start_worker"})
        for worker in psutil.Process(adapter.pid).children():
            worker.kill()
        wait_until(lambda: http.get("/").json()["worker_groups"] == [])


def test_a_worker_that_cannot_start_is_an_error(adapter: ChildService) -> None:
    with httpx.Client(base_url=url(adapter), timeout=30) as http:
        answer = http.post("/", json={"action": "start_worker", "capabilities": ["broken"]})
        assert answer.status_code == 500
        assert "ended before it was ready: exit status 3" in answer.json()["error"]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_adapter(adapter: ChildService, signal_number: signal.Signals) -> None:
    with httpx.Client(base_url=url(adapter), timeout=30) as http:
        http.post("/", json={"action": "start_worker"})
    workers = psutil.Process(adapter.pid).children()
    adapter.process.send_signal(signal_number)
    assert adapter.process.wait(20) == 0
    assert workers
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_a_port_in_use_is_one_clear_error(adapter: ChildService, scheduler_address: str) -> None:
    port = url(adapter).rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, "-m", "scaler_adapters.native", scheduler_address, "--port", port],
        capture_output=True,
        text=True,
    )
    assert second.returncode == 2
    assert f"--host, --port: cannot listen on 127.0.0.1 port {port}: Address already in use" in second.stderr


def test_symphony_without_its_python_module_is_one_clear_error() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "scaler_adapters.symphony", "tcp://127.0.0.1:2345", "--service-name", "s"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "soamapi is not installed; it comes with IBM Spectrum Symphony" in ended.stderr
