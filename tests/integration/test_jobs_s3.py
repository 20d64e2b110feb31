"""Jobs in a bucket of S3: schedulers that are killed, a store that is away, two schedulers that want the same jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from scaler import errors
from scaler_protocol.testing.real_stores import S3Server
from tests.integration import functions as f
from tests.integration.deployment import Deployment, wait_for
from tests.integration.s3_servers import CREDENTIALS, flags_of, s3_server
from tests.integration.test_jobs import FETCH, SUBMIT, program, squared
from tests.integration.test_jobs_redis import names_of


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    yield from s3_server()


@pytest.mark.timeout(200)
def test_jobs_outlive_the_host_of_their_scheduler(s3: S3Server, deployment: Deployment) -> None:
    flags = flags_of(s3)
    scheduler = deployment.scheduler(*flags)
    wait_for("jobs to be kept", lambda: names_of(deployment, scheduler))
    program(SUBMIT.format(end="import os; os._exit(0)"), scheduler.address, "300")
    scheduler.kill()
    # Nothing of the first one is left but what the bucket has. That it has ended can be seen on its machine.
    again = deployment.scheduler(*flags)
    deployment.workers(again)
    again.wait_log("took up 1 job from s3://")
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
def test_a_store_that_is_killed_and_comes_back_has_all_of_them(s3: S3Server, deployment: Deployment) -> None:
    flags = flags_of(s3)
    scheduler = deployment.scheduler(*flags)
    wait_for("jobs to be kept", lambda: names_of(deployment, scheduler))
    workers = deployment.workers(scheduler)
    client = deployment.client(scheduler)
    with client.job("overnight"):
        futures = [client.submit(f.sleep_and_return, 0.01, number) for number in range(200)]
    wait_for("some results", lambda: sum(future.done() for future in futures) > 20)
    s3.kill()
    # Whoever has nothing to do with jobs does not notice, nor do those whose tasks have gone there before.
    assert client.submit(squared, 3).result(30) == 9
    assert client.gather(futures, 60) == list(range(200))
    scheduler.wait_log("the journals of jobs cannot be written")
    with client.job("more"):
        more = [client.submit(squared, number) for number in range(50)]
        assert client.gather(more, 60) == [number * number for number in range(50)]
        s3.start()
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
    s3.kill()


@pytest.mark.timeout(200)
def test_a_store_that_is_away_at_the_start_is_said_once(s3: S3Server, deployment: Deployment) -> None:
    s3.kill()
    scheduler = deployment.scheduler(*flags_of(s3))
    scheduler.wait_log("jobs are not taken up yet, and are refused until then: --storage-url s3://")
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    assert client.submit(squared, 3).result(30) == 9
    with pytest.raises(errors.JobError, match="cannot be read where they are kept"), client.job("early"):
        pass
    s3.start()
    scheduler.wait_log("took up 0 jobs")
    with client.job("early"):
        future = client.submit(squared, 5)
    assert future.result(30) == 25
    deployment.close()
    s3.kill()


@pytest.mark.timeout(200)
def test_two_schedulers_that_both_believe_to_be_first_give_no_task_two_results(
    s3: S3Server, deployment: Deployment
) -> None:
    flags = flags_of(s3)
    first = deployment.scheduler(*flags)
    wait_for("jobs to be kept", lambda: names_of(deployment, first))
    deployment.workers(first)
    client = deployment.client(first)
    with client.job("shared"):
        futures = [client.submit(f.sleep_and_return, 0.01, number) for number in range(300)]
    second = deployment.scheduler(*flags)
    second.wait_log("another scheduler keeps its jobs there")
    wait_for("some results", lambda: sum(future.done() for future in futures) > 20)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second.wait_log("took up 1 job")
        deployment.workers(second)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    # The former one finds the claim, and what it still has to say reaches nobody who asks later.
    first.wait_log("jobs are not taken up yet, and are refused until then: another scheduler has taken them")
    assert deployment.client(second).jobs()["shared"].results(timeout=60) == list(range(300))
    second.kill()
    # The former one lives, and waits for them.
    first.wait_log("took up 1 job")
    job = deployment.client(first).jobs()["shared"]
    assert job.status().tasks == 300
    assert job.results(timeout=60) == list(range(300))
