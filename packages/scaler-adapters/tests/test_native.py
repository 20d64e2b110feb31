"""The native adapter as a real process, with real worker processes that a small stand-in plays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from scaler_adapters.native.worker_process import WorkerProcess
from scaler_protocol.service.child import ChildService
from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.testing.security_directory import make_security_directory
from scaler_protocol.testing.waiting import wait_until

# Found before the real scaler_worker, so that this package is tested without it: reports ready, waits for the end.
STAND_IN = """
    import json, os, signal, sys, time
    from scaler_protocol.service.child import die_with_parent
    from scaler_protocol.service.readiness import Readiness
    die_with_parent()
    deaf = "SCALER_STAND_IN_IS_DEAF" in os.environ
    signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda *_: sys.exit(0))
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
    os.kill(adapter.pid, signal_number)
    assert adapter.join(20) == 0
    assert workers
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_a_port_in_use_is_one_clear_error(adapter: ChildService, scheduler_address: str) -> None:
    port = url(adapter).rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, "-m", "scaler_adapters.native", scheduler_address, "--port", port],
        capture_output=True,
        text=True,
    )
    # Not 2, which systemd takes for a mistake in the settings: the port may be free the next time.
    assert second.returncode == 1
    assert f"--host, --port: cannot listen on 127.0.0.1 port {port}: Address already in use" in second.stderr


def test_an_adapter_that_was_killed_finds_its_workers_again(scheduler_address: str) -> None:
    arguments = [scheduler_address, f"--port={free_ports(1)[0]}", "--max-workers=3"]
    first = ChildService.start("scaler_adapters.native", arguments)
    base = url(first)
    start = {"action": "start_worker_group", "capabilities": ["gpu"], "metadata": {"request_id": "r1"}}
    with httpx.Client(base_url=base, timeout=30) as http:
        started = http.post("/", json=start).json()
        workers = psutil.Process(first.pid).children()
        os.kill(first.pid, signal.SIGKILL)
        first.join(10)
        second = ChildService.start("scaler_adapters.native", arguments)
        try:
            second.wait_ready(30)
            (found,) = http.get("/").json()["worker_groups"]
            assert found["worker_group_id"] == started["worker_group_id"]
            assert (found["worker_ids"], found["capabilities"]) == (started["worker_ids"], {"gpu": -1})
            assert http.post("/", json=start).json() == started, "the same request, not another group"
            shut = {"action": "shutdown_worker_group", "worker_group_id": found["worker_group_id"]}
            assert http.post("/", json=shut).status_code == 200
            assert http.get("/").json()["worker_groups"] == []
        finally:
            second.terminate()
    assert len(workers) == 1
    # Whoever adopts the children of a killed process may take long to notice their end.
    assert all(is_over(worker) for worker in psutil.wait_procs(workers, timeout=10)[1])


def is_over(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_adapters_of_other_ports_leave_each_others_workers_alone(adapter: ChildService, scheduler_address: str) -> None:
    with httpx.Client(base_url=url(adapter), timeout=30) as http:
        http.post("/", json={"action": "start_worker"})
    other = ChildService.start("scaler_adapters.native", [scheduler_address, "--port=0"])
    try:
        assert httpx.get(url(other)).json()["worker_groups"] == []
    finally:
        other.terminate()
    assert len(psutil.Process(adapter.pid).children()) == 1


def test_a_worker_that_does_not_end_is_killed(scheduler_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    process = WorkerProcess.start(
        "scaler_worker", [scheduler_address], {"SCALER_STAND_IN_IS_DEAF": "1", "PYTHONPATH": os.environ["PYTHONPATH"]}
    )
    process.wait_ready(30)
    process.terminate(0.2)
    assert not process.is_running
    assert process.describe_end() == "killed by SIGKILL"


def test_groups_can_have_several_workers(scheduler_address: str, tmp_path: Path) -> None:
    child = ChildService.start("scaler_adapters.native", [scheduler_address, "--port=0", "-mw=5", "-wpg=2"])
    try:
        with httpx.Client(base_url=url(child), timeout=30) as http:
            info = http.post("/", json={"action": "get_worker_adapter_info"}).json()
            assert (info["max_worker_groups"], info["workers_per_group"]) == (2, 2)
            names = http.post("/", json={"action": "start_worker_group"}).json()["worker_ids"]
            started = (tmp_path / "s.started").read_text()
            assert len(names) == 2
            assert all(f"{text}" in started for text in ("--num-of-workers=2", ",".join(names)))
    finally:
        child.terminate()


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=30)


def test_beyond_this_machine_a_token_is_needed(tmp_path: Path) -> None:
    words = ["scaler_adapters.native", "tcp://127.0.0.1:2345", "--host", "0.0.0.0", "--port", "0"]
    refused = run_command(*words)
    assert refused.returncode == 2
    assert "give --token-file, or --insecure" in refused.stderr
    (tmp_path / "token").write_text("")
    (tmp_path / "token").chmod(0o644)
    refused = run_command(*words, "--auth-token-file", str(tmp_path / "token"))
    assert (refused.returncode, "chmod 600" in refused.stderr) == (2, True)
    (tmp_path / "token").chmod(0o600)
    refused = run_command(*words, "--auth-token-file", str(tmp_path / "token"))
    assert refused.returncode == 2
    assert "contains no token" in refused.stderr
    refused = run_command(*words, "--auth-token-file", str(tmp_path / "missing"))
    assert (refused.returncode, "cannot read" in refused.stderr) == (2, True)
    (tmp_path / "token").write_text("secret\n")
    child = ChildService.start(words[0], [*words[1:], "--auth-token-file", str(tmp_path / "token")])
    try:
        address = url(child).replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(address).status_code == 401
        assert httpx.get(address, headers={"Authorization": "Bearer secret"}).status_code == 200
    finally:
        child.terminate()


def test_keys_that_its_workers_could_not_use_are_an_error_at_the_start(tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    (keys / "worker.key").unlink()
    for directory, reason in ((tmp_path / "missing", "no directory"), (keys, "worker")):
        words = ["scaler_adapters.native", "tcp://127.0.0.1:1", "--port", "0", "--security-dir", str(directory)]
        ended = run_command(*words)
        assert ended.returncode == 2
        assert "--security-dir: " in ended.stderr
        assert reason in ended.stderr
        assert "Traceback" not in ended.stderr


def test_adapters_are_found_by_their_entry_point() -> None:
    refused = run_command("scaler_adapters")
    assert refused.returncode == 2
    assert "native" in refused.stderr
    listed = run_command("scaler_adapters", "--help")
    assert (listed.returncode, listed.stdout) == (0, refused.stderr)
    helped = run_command("scaler_adapters", "native", "-h")
    assert (helped.returncode, helped.stdout.startswith("usage: scaler_worker_adapter_native")) == (0, True)
