"""The lease on a prefix of a remote store: one server at a time, on the real stores."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scaler_objstore.tiers.lease import KEY, Lease, LeasedValues, LeaseStore
from scaler_objstore.tiers.port import TierUnavailableError
from scaler_objstore.tiers.redis_values import RedisValues
from scaler_objstore.tiers.s3_values import S3Values
from scaler_objstore.tiers.values import RejectedError
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.storage_url import RedisUrl, S3Url, parse_storage_url
from scaler_protocol.testing.real_stores import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    RealServer,
    RedisServer,
    S3Server,
)
from scaler_protocol.testing.store_server import StoreServer
from scaler_protocol.testing.waiting import wait_until

on_each_server = pytest.mark.parametrize("shared_server", ["redis", "valkey", "s3"], indirect=True)
SECONDS = 4.0


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def values_in(server: RealServer, prefix: str) -> LeaseStore:
    if isinstance(server, S3Server):
        url = parse_storage_url(f"s3://{BUCKET}/{prefix}")
        assert isinstance(url, S3Url)
        return S3Values(url, server.endpoint, 5.0)
    url = parse_storage_url(f"redis://{server.host}:{server.port}/0/{prefix}")
    assert isinstance(url, RedisUrl)
    return RedisValues(url, 5.0)


class Leases:
    """Leases on one prefix, which the test's end gives back."""

    def __init__(self, server: RealServer) -> None:
        self.values = values_in(server, secrets.token_hex(8))
        self._made: list[Lease] = []

    def make(self) -> Lease:
        self._made.append(Lease(self.values, SECONDS))
        return self._made[-1]

    def pretend(self, **holder: object) -> None:
        """Have the lease be another process's."""
        found = self.values.find_lease(KEY, SECONDS)
        assert found is not None
        other = json.dumps({**json.loads(found.value), "id": "another", **holder}).encode()
        assert self.values.replace_lease(KEY, found.value, other, SECONDS)

    def close(self) -> None:
        for lease in self._made:
            lease.close()


@pytest.fixture
def leases(shared_server: RealServer) -> Iterator[Leases]:
    leases = Leases(shared_server)
    yield leases
    leases.close()


@on_each_server
def test_one_server_at_a_time_which_keeps_it_and_gives_it_back(leases: Leases) -> None:
    first, second = leases.make(), leases.make()
    first.take("the place")
    deadline = time.monotonic() + 1.5 * SECONDS
    while time.monotonic() < deadline:
        with pytest.raises(ServiceError, match=rf"the place is in use by .*\(process {os.getpid()} on .* \d+ s ago\)"):
            second.take("the place")
        first.check()
        time.sleep(0.5)  # sleeps: a lease lives longer than its seconds if it is renewed
    first.close()
    second.take("the place")
    second.check()


@on_each_server
def test_a_lease_that_is_not_renewed_is_free_in_time(leases: Leases) -> None:
    leases.make().take("the place")
    leases.close()
    leases.make().take("the place")
    leases.pretend(machine="another", host="far-away")
    began = time.monotonic()
    with pytest.raises(ServiceError, match="on far-away"):
        leases.make().take("the place")
    wait_until(lambda: takes(leases), 30, pause_seconds=0.2)
    # S3 counts in whole seconds.
    assert SECONDS - 1.5 <= time.monotonic() - began <= SECONDS + 4


def takes(leases: Leases) -> bool:
    try:
        leases.make().take("the place")
    except ServiceError:
        return False
    return True


@on_each_server
def test_a_process_of_this_machine_that_has_ended_holds_nothing(leases: Leases) -> None:
    leases.make().take("the place")
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    leases.pretend(process=ended.pid)
    leases.make().take("the place")


@on_each_server
def test_who_has_lost_the_lease_changes_nothing_any_more(leases: Leases, caplog: pytest.LogCaptureFixture) -> None:
    lease = leases.make()
    lease.take("the place")
    values = LeasedValues(leases.values, lease)
    values.put("scaler-records/0a", b"before")
    leases.pretend(machine="another", host="far-away", process=7)
    wait_until(
        lambda: "another object storage server uses this prefix by now (process 7 on far-away)" in caplog.text, 20
    )
    with pytest.raises(RejectedError, match="process 7 on far-away"):
        values.put("scaler-records/0a", b"after")
    with pytest.raises(RejectedError, match="process 7 on far-away"):
        values.delete(["scaler-records/0a"])
    assert bytes(values.get("scaler-records/0a")) == b"before"


@pytest.mark.parametrize("own_server", ["redis", "s3"], indirect=True)
def test_nothing_is_changed_while_the_store_confirms_nothing(own_server: RealServer) -> None:
    leases = Leases(own_server)
    lease = leases.make()
    lease.take("the place")
    with own_server.stopped():
        wait_until(lambda: not holds(lease), 20)
    wait_until(lambda: holds(lease), 30)
    leases.close()


