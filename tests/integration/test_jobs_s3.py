"""Jobs in a bucket of S3: schedulers that are killed, a store that is away, two schedulers that want the same jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from scaler_protocol.testing.real_stores import S3Server
from tests.integration import functions as f
from tests.integration.deployment import Deployment, wait_for
from tests.integration.s3_servers import CREDENTIALS, flags_of, s3_server
from tests.integration.stored_jobs import (
    check_a_store_that_is_away_at_the_start_is_said,
    check_a_store_that_is_killed_and_comes_back_has_all_of_them,
    check_jobs_outlive_the_host_of_their_scheduler,
    keeping,
)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    yield from s3_server()


@pytest.mark.timeout(200)
def test_jobs_outlive_the_host_of_their_scheduler(s3: S3Server, deployment: Deployment) -> None:
    check_jobs_outlive_the_host_of_their_scheduler(deployment, *flags_of(s3))


@pytest.mark.timeout(200)
def test_a_store_that_is_killed_and_comes_back_has_all_of_them(s3: S3Server, deployment: Deployment) -> None:
    check_a_store_that_is_killed_and_comes_back_has_all_of_them(deployment, s3, *flags_of(s3))


@pytest.mark.timeout(200)
def test_a_store_that_is_away_at_the_start_is_said(s3: S3Server, deployment: Deployment) -> None:
    # What the library says of it may change from one attempt to the next.
    check_a_store_that_is_away_at_the_start_is_said(deployment, s3, *flags_of(s3))


@pytest.mark.timeout(200)
def test_two_schedulers_that_both_believe_to_be_first_give_no_task_two_results(
    s3: S3Server, deployment: Deployment
) -> None:
    flags = flags_of(s3)
    first = keeping(deployment, *flags)
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
