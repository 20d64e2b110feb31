"""Which of two schedulers is first, where a lease in Redis decides: real processes and a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler import Client
from scaler_protocol.testing.real_stores import RedisServer, redis_program, valkey_program
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.redis_servers import server_of, url_of

SECONDS = ("--standby-lease-seconds", "2")
TASKS = 300


# These come before `deployment` in each test, so that they outlive it: workers say goodbye to a scheduler that is first.


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from server_of(redis_program())


@pytest.fixture
def forgetful_redis() -> Iterator[RedisServer]:
    """A server that has nothing after a restart."""
    yield from server_of(redis_program(), "--appendonly", "no")


@pytest.fixture
def valkey() -> Iterator[RedisServer]:
    yield from server_of(valkey_program())


def start(deployment: Deployment, server: RedisServer, scheme: str = "redis", *flags: str) -> Service:
    url = f"{scheme}://{server.host}:{server.port}/0/scaler"
    return deployment.scheduler("--standby-lease", url, *SECONDS, *flags)


def both_of(one: Service, two: Service) -> str:
    return f"{one.address},{two.address}"


def pair(deployment: Deployment, server: RedisServer, scheme: str = "redis") -> tuple[Service, Service]:
    """Start two schedulers; return the first one and its standby."""
    one, two = start(deployment, server, scheme), start(deployment, server, scheme)
    wait_for("one to be first", lambda: is_first(one) or is_first(two))
    return (one, two) if is_first(one) else (two, one)


def is_first(service: Service) -> bool:
    """Whether a scheduler's log says that it is first."""
    return service.log().count("it is first now") > service.log().count("it is a standby now")


def append_once(path: str, number: int) -> int:
    """Note a run in a file, in one write."""
    with open(path, "a", buffering=1) as file:
        file.write(f"{number}\n")
    f.sleep_and_return(0.01)
    return number


@pytest.fixture(params=["redis", "valkey"])
def either(request: pytest.FixtureRequest) -> tuple[str, RedisServer]:
    """A kind of server, and one of this kind."""
    return request.param, request.getfixturevalue(request.param)


def test_the_standby_is_first_after_kill_9_of_the_holder(
    either: tuple[str, RedisServer], deployment: Deployment
) -> None:
    kind, server = either
    first, standby = pair(deployment, server, kind)
    standby.wait_log("another scheduler has the lease at")
    assert f"(process {first.pid} on " in standby.log()
    both = both_of(first, standby)
    deployment.workers(both)
    client = deployment.client(both)
    futures = [client.submit(f.sleep_and_return, 0.005, number) for number in range(TASKS)]
    wait_for("some answers", lambda: sum(future.done() for future in futures) > 20)
    first.kill()
    standby.wait_log("it is first now")
    assert [future.result(timeout=60) for future in futures] == list(range(TASKS))
    with Client(both) as other:
        assert other.submit(f.square, 7).result(30) == 49


def test_a_holder_that_was_stopped_for_longer_than_the_lease_is_first_no_more(
    redis: RedisServer, deployment: Deployment, tmp_path: Path
) -> None:
    first, standby = pair(deployment, redis)
    both = both_of(first, standby)
    deployment.workers(both)
    client = deployment.client(both)
    runs = tmp_path / "runs"
    futures = [client.submit(f.sleep_and_return, 0.005, number) for number in range(TASKS)]
    once = client.with_options(idempotent=False)
    careful = [once.submit(append_once, str(runs), number) for number in range(50)]
    wait_for("some answers", lambda: sum(future.done() for future in futures) > 20)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        standby.wait_log("it is first now")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.wait_log("it is a standby now")
    assert [future.result(timeout=60) for future in futures] == list(range(TASKS))
    for number, future in enumerate(careful):
        error = future.exception(timeout=60)
        assert error is None or "idempotent=False" in str(error)
        assert error is not None or future.result() == number
    numbers = runs.read_text().split() if runs.exists() else []
    assert len(numbers) == len(set(numbers)), "a task ran twice"
    assert is_first(standby)
    assert not is_first(first)


