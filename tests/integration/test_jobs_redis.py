"""Jobs in a Redis or Valkey server: schedulers that are killed, a server that is away, two schedulers that want the same jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from scaler import errors
from scaler_protocol.service.storage_url import RedisUrl, parse_storage_url
from scaler_protocol.testing.real_stores import RedisServer, redis_program, valkey_program
from scaler_scheduler import redis_journals
from scaler_scheduler.journal_store import RecordsLostError, TakenError
from scaler_scheduler.redis_journals import RedisJournals
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.redis_servers import server_of
from tests.integration.test_jobs import FETCH, SUBMIT, program, squared

JOB = b"j" * 16


@pytest.fixture(params=["redis", "valkey"])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    yield from server_of(redis_program() if request.param == "redis" else valkey_program())


@pytest.fixture
def one_redis() -> Iterator[RedisServer]:
    yield from server_of(redis_program())


def text_of(server: RedisServer) -> str:
    return f"redis://{server.host}:{server.port}/0/scaler"


def names_of(deployment: Deployment, scheduler: Service) -> list[str]:
    """The names of its jobs, or one word where there is none; nothing while it has not taken them up."""
    client = deployment.client(scheduler)
    try:
        return list(client.jobs()) or ["none"]
    except errors.JobError:
        return []
    finally:
        client.disconnect()


def opened(server: RedisServer, term: int = 1) -> RedisJournals:
    url = parse_storage_url(text_of(server))
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
    flags = ("--storage-url", text_of(redis))
    scheduler = deployment.scheduler(*flags)
    program(SUBMIT.format(end="import os; os._exit(0)"), scheduler.address, "300")
    scheduler.kill()
    # Nothing of the first one is left but what the server has. That it has ended can be seen on its machine.
    again = deployment.scheduler(*flags)
    deployment.workers(again)
    again.wait_log("took up 1 job from redis://")
    assert "another scheduler keeps its jobs there" not in again.log()
    assert program(FETCH, again.address, "300") == "300\n"
    again.terminate()
    third = deployment.scheduler(*flags)
    assert program(FETCH, third.address, "300") == "300\n"
    client = deployment.client(third)
    client.jobs()["overnight"].forget()
    third.kill()
    fourth = deployment.scheduler(*flags)
    assert wait_for("the jobs", lambda: names_of(deployment, fourth)) == ["none"]


@pytest.mark.timeout(200)
def test_a_server_that_is_killed_and_comes_back_has_all_of_them(one_redis: RedisServer, deployment: Deployment) -> None:
    flags = ("--storage-url", text_of(one_redis))
    scheduler = deployment.scheduler(*flags)
    workers = deployment.workers(scheduler)
    client = deployment.client(scheduler)
    with client.job("overnight"):
        futures = [client.submit(f.sleep_and_return, 0.01, number) for number in range(200)]
    wait_for("some results", lambda: sum(future.done() for future in futures) > 20)
    one_redis.kill()
    # Whoever has nothing to do with jobs does not notice, nor do those whose tasks have gone there before.
    assert client.submit(squared, 3).result(30) == 9
    assert client.gather(futures, 60) == list(range(200))
    scheduler.wait_log("the journals of jobs cannot be written")
    with client.job("more"):
        more = [client.submit(squared, number) for number in range(50)]
        assert client.gather(more, 60) == [number * number for number in range(50)]
        one_redis.start()
    scheduler.wait_log("the journals of jobs are written again")
    assert scheduler.log().count("cannot be written") == 1
    # A client with jobs asks its scheduler at the end whether that has them all, and would wait a minute for one that is gone.
    client.disconnect()
    workers.terminate()
    scheduler.kill()
    again = deployment.scheduler(*flags)
    again.wait_log("took up 2 jobs")
    # No worker is there: these are the results of before.
    other = deployment.client(again)
    assert other.jobs()["overnight"].results(timeout=30) == list(range(200))
    assert other.jobs()["more"].results(timeout=30) == [number * number for number in range(50)]
    deployment.close()
    one_redis.kill()


@pytest.mark.timeout(200)
def test_a_server_that_is_away_at_the_start_is_said_once(one_redis: RedisServer, deployment: Deployment) -> None:
    one_redis.kill()
    scheduler = deployment.scheduler("--storage-url", text_of(one_redis))
    scheduler.wait_log("jobs are not taken up yet, and are refused until then: --storage-url redis://")
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    assert client.submit(squared, 3).result(30) == 9
    with pytest.raises(errors.JobError, match="cannot be read where they are kept"), client.job("early"):
        pass
    one_redis.start()
    scheduler.wait_log("took up 0 jobs")
    assert scheduler.log().count("jobs are not taken up yet") == 1
    with client.job("early"):
        future = client.submit(squared, 5)
    assert future.result(30) == 25
    deployment.close()
    one_redis.kill()


@pytest.mark.timeout(200)
def test_two_schedulers_do_not_share_jobs(one_redis: RedisServer, deployment: Deployment) -> None:
    flags = ("--storage-url", text_of(one_redis))
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
