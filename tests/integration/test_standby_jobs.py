"""Jobs in a store and a standby: the first scheduler is killed or stops, and the other one has its jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler import Client
from scaler_protocol.testing.real_stores import S3Server, redis_program
from tests.integration import redis_servers
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.redis_servers import server_of
from tests.integration.s3_servers import CREDENTIALS, flags_of, s3_server
from tests.integration.stored_jobs import names_of
from tests.integration.test_jobs import many_bytes, once, squared
from tests.integration.test_standby_lease import is_first

SECONDS = "1.5"
TASKS = 200


# These come before `deployment` in each test, so that they outlive it.


@pytest.fixture
def redis_flags() -> Iterator[tuple[str, ...]]:
    for server in server_of(redis_program()):
        yield redis_servers.flags_of(server)


@pytest.fixture
def s3_flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server: S3Server
    for server in s3_server():
        yield flags_of(server)


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What a scheduler is told to keep its jobs in such a store."""
    flags: tuple[str, ...] = request.getfixturevalue(f"{request.param}_flags")
    return flags


@pytest.fixture
def lease() -> Iterator[str]:
    """Where a lease may be, in a server of its own."""
    for server in server_of(redis_program()):
        yield redis_servers.url_of(server, "lease")


def pair(deployment: Deployment, lease: str, *flags: str) -> tuple[Service, Service]:
    """Start two schedulers; return the first one, which has the jobs, and its standby."""
    all_flags = ("--standby-lease-seconds", SECONDS, *flags)
    if lease:
        one, two = (deployment.scheduler(*all_flags, "--standby-lease", lease) for _ in range(2))
        wait_for("one to be first", lambda: is_first(one) or is_first(two))
        first, standby = (one, two) if is_first(one) else (two, one)
    else:
        first = deployment.scheduler(*all_flags)
        standby = deployment.scheduler(*all_flags, "--standby-of", first.address)
    wait_for("jobs to be kept", lambda: names_of(deployment, first))
    return first, standby


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("kept", "with_lease", "stopped"),
    [
        pytest.param("redis", False, False, id="redis-standby-of-killed"),
        pytest.param("redis", True, False, id="redis-lease-killed"),
        pytest.param("redis", True, True, id="redis-lease-stopped"),
        pytest.param("s3", False, False, id="s3-standby-of-killed"),
        pytest.param("s3", False, True, id="s3-standby-of-stopped"),
        pytest.param("s3", True, False, id="s3-lease-killed"),
    ],
    indirect=["kept"],
)
def test_the_standby_has_the_jobs(
    kept: tuple[str, ...], lease: str, deployment: Deployment, tmp_path: Path, stopped: bool, with_lease: bool
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    storage = deployment.storage()
    flags = ("--object-storage-address", storage.address, *kept)
    first, standby = pair(deployment, lease if with_lease else "", *flags)
    both = f"{first.address},{standby.address}"
    deployment.workers(both)
    client: Client = deployment.client(both)
    with client.job("taken"):
        futures = [client.submit(squared, number) for number in range(TASKS)]
        large = client.submit(many_bytes, 1_000_000)
        careful = [client.submit_verbose(once, (number, str(folder)), idempotent=False) for number in range(8)]
    assert len(large.result(60)) == 1_000_000
    wait_for("a careful task", lambda: any(folder.iterdir()))
    if stopped:
        os.kill(first.pid, signal.SIGSTOP)
    else:
        first.kill()
    try:
        standby.wait_log("it is first now")
        standby.wait_log("took up 1 job")
        # Its term is higher, so it does not wait until the jobs are free.
        assert "another scheduler keeps its jobs there" not in standby.log()
    finally:
        if stopped:
            os.kill(first.pid, signal.SIGCONT)
    if stopped:
        first.wait_log("it is a standby now" if with_lease else "is a standby now")
    assert client.gather(futures, 60) == [number * number for number in range(TASKS)]
    for number, future in enumerate(careful):
        error = future.exception(60)
        assert error is None or "idempotent=False" in str(error)
        assert error is not None or future.result() == number
    runs = [path.name.partition("-")[0] for path in folder.iterdir()]
    assert len(runs) == len(set(runs)), "a task ran twice"
    job = client.jobs()["taken"]
    assert job.status().tasks == TASKS + 9
    found = job.results(60, return_exceptions=True)
    assert found[:TASKS] == [number * number for number in range(TASKS)]
    assert len(found[TASKS]) == 1_000_000
    if not stopped and not with_lease:
        # And back: the first one is started again, and takes over from the other one.
        again = deployment.scheduler(*flags, "--standby-lease-seconds", SECONDS, address=first.address)
        again.wait_log("is a standby now")
        standby.kill()
        again.wait_log("took up 1 job")
        assert job.status().tasks == TASKS + 9
        assert job.results(60, return_exceptions=True)[:TASKS] == found[:TASKS]
        assert client.submit(squared, 5).result(60) == 25
