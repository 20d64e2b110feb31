"""Peers that were let in, and then are not any more: they are told why, at once."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from scaler import Client
from scaler.errors import ConnectionRefusedByScheduler, ScalerError
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.directory_changes import revoke
from scaler_protocol.testing.security_directory import add_key, make_security_directory
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for

pytestmark = pytest.mark.without_keys("it chooses keys itself")

REVOKED = "the server does not let in this key: it was not added to the server's allowed keys, or revoked"
OTHER_KEYS = "the server has another key than the one expected"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A security directory."""
    return make_security_directory(tmp_path / "keys")


@pytest.fixture
def scheduler(deployment: Deployment, keys: Path) -> Service:
    return deployment.scheduler("--security-dir", str(keys))


def test_futures_of_a_revoked_client_fail_at_once_with_the_reason(
    deployment: Deployment, scheduler: Service, keys: Path
) -> None:
    deployment.workers(scheduler, "--security-dir", str(keys))
    with Client(scheduler.address, security=keys) as client:
        assert np.sum(client.submit(f.random_array, 1, 100_000).result()) > 0
        waiting = [client.submit(time.sleep, 60) for _ in range(5)]
        began = time.monotonic()
        revoke(keys, "client")
        for future in waiting:
            with pytest.raises(ConnectionRefusedByScheduler, match=REVOKED):
                future.result(timeout=20)
        assert time.monotonic() < began + 10
        with pytest.raises(ConnectionRefusedByScheduler, match=REVOKED):
            client.submit(f.square, 4)


def test_a_server_that_was_started_again_with_other_keys(
    deployment: Deployment, scheduler: Service, keys: Path, tmp_path: Path
) -> None:
    worker = deployment.workers(scheduler, "--security-dir", str(keys), "--death-timeout-seconds", "8")
    with Client(scheduler.address, security=keys) as client:
        waiting = client.submit(time.sleep, 60)
        others = make_security_directory(tmp_path / "others")
        scheduler.kill()
        deployment.scheduler("--security-dir", str(others), address=scheduler.address)
        with pytest.raises(ConnectionRefusedByScheduler, match=OTHER_KEYS):
            waiting.result(timeout=20)
    assert worker.wait_end() == 1
    told, last = [line for line in worker.log().splitlines() if OTHER_KEYS in line]
    assert "trying for another" in told
    assert "no scheduler has answered" in last


def test_a_revoked_worker_says_why_and_goes_on_when_it_is_let_in_again(
    deployment: Deployment, scheduler: Service, keys: Path, tmp_path: Path
) -> None:
    worker = deployment.workers(scheduler, "--security-dir", str(keys))
    # Not only for tests: whoever revoked the wrong key puts the list back.
    kept = shutil.copy(keys / "allowed_keys", tmp_path / "kept")
    shutil.copy(keys / "worker.key", tmp_path / "worker.key")
    told = tmp_path / "told"
    with Client(scheduler.address, security=keys) as client:
        client.submit(f.note_nested_error, str(told))
        wait_for("the task inside to run", lambda: Path(f"{told}.runs").exists())
        revoke(keys, "worker")
        worker.wait_log(REVOKED)
        wait_for("the client inside the task to be told", told.exists)
        assert REVOKED in told.read_text()
        shutil.copy(kept, keys / "allowed_keys")
        assert client.submit(f.square, 4).result(timeout=30) == 16
    assert worker.log().count(REVOKED) == 1


def test_object_storage_that_does_not_let_a_client_in(deployment: Deployment, keys: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(keys, tmp_path / "elsewhere"))
    storage = deployment.storage("--security-dir", str(elsewhere))
    scheduler = deployment.scheduler("--security-dir", str(keys), "--object-storage-address", storage.address)
    deployment.workers(scheduler, "--security-dir", str(keys))
    revoke(elsewhere, "client")
    revoke(elsewhere, "worker")
    storage.wait_log("revoked client, worker")
    large = np.arange(1_000_000)
    with Client(scheduler.address, security=keys) as client:
        began = time.monotonic()
        with pytest.raises(ScalerError, match=REVOKED):
            client.submit(np.sum, large).result(timeout=30)
        with pytest.raises(
            ScalerError, match=rf"(?s)object storage server at .* does not let in this worker: {REVOKED}"
        ):
            client.submit(np.arange, 1_000_000).result(timeout=30)
        assert time.monotonic() < began + 20
        # A key that is added while somebody asks is noticed.
        add_key(elsewhere, KeyRole.CLIENT, "third")
        shutil.copy(keys / "allowed_keys", elsewhere / "allowed_keys")
        wait_for("the key to be let in again", lambda: _sum(client, large) == large.sum())


