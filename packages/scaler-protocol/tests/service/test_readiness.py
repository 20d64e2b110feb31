"""What systemd and a parent process are told, over a real datagram socket and a real pipe."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.readiness import REASON_CHARACTERS_MAX, Readiness
from scaler_protocol.service.reports import Reports


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room in the 108 bytes of a socket address, wherever the tests run."""
    with tempfile.TemporaryDirectory(prefix="scaler-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def systemd(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(short_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
        yield listener


def test_systemd_hears_ready_stopping_and_signs_of_life(systemd: socket.socket) -> None:
    readiness = Readiness.from_environment()
    readiness.ready({"scheduler": Address.parse("tcp://127.0.0.1:2345")})
    assert systemd.recv(1024) == b"READY=1\nSTATUS=scheduler on tcp://127.0.0.1:2345"
    readiness.alive()
    assert systemd.recv(1024) == b"WATCHDOG=1"
    readiness.stopping()
    assert systemd.recv(1024) == b"STOPPING=1"


def test_children_do_not_inherit_the_listeners(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Readiness.from_environment().watchdog_s == 3.0
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "SCALER_READY_FD"} & set(os.environ)


def test_a_watchdog_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Readiness.from_environment().watchdog_s is None


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0scaler-test-{os.getpid()}")
        listener.settimeout(5)
        Readiness(notify_socket=f"@scaler-test-{os.getpid()}").stopping()
        assert listener.recv(1024) == b"STOPPING=1"


def test_signs_of_life_come_three_times_within_the_limit(systemd: socket.socket, short_path: Path) -> None:
    readiness = Readiness(notify_socket=str(short_path / "notify"), watchdog_s=0.03)

    async def live_shortly() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(readiness.keep_alive(), 0.2)

    asyncio.run(live_shortly())
    assert systemd.recv(1024) == b"WATCHDOG=1"
    assert systemd.recv(1024) == b"WATCHDOG=1"


def test_keep_alive_ends_at_once_when_nobody_watches() -> None:
    asyncio.run(asyncio.wait_for(Readiness().keep_alive(), 1))


def test_a_parent_reads_the_bound_addresses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read_fd, write_fd = os.pipe()
    monkeypatch.setenv("SCALER_READY_FD", str(write_fd))
    readiness = Readiness.from_environment()
    readiness.ready({"object_storage": "tcp://127.0.0.1:4711"})
    readiness.ready({"object_storage": "again"})
    with os.fdopen(read_fd, "rb") as pipe:
        assert json.loads(pipe.read()) == {"ready": {"object_storage": "tcp://127.0.0.1:4711"}}


def test_a_parent_hears_what_is_waited_for_and_why_a_service_ends() -> None:
    read_fd, write_fd = os.pipe()
    readiness = Readiness(ready_fd=write_fd)
    reports = Reports(read_fd)
    readiness.status("a worker still runs its preload")
    readiness.started()
    assert reports.wait("started", 5)
    assert not reports.wait("ready", 0)
    assert reports.status == "a worker still runs its preload"
    readiness.failed("".join(f"line {number}\n" for number in range(100)) + "é" * 100_000)
    os.write(write_fd, b"nonsense\n[1]\n")
    os.close(write_fd)
    assert not reports.wait("ready", 5)
    assert reports.ended
    assert not reports.started or reports.addresses is None
    assert reports.failure == "é" * REASON_CHARACTERS_MAX
    reports.close()


def test_a_service_that_reports_without_end_is_given_up() -> None:
    read_fd, write_fd = os.pipe()
    reports = Reports(read_fd)
    with os.fdopen(write_fd, "wb", buffering=0) as pipe:
        for _ in range(40):
            pipe.write(b"x" * 4096)
            if reports.wait("ready", 0.01) or reports.ended:
                break
    assert reports.ended


def test_deaf_listeners_do_not_stop_a_service(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    readiness = Readiness(ready_fd=write_fd, notify_socket=str(tmp_path / "nobody"))
    readiness.ready()
    readiness.stopping()