def test_an_orderly_stop_hands_over_at_once(redis: RedisServer, deployment: Deployment) -> None:
    url = url_of(redis)
    # A scheduler that finds no value waits for a lease. This one is found, and says that its holder has ended.
    value = '{"term": 1, "holder": "former", "name": "nobody", "renewal": 1, "returned": true}'
    redis.command("SET", "scaler:standby-lease", value)
    first = deployment.scheduler("--standby-lease", url, "--standby-lease-seconds", "25")
    first.wait_log("it is first now")
    standby = deployment.scheduler("--standby-lease", url, "--standby-lease-seconds", "25")
    both = both_of(first, standby)
    deployment.workers(both)
    client = deployment.client(both)
    assert client.submit(f.square, 3).result(30) == 9
    first.terminate()
    standby.wait_log("it is first now", timeout_s=20)
    assert client.submit(f.square, 4).result(30) == 16


def test_a_holder_that_cannot_renew_steps_down_and_is_first_again_when_it_can(
    redis: RedisServer, deployment: Deployment
) -> None:
    first, standby = pair(deployment, redis)
    both = both_of(first, standby)
    deployment.workers(both)
    client = deployment.client(both)
    assert client.submit(f.square, 3).result(30) == 9
    with redis.stopped():
        first.wait_log("it is a standby now")
        waiting = client.submit(f.square, 4)
        standby.wait_log("cannot be asked for")
        assert not is_first(standby)
    assert waiting.result(60) == 16
    first.wait_log("answers")
    for one in (first, standby):
        assert one.log().count("cannot be asked for") <= 3, "a line for each kind of trouble"
    wait_for("one of them to be first", lambda: is_first(first) is not is_first(standby))


def test_a_restart_of_the_server_that_forgets_changes_nothing(
    forgetful_redis: RedisServer, deployment: Deployment
) -> None:
    first, standby = pair(deployment, forgetful_redis)
    both = both_of(first, standby)
    deployment.workers(both)
    client = deployment.client(both)
    futures = [client.submit(f.sleep_and_return, 0.005, number) for number in range(TASKS)]
    forgetful_redis.kill()
    forgetful_redis.start()
    holder = wait_for("the value", lambda: forgetful_redis.command("GET", "scaler:standby-lease"))
    assert holder
    assert [future.result(timeout=60) for future in futures] == list(range(TASKS))
    wait_for("one of them to be first", lambda: is_first(first) is not is_first(standby))
    deployment.close()
    forgetful_redis.kill()


def test_a_server_that_is_away_from_the_beginning_is_said_once(redis: RedisServer, deployment: Deployment) -> None:
    redis.kill()
    one, two = start(deployment, redis), start(deployment, redis)
    both = both_of(one, two)
    for each in (one, two):
        each.wait_log("cannot be asked for: Error 111 connecting to")
        assert not is_first(each)
    redis.start()
    wait_for("one to be first", lambda: is_first(one) or is_first(two))
    for each in (one, two):
        assert each.log().count("cannot be asked for") == 1
    deployment.workers(both)
    assert deployment.client(both).submit(f.square, 3).result(30) == 9
    deployment.close()
    # This process was started after those that the test may not leave behind were counted.
    redis.kill()


def test_a_wrong_password_and_a_foreign_value_are_said(redis: RedisServer, deployment: Deployment) -> None:
    redis.command("SET", "scaler:standby-lease", "something else")
    one = start(deployment, redis)
    one.wait_log("is no lease of a scheduler: nobody can be first")
    assert "something else" in redis.command("GET", "scaler:standby-lease")
    redis.command("DEL", "scaler:standby-lease")
    one.wait_log("it is first now")
    redis.command("CONFIG", "SET", "requirepass", "secret")
    two = start(deployment, redis)
    two.wait_log("Authentication required")
    assert not is_first(two)


def test_a_scheduler_that_would_be_its_standby_by_itself_is_refused(redis: RedisServer, deployment: Deployment) -> None:
    one = start(deployment, redis)
    one.wait_log("it is first now")
    two = deployment.scheduler("--standby-of", one.address)
    two.wait_log("a lease decides which scheduler is first here")
