"""What a client hands out for its jobs and locks, passed to tasks or used at the wrong time: it works, or says what to do."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaler import AsyncClient, Client, errors
from scaler.client.jobs import Job, Jobs
from tests.integration.deployment import Deployment


@pytest.fixture(scope="module")
def address(module_deployment: Deployment) -> str:
    scheduler = module_deployment.scheduler()
    module_deployment.workers(scheduler, count=1)
    return scheduler.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        with client.job("five"):
            futures = [client.submit(pow, number, 2) for number in range(5)]
        assert [future.result(timeout=60) for future in futures] == [0, 1, 4, 9, 16]
        yield client


def results_of(job: Job) -> list[Any]:
    return job.results(timeout=60)


def names_in(jobs: Jobs) -> list[str]:
    return list(jobs)


def test_a_job_and_all_jobs_are_seen_by_a_task_that_gets_them(client: Client) -> None:
    assert client.submit(results_of, client.jobs()["five"]).result(timeout=60) == [0, 1, 4, 9, 16]
    assert client.submit(names_in, client.jobs()).result(timeout=60) == ["five"]


HANDLES: dict[str, tuple[Callable[[Client], Any], str]] = {
    "lock": (lambda client: client.lock("press"), "lock 'press' cannot be copied or sent: pass the client"),
    "semaphore": (
        lambda client: client.semaphore("press", 3),
        "semaphore 'press' of 3 cannot be copied or sent: pass the client",
    ),
    "block": (lambda client: client.job("night"), "a block of job 'night' cannot be copied or sent: pass the client"),
}


@pytest.mark.parametrize("name", HANDLES)
def test_others_say_what_to_pass_instead(client: Client, name: str) -> None:
    make, words = HANDLES[name]
    handle = make(client)
    with pytest.raises(errors.SerializationError, match=words):
        client.submit(repr, handle)
    with pytest.raises(TypeError, match=words):
        copy.copy(handle)


def test_those_of_an_async_client_too(address: str) -> None:
    async def main() -> None:
        async with AsyncClient(address) as client:
            await client.submit_verbose(pow, (2, 3), detached=True, name="eight")
            job = await client.jobs().get("eight")
            for handle, words in (
                (client.lock("press"), "lock 'press' cannot be copied or sent"),
                (client.job("night"), "a block of job 'night' cannot be copied or sent"),
                (job, "<AsyncJob 'eight'> cannot be copied or sent: pass its name"),
                (client.jobs(), "<AsyncJobs of a client> cannot be copied or sent"),
            ):
                with pytest.raises(errors.SerializationError, match=words):
                    await client.submit(repr, handle)

    asyncio.run(main())


def test_giving_back_what_no_block_holds_is_an_error(client: Client, address: str) -> None:
    lock = client.lock("press", timeout=60)
    with pytest.raises(errors.LockError, match="lock 'press' cannot be given back: no block of this object holds it"):
        lock.__exit__(None, None, None)
    # It can be used all the same.
    with lock:
        assert lock.held

    async def main() -> None:
        async with AsyncClient(address) as asynchronous:
            lock = asynchronous.lock("press", timeout=60)
            with pytest.raises(errors.LockError, match="cannot be given back"):
                await lock.__aexit__(None, None, None)

    asyncio.run(main())
