"""SIGHUP: what service managers send as `reload`, and the system if a terminal is closed."""

from __future__ import annotations

import os
import pty
import signal
import sys
from pathlib import Path

import pytest

from scaler import Client
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, is_gone, wait_for

pytestmark = pytest.mark.without_keys("services with keys have something to read again")

NOTHING = "SIGHUP: this service has nothing to read again"


def hang_up(service: Service) -> None:
    os.kill(service.pid, signal.SIGHUP)


def test_no_service_ends(deployment: Deployment) -> None:
    storage = deployment.storage()
    scheduler = deployment.scheduler("--object-storage-address", storage.address)
    workers = deployment.workers(scheduler)
    ui = deployment.start("scaler_ui.web", str(scheduler.addresses["monitor"]), "--port=0")
    adapter = deployment.start("scaler_adapters.native", scheduler.address, "--port=0")
    services = (storage, scheduler, workers, ui, adapter)
    for service in services:
        hang_up(service)
    for service in services:
        service.wait_log(NOTHING)
    with deployment.client(scheduler) as client:
        assert client.map(f.square, range(20)) == [n * n for n in range(20)]
    assert all(service.child.is_running for service in deployment.services)


def test_services_of_one_process_do_not_end(deployment: Deployment) -> None:
    group = deployment.start(
        "scaler_protocol.service.shared_process",
        "scaler_scheduler",
        "tcp://127.0.0.1:0",
        "--",
        "scaler_worker",
        "-",
        "-n",
        "1",
    )
    hang_up(group)
    group.wait_log(NOTHING)
    with Client(group.address) as client:
        assert client.submit(f.square, 4).result(timeout=30) == 16


def test_an_audit_log_is_opened_again(deployment: Deployment, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    scheduler = deployment.scheduler("--audit-log", str(log))
    log.replace(tmp_path / "audit.jsonl.1")
    hang_up(scheduler)
    wait_for("the new audit log", log.exists)
    assert NOTHING not in scheduler.log()


def start_in_terminal(folder: Path, *before: str) -> tuple[int, int, Path]:
    """Return the process id of an object storage server that has a terminal of its own, the terminal, and its log."""
    log = folder / "server.log"
    pid, terminal = pty.fork()
    if pid == 0:
        # Where `nohup` writes its file.
        os.chdir(folder)
        # The tests may have been started with it themselves.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        command = [*before, sys.executable, "-m", "scaler_objstore", "tcp://127.0.0.1:0", "--logging-paths", str(log)]
        os.execvp(command[0], command)
    wait_for("the server", lambda: log.exists() and "listens on" in log.read_text())
    return pid, terminal, log


def exit_status(pid: int) -> int:
    wait_for("the server's end", lambda: is_gone(pid))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_service_ends_with_its_terminal(tmp_path: Path) -> None:
    pid, terminal, log = start_in_terminal(tmp_path)
    os.kill(pid, signal.SIGHUP)
    wait_for("the line", lambda: NOTHING in log.read_text())
    os.close(terminal)
    assert exit_status(pid) == 0
    assert "the terminal was closed" in log.read_text()


def test_a_service_outlives_its_terminal_under_nohup(tmp_path: Path) -> None:
    pid, terminal, log = start_in_terminal(tmp_path, "nohup")
    os.close(terminal)
    wait_for("the line", lambda: NOTHING in log.read_text())
    os.kill(pid, signal.SIGTERM)
    assert exit_status(pid) == 0
