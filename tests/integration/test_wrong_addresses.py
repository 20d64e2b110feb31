"""Addresses that are not what they are taken for: one clear line, at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scaler import Client, SchedulerClusterCombo
from scaler.errors import DisconnectedError, ObjectStorageException
from scaler_protocol.testing.free_ports import free_ports
from tests.integration.deployment import Deployment

AT_ONCE_S = 10.0
"""What a loaded machine may need for what takes milliseconds; the client's own limit is six times as long."""


@pytest.fixture(scope="module")
def combo() -> Iterator[SchedulerClusterCombo]:
    with SchedulerClusterCombo(n_workers=1, logging_level="CRITICAL") as combo:
        yield combo


def refusal(address: str) -> str:
    started = time.monotonic()
    with pytest.raises(DisconnectedError) as caught:
        Client(address)
    assert time.monotonic() - started < AT_ONCE_S
    (line,) = str(caught.value).splitlines()
    assert address in line
    return line


def test_a_client_at_the_object_storage_server(combo: SchedulerClusterCombo) -> None:
    told = refusal(combo.get_object_storage_address())
    assert told.endswith("this is an object storage server; the scheduler has another address")


def test_a_client_at_the_monitors_address(combo: SchedulerClusterCombo) -> None:
    assert "is not the address of a scheduler: what answers there" in refusal(combo.get_monitor_address())
    assert "publishes to monitors" in refusal(combo.get_monitor_address())


def test_a_client_at_a_host_that_is_unknown() -> None:
    assert "the host cannot be found: " in refusal("tcp://no.such.host.invalid:2345")


def test_a_client_that_nobody_answers_says_what_it_saw() -> None:
    with pytest.raises(
        DisconnectedError, match=r"no scheduler answers at tcp://127.0.0.1:1 \(Connection refused\), waited 1 s"
    ):
        Client("tcp://127.0.0.1:1", timeout_seconds=1)


def test_a_client_with_the_scheduler_for_object_storage(combo: SchedulerClusterCombo) -> None:
    address = combo.get_address()
    with Client(address, object_storage_address=address) as client:
        with pytest.raises(ObjectStorageException, match="this is a scheduler; object storage has another address"):
            client.submit(len, b"x" * 5_000_000).result(timeout=30)
        assert client.submit(len, b"x").result(timeout=30) == 1


def command(module: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, "--logging-level=CRITICAL"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    return done.returncode, line


def test_workers_at_addresses_of_others(combo: SchedulerClusterCombo) -> None:
    status, line = command("scaler_worker", combo.get_monitor_address(), "-n", "1")
    assert status == 2
    assert line.startswith(
        f"scaler_cluster: ADDRESS: {combo.get_monitor_address()} is not the address of a scheduler: "
    )
    status, line = command("scaler_worker", combo.get_object_storage_address(), "-n", "1")
    assert status == 1
    assert "this is an object storage server; the scheduler has another address" in line


@pytest.mark.parametrize("module", ["scaler_ui.top", "scaler_ui.web", "scaler_ui.dump", "scaler_ui.trace"])
def test_monitors_at_addresses_of_others(combo: SchedulerClusterCombo, module: str) -> None:
    flags = {"scaler_ui.top": ["--once"], "scaler_ui.web": ["--port=0"]}.get(module, [])
    for address in (combo.get_address(), combo.get_object_storage_address()):
        status, line = command(module, address, *flags)
        assert status == 2
        assert f"MONITOR_ADDRESS: {address} is not the monitor address of a scheduler: " in line
        assert "monitors have an address of their own" in line


@pytest.mark.parametrize("module", ["scaler_scheduler", "scaler_objstore", "scaler_worker", "scaler_ui.top"])
def test_addresses_without_a_scheme(module: str) -> None:
    status, line = command(module, "localhost:2345")
    assert status == 2
    assert line.endswith(
        "ADDRESS: 'localhost:2345' is not an address: expected tcp://host:port or ipc://path; did you mean tcp://localhost:2345?"
    )


@pytest.mark.parametrize("module", ["scaler_scheduler", "scaler_objstore"])
def test_addresses_of_other_machines(module: str) -> None:
    status, line = command(module, "tcp://192.0.2.1:0", "--insecure")
    assert status == 2
    assert "cannot listen on tcp://192.0.2.1:0: " in line


def test_a_scheduler_whose_object_storage_nobody_answers(deployment: Deployment) -> None:
    port = free_ports(1)[0]
    scheduler = deployment.scheduler("--object-storage-address", f"tcp://127.0.0.1:{port}")
    scheduler.wait_log(f"no object storage server answers at tcp://127.0.0.1:{port}: Connection refused", AT_ONCE_S)
    # While it waits it says so, and for how long.
    scheduler.wait_log(f"no object storage server at tcp://127.0.0.1:{port} since 1", 2 * AT_ONCE_S)
    # It comes later, and is found without any request.
    deployment.storage(address=f"tcp://127.0.0.1:{port}")
    scheduler.wait_log(f"the object storage server at tcp://127.0.0.1:{port} answers", AT_ONCE_S)


@pytest.mark.without_keys("with keys, a scheduler drops whoever has the key of one: see test_server_keys")
def test_a_scheduler_with_another_for_object_storage(deployment: Deployment) -> None:
    other = deployment.scheduler()
    scheduler = deployment.scheduler("--object-storage-address", other.address)
    scheduler.wait_log("this is a scheduler; object storage has another address", AT_ONCE_S)


def test_a_web_monitor_that_hears_nothing(deployment: Deployment) -> None:
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    web = deployment.start("scaler_ui.web", address, "--port=0")
    web.wait_log(f"no message from a scheduler at {address} for 5 s", 2 * AT_ONCE_S)
    deployment.scheduler("--monitor-address", address)
    web.wait_log(f"messages from the scheduler at {address} arrive", AT_ONCE_S)