def holds(lease: Lease) -> bool:
    try:
        lease.check()
    except TierUnavailableError:
        return False
    return True


@pytest.mark.parametrize("own_server", ["redis", "valkey"], indirect=True)
def test_a_full_server_lets_its_holder_keep_the_lease(own_server: RealServer) -> None:
    assert isinstance(own_server, RedisServer)
    leases = Leases(own_server)
    lease = leases.make()
    lease.take("the place")
    assert own_server.command("CONFIG", "SET", "maxmemory", "1").startswith("+OK")
    deadline = time.monotonic() + 1.5 * SECONDS
    while time.monotonic() < deadline:
        lease.check()
        with pytest.raises(ServiceError, match="in use by another"):
            leases.make().take("the place")
        time.sleep(0.5)  # sleeps: see above
    leases.close()


@pytest.mark.parametrize("own_server", ["redis", "valkey"], indirect=True)
@pytest.mark.parametrize("before", ["nobody", "a killed server"])
def test_who_comes_to_a_full_server_has_no_lease_until_there_is_room(own_server: RealServer, before: str) -> None:
    assert isinstance(own_server, RedisServer)
    leases = Leases(own_server)
    if before == "a killed server":
        process = subprocess.Popen([sys.executable, "-c", ""])
        killed = leases.make()
        killed._holder |= {"process": process.pid, "started": "1"}
        assert killed._attempt() is None
        process.wait()
    assert own_server.command("CONFIG", "SET", "maxmemory", "1").startswith("+OK")
    first, second = leases.make(), leases.make()
    for lease in (first, second):
        lease.take("the place")
        assert not holds(lease)
        with pytest.raises(TierUnavailableError, match="full"):
            lease.check(deletes=True)
    assert own_server.command("CONFIG", "SET", "maxmemory", "0").startswith("+OK")
    wait_until(lambda: holds(first) or holds(second), 20)
    assert not (holds(first) and holds(second))
    leases.close()


def fill(values: LeaseStore, keys: list[str]) -> None:
    for key in keys:
        values.put(key, os.urandom(1 << 20))


def deletes(values: LeasedValues, keys: list[str]) -> bool:
    """Whether they are deleted: only if the lease was found to be ours a moment ago."""
    try:
        values.delete(keys)
    except TierUnavailableError:
        return False
    return True


@pytest.mark.timeout(120)
@pytest.mark.parametrize("small_server", ["s3"], indirect=True)
def test_where_a_full_store_takes_in_no_renewal_deleting_makes_room_for_it(small_server: RealServer) -> None:
    assert isinstance(small_server, S3Server)
    leases = Leases(small_server)
    lease = leases.make()
    lease.take("the place")
    values = LeasedValues(leases.values, lease)
    keys = [f"scaler-parts/{number}" for number in range(40)]
    # Not through the lease: on a busy machine it may be over before the store is full, as its renewals stand behind all this.
    with pytest.raises(TierUnavailableError, match="InternalError"):
        fill(leases.values, keys)

    def is_refused_as_full() -> bool:
        with pytest.raises(TierUnavailableError, match="that it is this server's: ") as caught:
            values.put("scaler-parts/40", b"")
        return "that it is this server's: InternalError" in str(caught.value)

    wait_until(lambda: not holds(lease), 20)
    # The last renewal may have failed for another reason.
    wait_until(is_refused_as_full, 20)
    wait_until(lambda: deletes(values, keys), 20)

    def is_renewed() -> bool:
        small_server.vacuum()
        return holds(lease)

    wait_until(is_renewed, 60, pause_seconds=0.5)
    leases.close()


@on_each_server
def test_a_second_server_ends_and_one_after_a_kill_starts_at_once(shared_server: RealServer) -> None:
    prefix = secrets.token_hex(8)
    arguments = ["--storage-url", f"redis://{shared_server.host}:{shared_server.port}/0/{prefix}"]
    if isinstance(shared_server, S3Server):
        arguments = ["--storage-url", f"s3://{BUCKET}/{prefix}", "--storage-endpoint", shared_server.endpoint]
    server = StoreServer()
    try:
        server.start(*arguments)
        assert server.service is not None
        command = [sys.executable, "-m", "scaler_objstore", "tcp://127.0.0.1:0", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=50)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert f"is in use by another object storage server (process {server.service.pid} on " in ended.stderr
        os.kill(server.service.pid, signal.SIGKILL)
        server.service.join(10)
        # It would be refused if the lease of the first one counted.
        server.start(*arguments)
    finally:
        server.close()
