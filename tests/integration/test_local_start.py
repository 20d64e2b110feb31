"""A local cluster that cannot start: one clear line, one exception, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scaler import Client, Cluster, Scheduler, SchedulerClusterCombo
from scaler_protocol.service.errors import ServiceError
from tests.integration.deployment import is_gone, wait_for


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = _descendants()
    yield
    wait_for("all processes are gone", lambda: all(is_gone(pid) for pid in _descendants() - before))


def _descendants() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_port_that_is_taken(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServiceError, match="the local cluster ended before it was ready: exit status 1"):
            SchedulerClusterCombo(address, n_workers=1)
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"scaler_scheduler: cannot listen on {address}: Address already in use"


def test_a_setting_of_the_workers_that_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError, match="the local cluster ended before it was ready: exit status 2"):
        SchedulerClusterCombo(n_workers=0)
    assert capfd.readouterr().err == ("scaler_cluster: --num-of-workers: Input should be greater than or equal to 1\n")


def test_a_setting_of_the_scheduler_that_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError, match="the local cluster ended before it was ready: exit status 2"):
        SchedulerClusterCombo(n_workers=1, max_task_attempts=0)
    assert capfd.readouterr().err == (
        "scaler_scheduler: --max-task-attempts: Input should be greater than or equal to 1\n"
    )


def test_wrong_settings_of_both_are_told_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError, match="the local cluster ended before it was ready: exit status 2"):
        SchedulerClusterCombo(n_workers=0, max_task_attempts=0)
    assert capfd.readouterr().err == (
        "scaler_scheduler: --max-task-attempts: Input should be greater than or equal to 1\n"
        "scaler_cluster: --num-of-workers: Input should be greater than or equal to 1\n"
    )


def test_a_setting_of_the_object_storage_server_that_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError, match="scaler_objstore ended before it was ready: exit status 2"):
        SchedulerClusterCombo(n_workers=1, memory_limit_bytes=0)
    assert "--memory-limit-bytes: Input should be greater than 0" in capfd.readouterr().err


def _variables_of_services() -> list[str]:
    return sorted(name for name in os.environ if name.startswith("SCALER_") or name == "NOTIFY_SOCKET")


def test_each_service_reports_for_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
            assert client.submit(_variables_of_services).result(timeout=60) == []
        reports = []
        with contextlib.suppress(BlockingIOError):
            while True:
                reports.append(manager.recv(4096))
    # The process of scheduler and agent; the storage server is the scheduler's business.
    assert sum(b"READY=1" in report for report in reports) == 1


def test_workers_may_be_started_before_their_scheduler() -> None:
    cluster = Cluster("-", n_workers=1, logging_level="WARNING")
    cluster.launch()
    try:
        with Scheduler(logging_level="WARNING") as scheduler:
            cluster.wait_ready(scheduler.get_address())
            assert cluster.is_running
            cluster.terminate()
    finally:
        cluster.terminate()


def test_workers_that_are_told_a_wrong_address(capfd: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster("-", n_workers=1)
    cluster.launch()
    with pytest.raises(ServiceError, match="scaler_worker ended before it was ready: exit status 2"):
        cluster.wait_ready("nowhere")
    assert "scaler_cluster: ADDRESS: on standard input: 'nowhere' is not an address" in capfd.readouterr().err


def test_workers_that_share_a_process_with_no_scheduler() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scaler_protocol.service.together", "scaler_worker", "-", "-n", "1", "-ll", "WARNING"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "scaler_cluster: ADDRESS: - means the scheduler before it in this process, and there is none\n"
    )


# Says which processes it has as soon as it has all of them, and goes on starting.
STARTING = textwrap.dedent(
    """
    import threading, time, psutil, scaler
    def watch():
        while len(children := psutil.Process().children(recursive=True)) < 3:
            time.sleep(0.001)
        print(*(child.pid for child in children), flush=True)
    threading.Thread(target=watch, daemon=True).start()
    scaler.SchedulerClusterCombo(n_workers=1)
    time.sleep(60)
    """
)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_ends_while_its_cluster_starts(signal_number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        try:
            os.kill(program.pid, signal_number)
            _, errors = program.communicate(timeout=30)
        finally:
            program.kill()
    assert pids
    wait_for("its processes are gone", lambda: all(is_gone(pid) for pid in pids))
    # A program that was interrupted says so itself; its cluster adds nothing.
    assert "scaler_" not in "".join(line for line in errors.splitlines() if not line.startswith((" ", "Traceback")))
