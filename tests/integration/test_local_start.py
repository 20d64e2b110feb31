"""A local cluster that cannot start: one clear line, one exception, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scaler import Client, Cluster, Scheduler, SchedulerClusterCombo
from scaler.local import services
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.testing.free_ports import free_ports
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
            SchedulerClusterCombo(n_workers=1, address=address)
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"scaler_scheduler: cannot listen on {address}: Address already in use"


def test_a_setting_of_the_workers_that_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError) as caught:
        SchedulerClusterCombo(n_workers=1, per_worker_task_queue_size=0)
    line = "scaler_cluster: --per-worker-task-queue-size: must be greater than or equal to 1, not '0'"
    assert capfd.readouterr().err == f"{line}\n"
    # A notebook does not show what services write to stderr.
    assert str(caught.value) == f"the local cluster ended before it was ready: exit status 2\n{line}"


def test_a_setting_of_the_scheduler_that_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError, match="the local cluster ended before it was ready: exit status 2"):
        SchedulerClusterCombo(n_workers=1, max_task_attempts=0)
    assert capfd.readouterr().err == (
        "scaler_scheduler: --max-task-attempts: must be greater than or equal to 1, not '0'\n"
    )


def test_wrong_settings_of_both_are_told_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError, match="the local cluster ended before it was ready: exit status 2"):
        SchedulerClusterCombo(n_workers=1, per_worker_task_queue_size=0, max_task_attempts=0)
    assert capfd.readouterr().err == (
        "scaler_scheduler: --max-task-attempts: must be greater than or equal to 1, not '0'\n"
        "scaler_cluster: --per-worker-task-queue-size: must be greater than or equal to 1, not '0'\n"
    )


def test_no_workers_at_all() -> None:
    with SchedulerClusterCombo(0) as combo, Client(combo.get_address()) as client:
        future = client.submit(pow, 2, 3)
        with Cluster(combo.get_address(), n_workers=1):
            assert future.result(timeout=60) == 8


def test_the_number_of_workers_comes_first() -> None:
    with pytest.raises(TypeError, match="n_workers is a number, and comes first"):
        SchedulerClusterCombo("tcp://127.0.0.1:0", 1)  # type: ignore[arg-type]


def test_a_setting_of_the_object_storage_server_that_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ServiceError, match=r"(?s)scaler_objstore ended before .* exit status 2.*--memory-limit-bytes: "
    ):
        SchedulerClusterCombo(n_workers=1, memory_limit_bytes=0)
    assert "--memory-limit-bytes: must be greater than 0, not 0\n" in capfd.readouterr().err


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
        [
            sys.executable,
            "-m",
            "scaler_protocol.service.shared_process",
            "scaler_worker",
            "-",
            "-n",
            "1",
            "-ll",
            "WARNING",
        ],
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
    if signal_number == signal.SIGKILL:
        # A service may see its starter's pipe end before the kernel's signal ends it, and say so.
        errors = errors.replace("scaler_object_storage_server: ADDRESS: standard input ended without one", "")
    # A program that was interrupted says so itself; its cluster adds nothing.
    assert "scaler_" not in "".join(line for line in errors.splitlines() if not line.startswith((" ", "Traceback")))


# --- ready means that workers can run

PRELOADS = """
import os, sys, time

def fail():
    raise RuntimeError("the licence server does not answer")

def leave():
    os._exit(7)

def quit():
    sys.exit("no licence")

def hang():
    time.sleep(600)

def talk():
    for number in range(20_000):
        print("line", number, "x" * 100)
        print("line", number, "x" * 100, file=sys.stderr)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    os.environ["PRELOADED"] = path