@pytest.mark.parametrize("module", ["scaler_ui.top", "scaler_ui.trace", "scaler_ui.dump"])
def test_monitors_are_told_why_they_are_not_let_in(
    deployment: Deployment, scheduler: Service, keys: Path, tmp_path: Path, module: str
) -> None:
    flags = ["--once"] if module == "scaler_ui.top" else ["--output", str(tmp_path / "out.json")]
    unknown = Path(shutil.copytree(keys, tmp_path / "unknown"))
    add_key(unknown, KeyRole.MONITOR, "stranger", allowed=False)
    (unknown / "stranger.key").replace(unknown / "monitor.key")
    other_server = Path(shutil.copytree(keys, tmp_path / "other-server"))
    shutil.copy(make_security_directory(tmp_path / "others") / "server.pub", other_server / "server.pub")
    for directory, reason in ((unknown, REVOKED), (other_server, OTHER_KEYS)):
        began = time.monotonic()
        monitor = str(scheduler.addresses["monitor"])
        command = deployment.start(module, monitor, *flags, "--security-dir", str(directory), ready=False)
        assert command.wait_end() == 2
        assert reason in command.log()
        assert "Traceback" not in command.log()
        assert time.monotonic() < began + 20


@pytest.mark.parametrize("what", ["revoked", "killed"])
def test_a_trace_that_is_cut_short_says_so(
    deployment: Deployment, scheduler: Service, keys: Path, tmp_path: Path, what: str
) -> None:
    deployment.workers(scheduler, "--security-dir", str(keys))
    # Elsewhere, as revoking removes the key's file.
    kept = Path(shutil.copytree(keys, tmp_path / "kept"))
    file = tmp_path / "trace.json"
    with Client(scheduler.address, security=keys) as client:
        client.map(f.square, range(10))
        trace = deployment.start(
            "scaler_ui.trace",
            str(scheduler.addresses["monitor"]),
            *("--seconds", "60", "--output", str(file), "--security-dir", str(kept)),
            ready=False,
        )
        trace.wait_log("watching for 60 s")
        if what == "revoked":
            revoke(keys, "monitor")
        else:
            scheduler.kill()
        assert trace.wait_end() == 1
        assert f"{file} is incomplete, because" in trace.log()
        assert "of 60 s were watched" in trace.log()
        assert (REVOKED in trace.log()) is (what == "revoked")
        assert "traceEvents" in file.read_text()


def test_a_web_page_logs_why_it_shows_nothing_and_shows_it_later(
    deployment: Deployment, scheduler: Service, keys: Path, tmp_path: Path
) -> None:
    kept = shutil.copy(keys / "allowed_keys", tmp_path / "kept")
    own = Path(shutil.copytree(keys, tmp_path / "own"))
    revoke(keys, "monitor")
    scheduler.wait_log("revoked monitor")
    page = deployment.start(
        "scaler_ui.web",
        str(scheduler.addresses["monitor"]),
        *("--host", "127.0.0.1", "--port", "0", "--timeout", "1", "--security-dir", str(own)),
        ready=False,
    )
    page.wait_log(f"does not let this monitor in: {REVOKED}")
    shutil.copy(kept, keys / "allowed_keys")
    page.wait_log("messages from the scheduler at")
    assert page.log().count(REVOKED) == 1


def _sum(client: Client, array: object) -> int:
    try:
        return int(client.submit(np.sum, array).result(timeout=30))  # type: ignore[call-overload]  # numpy's own types
    except ScalerError:
        return -1
