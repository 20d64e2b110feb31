"""Clusters with keys: everything works, and nobody else gets in."""

from __future__ import annotations

import json
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from scaler import Client, SchedulerClusterCombo
from scaler.errors import ConnectionRefusedByScheduler, DisconnectedError, ScalerError
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.command import main as scaler_keys
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.directory import load_peer
from scaler_protocol.security.directory_changes import revoke
from scaler_protocol.security.keys import new_key_pair
from scaler_protocol.testing.security_directory import add_key, make_security_directory
from scaler_protocol.transport.subscriber import Subscriber
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for

pytestmark = pytest.mark.without_keys("it chooses keys itself")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A security directory."""
    return make_security_directory(tmp_path / "keys")


@pytest.fixture
def scheduler(deployment: Deployment, keys: Path) -> Service:
    """A scheduler with keys and two workers."""
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "--security-dir", str(keys))
    return scheduler


def test_tasks_maps_objects_and_clients_inside_tasks(scheduler: Service, keys: Path) -> None:
    with Client(scheduler.address, security=keys) as client:
        assert client.submit(f.square, 4).result() == 16
        assert client.map(f.square, range(200)) == [n * n for n in range(200)]
        large = np.arange(4_000_000)
        assert np.array_equal(client.submit(np.sort, large).result(), large)
        reference = client.send_object(large)
        assert client.submit(np.sum, reference).result() == large.sum()
        assert client.submit(f.use_client_without_address, 7).result() == 49
        assert client.submit(f.parent_of_two, client, 3).result() == 9 + 16
        assert client.submit(f.sum_in_a_child, 500_000).result() == pytest.approx(f.sum_of(f.random_array(1, 500_000)))


def test_a_combo_has_keys(keys: Path) -> None:
    with SchedulerClusterCombo(2, security=keys) as combo:
        with Client(combo.get_address(), security=keys) as client:
            assert client.map(f.square, range(20)) == [n * n for n in range(20)]
        with pytest.raises(ConnectionRefusedByScheduler, match="security"):
            Client(combo.get_address(), timeout_seconds=20)


def test_only_operators_shut_an_unprotected_cluster_down(keys: Path) -> None:
    with SchedulerClusterCombo(1, security=keys, protected=False) as combo:
        with Client(combo.get_address(), security=keys) as client:
            with pytest.raises(ValueError, match="the key of this client is not an operator's"):
                client.shutdown()
            assert client.submit(f.square, 4).result() == 16
        # Where there is no client's key, a client takes the operator's.
        (keys / "client.key").replace(keys / "client.kept")
        Client(combo.get_address(), security=keys).shutdown()


def test_who_has_no_key_or_another_is_told_at_once(scheduler: Service, keys: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedByScheduler, match="lets in only peers with keys"):
        Client(scheduler.address)
    with pytest.raises(ConnectionRefusedByScheduler, match="another key than the one expected"):
        Client(scheduler.address, security=make_security_directory(tmp_path / "others"))
    add_key(keys, KeyRole.CLIENT, "client-unknown", allowed=False)
    (keys / "client-unknown.key").replace(keys / "client.key")
    with pytest.raises(ConnectionRefusedByScheduler, match="key"):
        Client(scheduler.address, security=keys)
    assert time.monotonic() < began + 10


def test_who_has_a_key_and_the_monitor_address_is_told_at_once(scheduler: Service, keys: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DisconnectedError, match=r"is not the address of a scheduler.*publishes to monitors"):
        Client(str(scheduler.addresses["monitor"]), security=keys)
    assert time.monotonic() < began + 10


def test_a_client_with_keys_is_told_that_the_scheduler_has_none(deployment: Deployment, keys: Path) -> None:
    scheduler = deployment.scheduler()
    with pytest.raises(ConnectionRefusedByScheduler, match="uses no keys"):
        Client(scheduler.address, security=keys)


def test_the_audit_log_tells_who_did_what(deployment: Deployment, keys: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    scheduler = deployment.scheduler("--security-dir", str(keys), "--audit-log", str(log))
    deployment.workers(scheduler, "--security-dir", str(keys))
    with Client(scheduler.address, security=keys) as client:
        client.submit(f.square, 4).result()
    expected = {("scheduler", "client"), ("scheduler", "agent"), ("object_storage", "scheduler")}

    def connects() -> set[tuple[str, str]]:
        """Both servers write to this file, and each line says whose it is."""
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return {(line["service"], line["as"]) for line in lines if line["event"] == "connect"}

    wait_for("all of them in the log", lambda: connects() >= expected)
    text = log.read_text()
    assert '"name":"client","role":"client"' in text.replace(": ", ":").replace(", ", ",")
    assert "square" in text


def test_an_audit_log_that_cannot_be_written_is_one_message(deployment: Deployment, tmp_path: Path) -> None:
    log = tmp_path / "no" / "audit.jsonl"
    for module in ("scaler_scheduler", "scaler_objstore"):
        service = deployment.start(module, "tcp://127.0.0.1:0", "--audit-log", str(log), ready=False)
        assert service.wait_end() == 2
        (line,) = [line for line in service.log().splitlines() if "INFO" not in line]
        assert line.endswith(f": --audit-log: cannot write to {log}: there is no folder {log.parent}")


def test_all_that_a_server_lacks_is_said_at_once(deployment: Deployment, tmp_path: Path) -> None:
    log = str(tmp_path / "no" / "audit.jsonl")
    for module in ("scaler_scheduler", "scaler_objstore"):
        service = deployment.start(module, "tcp://0.0.0.0:0", "--audit-log", log, ready=False)
        assert service.wait_end() == 2
        told = [line for line in service.log().splitlines() if "INFO" not in line]
        assert len(told) == (3 if module == "scaler_scheduler" else 2)
        assert "--audit-log: cannot write" in told[-1]
        assert "--security-dir" in told[-2]


def test_a_scheduler_says_that_object_storage_has_other_keys(
    deployment: Deployment, keys: Path, tmp_path: Path
) -> None:
    others = make_security_directory(tmp_path / "others")
    storage = deployment.storage("--security-dir", str(others))
    began = time.monotonic()
    scheduler = deployment.scheduler("--security-dir", str(keys), "-osa", storage.address)
    scheduler.wait_log(f"no object storage server answers at {storage.address}: the server has another key")
    assert time.monotonic() < began + 10
    assert "need the same --security-dir: scaler_keys export DIR server OUT" in scheduler.log()


def test_a_scheduler_says_that_another_one_is_no_object_storage(deployment: Deployment, keys: Path) -> None:
    other = deployment.scheduler("--security-dir", str(keys))
    began = time.monotonic()
    scheduler = deployment.scheduler("--security-dir", str(keys), "-osa", other.address)
    told = f"no object storage server answers at {other.address}: "
    scheduler.wait_log(told)
    assert time.monotonic() < began + 10
    (line,) = [line for line in scheduler.log().splitlines() if told in line]
    assert line.endswith("another scheduler with the same keys does so")
    other.wait_log("it sends a Hello, and the role of its key is scheduler")


def test_a_revoked_client_loses_its_connection_and_nobody_else_notices(scheduler: Service, keys: Path) -> None:
    with Client(scheduler.address, security=keys) as other:
        steady = [other.submit(f.sleep_and_return, 0.01, n) for n in range(200)]
        add_key(keys, KeyRole.OPERATOR, "second")
        (keys / "client.key").replace(keys / "client.kept")
        (keys / "operator.key").replace(keys / "operator.kept")

        def connect() -> Client | None:
            try:
                return Client(scheduler.address, security=keys, timeout_seconds=5)
            except ScalerError:
                return None

        # The server looks at its list more than twice a second.
        revoked = wait_for("the new key to be let in", connect)
        assert revoked is not None
        assert revoked.submit(f.square, 3).result() == 9
        waiting = revoked.submit(time.sleep, 60)
        revoke(keys, "second")
        began = time.monotonic()
        with pytest.raises(DisconnectedError):
            waiting.result(timeout=30)
        assert time.monotonic() < began + 20
        revoked.disconnect()
        assert [future.result() for future in steady] == list(range(200))


def test_a_broken_list_leaves_the_earlier_in_force(scheduler: Service, keys: Path) -> None:
    with (keys / "allowed_keys").open("a") as file:
        file.write("nonsense\n")
    os.kill(scheduler.pid, signal.SIGHUP)
    scheduler.wait_log("stays in force")
    with Client(scheduler.address, security=keys) as client:
        assert client.submit(f.square, 4).result() == 16


def test_work_goes_on_after_scheduler_and_storage_were_killed(deployment: Deployment, keys: Path) -> None:
    storage = deployment.storage("--security-dir", str(keys))
    scheduler = deployment.scheduler("--security-dir", str(keys), "--object-storage-address", storage.address)
    deployment.workers(scheduler, "--security-dir", str(keys))
    with Client(scheduler.address, security=keys) as client:
        large = np.arange(1_000_000)
        assert client.submit(np.sum, large).result() == large.sum()
        futures = [client.submit(f.sleep_and_return, 0.02, n) for n in range(100)]
        scheduler.kill()
        storage.kill()
        deployment.storage("--security-dir", str(keys), address=storage.address)
        deployment.scheduler(
            "--security-dir", str(keys), "--object-storage-address", storage.address, address=scheduler.address
        )
        assert [future.result(timeout=60) for future in futures] == list(range(100))
        assert client.submit(np.sum, large).result(timeout=60) == large.sum()


def test_a_connection_file_is_all_that_a_client_needs(scheduler: Service, keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "cluster.scaler"
    assert scaler_keys(["connect", str(keys), "--name", "client", "--address", scheduler.address, "-o", str(file)]) == 0
    with Client(str(file)) as client, Client(file) as other:
        assert client.address == scheduler.address
        assert client.submit(f.square, 4).result() == 16
        large = np.arange(1_000_000)
        assert other.submit(np.sum, large).result() == large.sum()
        copy = pickle.loads(pickle.dumps(client))
        assert copy.submit(f.parent_of_two, client, 3).result() == 9 + 16
        copy.disconnect()
    with pytest.raises(ValueError, match="has the keys already"):
        Client(file, security=keys)
    with pytest.raises(ValueError, match=r"missing\.scaler: No such file"):
        Client("missing.scaler")


def test_whoever_connects_may_name_a_file(deployment: Deployment, keys: Path, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "--security-dir", str(keys / "worker.key"))
    file = tmp_path / "client.scaler"
    assert scaler_keys(["connect", str(keys), "--name", "client", "--address", scheduler.address, "-o", str(file)]) == 0
    for named in (file, keys / "client.key"):
        with Client(scheduler.address, security=named) as client:
            assert client.submit(f.square, 4).result(timeout=30) == 16
            # Clients inside tasks read the worker's key for large values.
            assert client.submit(f.sum_in_a_child, 500_000).result(timeout=30) == pytest.approx(
                f.sum_of(f.random_array(1, 500_000))
            )
    monitor = deployment.start(
        "scaler_ui.top",
        str(scheduler.addresses["monitor"]),
        "--once",
        "--security-dir",
        str(keys / "monitor.key"),
        ready=False,
    )
    assert monitor.wait_end() == 0
    other = deployment.start(
        "scaler_ui.top", str(scheduler.addresses["monitor"]), "--once", "--security-dir", str(file), ready=False
    )
    assert other.wait_end() == 2
    assert f"--security-dir: {file} has a key of the role client, not monitor or operator" in other.log()


@pytest.mark.parametrize("module", ["scaler_scheduler", "scaler_objstore"])
def test_a_server_that_is_given_a_file_says_what_it_needs(deployment: Deployment, keys: Path, module: str) -> None:
    server = deployment.start(module, "tcp://127.0.0.1:0", "--security-dir", str(keys / "client.key"), ready=False)
    assert server.wait_end() == 2
    told = f"--security-dir: {keys / 'client.key'} is a file: a server needs the directory with server.key and allowed_keys"
    assert told in server.log()
    assert "Traceback" not in server.log()


def test_monitors_need_a_key_that_may_read(scheduler: Service, keys: Path) -> None:
    monitor = str(scheduler.addresses["monitor"])
    revoked = add_key(keys, KeyRole.MONITOR, "second")
    server = load_peer(keys, KeyRole.MONITOR).server

    def hears(security: PeerSecurity | None, seconds: float) -> bool:
        subscriber = Subscriber(monitor, security=security)
        try:
            return subscriber.receive(seconds) is not None
        finally:
            subscriber.close()

    assert hears(load_peer(keys, KeyRole.MONITOR), 30.0)
    assert hears(load_peer(keys, KeyRole.OPERATOR), 30.0)
    assert not hears(None, 4.0)
    assert not hears(load_peer(keys, KeyRole.CLIENT), 4.0)
    assert not hears(PeerSecurity(load_peer(keys, KeyRole.MONITOR).own, new_key_pair().public), 4.0)
    steady, gone = (
        Subscriber(monitor, security=load_peer(keys, KeyRole.MONITOR)),
        Subscriber(monitor, security=PeerSecurity(revoked, server)),
    )
    try:
        assert steady.receive(30.0) is not None
        assert gone.receive(30.0) is not None
        revoke(keys, "second")

        def is_silent() -> bool:
            return gone.receive(2.0) is None

        wait_for("the revoked monitor to hear nothing", is_silent)
        assert steady.receive(30.0) is not None
    finally:
        steady.close()
        gone.close()


def test_a_trace_needs_a_key_that_may_read(scheduler: Service, keys: Path, tmp_path: Path) -> None:
    with Client(scheduler.address, security=keys) as client, client.trace(tmp_path / "trace.json"):
        client.map(f.square, range(10))
    assert "square" in (tmp_path / "trace.json").read_text()
    file = tmp_path / "c.scaler"
    assert scaler_keys(["connect", str(keys), "--name", "client", "--address", scheduler.address, "-o", str(file)]) == 0
    with (
        Client(file) as client,
        pytest.raises(ValueError, match="role client, not monitor or operator"),
        client.trace(tmp_path / "trace.json"),
    ):
        pass


def test_the_keys_of_workers_are_changed_under_load(deployment: Deployment, keys: Path) -> None:
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "--security-dir", str(keys))
    with Client(scheduler.address, security=keys) as client:
        futures = [client.submit(f.sleep_and_return, 0.02, number) for number in range(100)]

        def goes_on() -> bool:
            """Keep the workers busy: the list of keys is read when the scheduler comes to it."""
            if sum(not future.done() for future in futures) < 100:
                futures.append(client.submit(f.sleep_and_return, 0.02, len(futures)))
            return True

        add_key(keys, KeyRole.WORKER, "worker-2")
        wait_for("the new key", lambda: goes_on() and "added worker-2" in scheduler.log())
        (keys / "worker-2.key").replace(keys / "worker.key")
        deployment.workers(scheduler, "--security-dir", str(keys))
        assert futures[20].result(60) == 20
        revoke(keys, "worker")
        wait_for("the old one to be revoked", lambda: goes_on() and "revoked worker" in scheduler.log())
        assert [future.result(60) for future in futures] == list(range(len(futures)))