"""


@pytest.fixture
def preloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preloads_of_test.py").write_text(PRELOADS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("preload", "reason"),
    [
        ("nowhere_to_be_found:f()", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("preloads_of_test:fail()", "RuntimeError: the licence server does not answer"),
        ("preloads_of_test:quit()", "SystemExit: no licence"),
        ("preloads_of_test:leave()", "ended with exit code 7"),
        ("preloads_of_test:missing()", "has no attribute 'missing'"),
        ("no call", "expected package.module:function(arguments)"),
    ],
)
@pytest.mark.usefixtures("preloads")
def test_a_preload_that_fails_is_an_error_that_says_why(preload: str, reason: str) -> None:
    with pytest.raises(ServiceError, match="the local cluster ended before it was ready: exit status 1") as caught:
        SchedulerClusterCombo(n_workers=2, preload=preload)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 5_000


@pytest.mark.usefixtures("preloads")
def test_a_preload_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "PRELOAD_SECONDS", -45.0)
    with pytest.raises(ServiceError) as caught:
        SchedulerClusterCombo(n_workers=2, preload="preloads_of_test:hang()")
    assert str(caught.value) == (
        "the local cluster did not become ready within 15 s: 2 of 2 workers still run --preload preloads_of_test:hang()"
    )


@pytest.mark.usefixtures("preloads")
def test_a_preload_that_says_much_holds_nothing_up(capfd: pytest.CaptureFixture[str]) -> None:
    with SchedulerClusterCombo(n_workers=1, preload="preloads_of_test:talk()") as combo:
        assert "line 19999" in capfd.readouterr().out
        with Client(combo.get_address()) as client:
            assert client.submit(pow, 2, 3).result(timeout=60) == 8


@pytest.mark.usefixtures("preloads")
def test_workers_have_done_their_preload_when_their_cluster_is_there(tmp_path: Path) -> None:
    mark = tmp_path / "go"
    timer = threading.Timer(1.0, mark.touch)
    timer.start()
    with SchedulerClusterCombo(n_workers=2, preload=f"preloads_of_test:wait_for({str(mark)!r})") as combo:
        assert mark.exists()
        with Client(combo.get_address()) as client:
            assert client.submit(os.getenv, "PRELOADED").result(timeout=60) == str(mark)
    timer.join()


def test_workers_start_without_their_scheduler() -> None:
    address = f"tcp://127.0.0.1:{free_ports(3)[0]}"
    with Cluster(address, n_workers=1) as cluster:
        assert cluster.is_running
        with Scheduler(address) as scheduler, Client(scheduler.get_address()) as client:
            assert client.submit(pow, 2, 3).result(timeout=60) == 8


@pytest.mark.usefixtures("preloads")
def test_workers_that_cannot_start_say_so_without_a_scheduler() -> None:
    cluster = Cluster("tcp://127.0.0.1:1", n_workers=1, preload="preloads_of_test:fail()")
    with pytest.raises(ServiceError, match=r"(?s)scaler_worker ended before it was ready.*the licence server"), cluster:
        pass
    assert not cluster.is_running


@pytest.mark.usefixtures("preloads")
def test_start_of_a_cluster_returns_at_once(tmp_path: Path) -> None:
    cluster = Cluster("tcp://127.0.0.1:1", n_workers=1, preload=f"preloads_of_test:wait_for({str(tmp_path / 'go')!r})")
    cluster.start()
    try:
        assert cluster.is_running
    finally:
        cluster.terminate()
    assert not cluster.is_running


@pytest.mark.usefixtures("preloads")
def test_workers_that_cannot_start_say_so_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster("tcp://127.0.0.1:1", n_workers=1, preload="preloads_of_test:fail()")
    cluster.start()
    cluster.join(50)
    assert not cluster.is_running
    assert "the licence server" in capfd.readouterr().err


def test_waiting_for_a_scheduler_that_does_not_come_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "START_SECONDS", 15.0)
    cluster = Cluster("tcp://127.0.0.1:1", n_workers=1, logging_level="ERROR")
    cluster.launch()
    with pytest.raises(ServiceError, match=r"within 15 s: no scheduler has answered at tcp://127\.0\.0\.1:1 yet"):
        cluster.wait_ready()


def test_services_in_a_program_are_quiet_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    for level, is_quiet in ((None, True), ("INFO", False)):
        asked: dict[str, Any] = {} if level is None else {"logging_level": level}
        with (
            Scheduler(**asked) as scheduler,
            Cluster(scheduler.get_address(), n_workers=1, **asked),
            Client(scheduler.get_address()) as client,
        ):
            assert client.submit(pow, 2, 3).result(timeout=60) == 8
        written, errors = capfd.readouterr()
        assert errors == ""
        assert (written == "") == is_quiet
    for told in (
        "scheduler listens on",
        "Watch it",
        "Stop it with Ctrl-C or 'kill ",
        "1 worker for ",
        "workers stopped",
    ):
        assert told in written
