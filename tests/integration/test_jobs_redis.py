"""Jobs in a Redis or Valkey server: schedulers that are killed, a server that is away, two schedulers that want the same jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from scaler_protocol.service.storage_url import RedisUrl, parse_storage_url
from scaler_protocol.testing.real_stores import RedisServer, redis_program, valkey_program
from scaler_scheduler import redis_journals
from scaler_scheduler.journal_store import RecordsLostError, TakenError
from scaler_scheduler.redis_journals import RedisJournals
from tests.integration.deployment import Deployment
from tests.integration.redis_servers import flags_of, server_of, url_of
from tests.integration.stored_jobs import (
    check_a_store_that_is_away_at_the_start_is_said,
    check_a_store_that_is_killed_and_comes_back_has_all_of_them,
    check_jobs_outlive_the_host_of_their_scheduler,
)
from tests.integration.test_jobs import squared

JOB = b"j" * 16


@pytest.fixture(params=["redis", "valkey"])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    yield from server_of(redis_program() if request.param == "redis" else valkey_program())


@pytest.fixture
def one_redis() -> Iterator[RedisServer]:
    yield from server_of(redis_program())


def opened(server: RedisServer, term: int = 1) -> RedisJournals:
    url = parse_storage_url(url_of(server))
    assert isinstance(url, RedisUrl)
    return RedisJournals(url, term)


def test_the_store_adds_at_the_end_once_and_for_one_scheduler(redis: RedisServer) -> None:
    first, second, later = opened(redis), opened(redis), opened(redis, term=2)
    problems: list[str] = []
    first.take()
    assert list(first.load(problems.append)) == []
    for number in range(40):
        first.append(JOB, [b"%d" % number, b"\0\xff" * 10])
    with pytest.raises(TakenError, match=r"another scheduler keeps its jobs there \(process \d+ on "):
        second.take()
    # Who has taken over has a higher term, and need not wait.
    later.take()
    records = [part for number in range(40) for part in (b"%d" % number, b"\0\xff" * 10)]
    assert list(later.load(problems.append)) == [(JOB, records)]
    with pytest.raises(TakenError):
        first.append(JOB, [b"late"])
    with pytest.raises(TakenError):
        first.drop(JOB)
    with pytest.raises(TakenError):
        first.renew()
    later.append(JOB, [b"end"])
    later.close()
    second.take()
    assert list(second.load(problems.append)) == [(JOB, [*records, b"end"])]
    # What was thrown away is noticed, and nothing is added behind it.
    redis.command("DEL", f"scaler:jobs:{JOB.hex()}")
    with pytest.raises(RecordsLostError):
        second.append(JOB, [b"more"])
    second.drop(JOB)
    assert redis.command("KEYS", "scaler:jobs:*").count("scaler:jobs:") == 2, "owner and alive"
    second.close()
    assert problems == []


def test_a_process_of_this_machine_that_has_ended_has_nothing(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(redis), opened(redis)
    first.take()
    first.append(JOB, [b"one"])
    with pytest.raises(TakenError):
        second.take()
    monkeypatch.setattr(redis_journals, "has_ended", lambda holder: holder.get("process") == os.getpid())
    second.take()
    problems: list[str] = []
    assert list(second.load(problems.append)) == [(JOB, [b"one"])]
    with pytest.raises(TakenError):
        first.append(JOB, [b"late"])


@pytest.mark.timeout(200)
def test_jobs_outlive_the_host_of_their_scheduler(redis: RedisServer, deployment: Deployment) -> None:
    check_jobs_outlive_the_host_of_their_scheduler(deployment, *flags_of(redis))


@pytest.mark.timeout(200)
def test_a_server_that_is_killed_and_comes_back_has_all_of_them(one_redis: RedisServer, deployment: Deployment) -> None:
    check_a_store_that_is_killed_and_comes_back_has_all_of_them(deployment, one_redis, *flags_of(one_redis))


@pytest.mark.timeout(200)
def test_a_server_that_is_away_at_the_start_is_said_once(one_redis: RedisServer, deployment: Deployment) -> None:
    scheduler = check_a_store_that_is_away_at_the_start_is_said(deployment, one_redis, *flags_of(one_redis))
    assert scheduler.log().count("jobs are not taken up yet") == 1


@pytest.mark.timeout(200)
def test_two_schedulers_do_not_share_jobs(one_redis: RedisServer, deployment: Deployment) -> None:
    flags = flags_of(one_redis)
    first = deployment.scheduler(*flags)
    client = deployment.client(first)
    with client.job("shared"):
        client.submit(squared, 4)
    second = deployment.scheduler(*flags)
    second.wait_log("another scheduler keeps its jobs there")
    os.kill(first.pid, signal.SIGSTOP)
    second.wait_log("took up 1 job")
    os.kill(first.pid, signal.SIGCONT)
    first.wait_log("jobs are not taken up yet, and are refused until then: another scheduler has taken them")
    deployment.workers(second)
    assert deployment.client(second).jobs()["shared"].results(timeout=30) == [16]
