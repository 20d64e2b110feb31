"""What schedulers that keep their jobs in a store go through, whatever the store is. Several modules have each as a test."""

from __future__ import annotations

import pytest

from scaler import errors
from scaler_protocol.testing.real_stores import RealServer
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.test_jobs import FETCH, SUBMIT, program, squared


def names_of(deployment: Deployment, scheduler: Service) -> list[str]:
    """The names of its jobs, or one word where there is none; nothing while it has not taken them up."""
    client = deployment.client(scheduler)
    try:
        return list(client.jobs()) or ["none"]
    except errors.JobError:
        return []
    finally:
        client.disconnect()


def keeping(deployment: Deployment, *flags: str) -> Service:
    """Start a scheduler, and wait until it takes jobs."""
    scheduler = deployment.scheduler(*flags)
    wait_for("jobs to be kept", lambda: names_of(deployment, scheduler))
    return scheduler


def check_jobs_outlive_the_host_of_their_scheduler(deployment: Deployment, *flags: str) -> None:
    """Schedulers follow each other, each on another host for all that it has: only the store knows of the jobs."""
    scheduler = keeping(deployment, *flags)
    program(SUBMIT.format(end="import os; os._exit(0)"), scheduler.address, "300")
    scheduler.kill()
    # Nothing of the first one is left but what the store has. That it has ended can be seen on its machine.
    again = deployment.scheduler(*flags)
    deployment.workers(again)
    again.wait_log(f"took up 1 job from {flags[1].partition('://')[0]}://")
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


def check_a_store_that_is_killed_and_comes_back_has_all_of_them(
    deployment: Deployment, store: RealServer, *flags: str
) -> None:
    """The store is away for a while: jobs go on, and are there afterwards."""
    scheduler = keeping(deployment, *flags)
    workers = deployment.workers(scheduler)
    client = deployment.client(scheduler)
    with client.job("overnight"):
        futures = [client.submit(f.sleep_and_return, 0.01, number) for number in range(200)]
    wait_for("some results", lambda: sum(future.done() for future in futures) > 20)
    store.kill()
    # Whoever has nothing to do with jobs does not notice, nor do those whose tasks have gone there before.
    assert client.submit(squared, 3).result(30) == 9
    assert client.gather(futures, 60) == list(range(200))
    scheduler.wait_log("the journals of jobs cannot be written")
    with client.job("more"):
        more = [client.submit(squared, number) for number in range(50)]
        assert client.gather(more, 60) == [number * number for number in range(50)]
        store.start()
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
    # Before the store: what is left is written there.
    deployment.close()
    store.kill()


def check_a_store_that_is_away_at_the_start_is_said(deployment: Deployment, store: RealServer, *flags: str) -> Service:
    """A scheduler starts without its store, serves others, and takes jobs once the store is there. Return the scheduler."""
    store.kill()
    scheduler = deployment.scheduler(*flags)
    scheduler.wait_log(
        f"jobs are not taken up yet, and are refused until then: --storage-url {flags[1].partition('://')[0]}://"
    )
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    assert client.submit(squared, 3).result(30) == 9
    with pytest.raises(errors.JobError, match="cannot be read where they are kept"), client.job("early"):
        pass
    store.start()
    scheduler.wait_log("took up 0 jobs")
    with client.job("early"):
        future = client.submit(squared, 5)
    assert future.result(30) == 25
    deployment.close()
    store.kill()
    return scheduler
