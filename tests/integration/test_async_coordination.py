"""Locks and jobs of `AsyncClient` with real processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from scaler import AsyncClient, errors
from tests.integration.deployment import Deployment


def squared(number: int) -> int:
    if number == 13:
        raise ValueError("thirteen")
    return number * number


def slow(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.02)  # sleeps: the task takes until the test is done with it
    return 1


async def increments(path: str, times: int) -> int:
    """A coroutine that is a task, with a client of its own."""
    async with AsyncClient() as client:
        for _ in range(times):
            async with client.lock(path, timeout=60):
                number = int(await asyncio.to_thread(Path(path).read_text))
                await asyncio.sleep(0.001)  # sleeps: others would read the same number meanwhile, without the lock
                await asyncio.to_thread(Path(path).write_text, str(number + 1))
    return os.getpid()


@pytest.fixture(scope="module")
def address(module_deployment: Deployment) -> str:
    scheduler = module_deployment.scheduler()
    module_deployment.workers(scheduler, count=3)
    return scheduler.address


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_coroutines_inside_tasks_and_outside_lose_no_count(address: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    async def main() -> None:
        async with AsyncClient(address) as client:

            async def outside() -> None:
                for _ in range(10):
                    async with client.lock(str(counter), timeout=60):
                        number = int(await asyncio.to_thread(counter.read_text))
                        await asyncio.to_thread(counter.write_text, str(number + 1))

            inside = [client.submit(increments, str(counter), 10) for _ in range(3)]
            await asyncio.gather(*inside, *(outside() for _ in range(4)))

    run(main())
    assert counter.read_text() == "70"


def test_a_job_has_what_its_block_submits(address: str) -> None:
    async def main() -> None:
        async with AsyncClient(address) as client:

            async def beside(began: asyncio.Event) -> int:
                await began.wait()
                return await client.submit(squared, 1000)

            began = asyncio.Event()
            other = asyncio.create_task(beside(began))
            async with client.job("asynchronous", keep="1h") as job:
                began.set()
                assert await other == 1_000_000

                async def started_here(number: int) -> int:
                    return await client.submit(squared, number)

                own = [client.submit(squared, number) for number in range(5)]
                assert await asyncio.create_task(started_here(5)) == 25
                with pytest.raises(ValueError, match="submits to job 'asynchronous' already"):
                    await client.job("second").__aenter__()
            assert await client.submit(squared, 2000) == 4_000_000
            assert [await future for future in own] == [0, 1, 4, 9, 16]
            assert (await job.status()).tasks == 6
            assert (await job.status()).is_closed
        async with AsyncClient(address) as client:
            jobs = client.jobs()
            assert "asynchronous" in await jobs.names()
            job = await jobs.get("asynchronous")
            assert await job.results(30) == [0, 1, 4, 9, 16, 25]
            ended = [await future async for future in job.as_completed(30)]
            assert sorted(ended) == [0, 1, 4, 9, 16, 25]
            await job.forget()
            with pytest.raises(errors.JobNotFoundError):
                await jobs.get("asynchronous")
            with pytest.raises(TypeError, match=r"await client\.jobs"):
                jobs["asynchronous"]

    run(main())


def test_failures_timeouts_and_cancelling(address: str, tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> None:
        async with AsyncClient(address) as client:

            async def leave_early() -> None:
                async with client.job("left"):
                    client.submit(squared, 12)
                    raise KeyError("left early")

            with pytest.raises(KeyError):
                await leave_early()
            left = await client.jobs().get("left")
            assert not (await left.status()).is_closed
            async with client.job("left"):
                client.submit(squared, 12)
                client.submit(squared, 13)
            with pytest.raises(ValueError, match="thirteen"):
                await left.results(30)
            first, second = await left.results(30, return_exceptions=True)
            assert (first, type(second)) == (144, ValueError)
            async with client.job("slow") as job:
                future = client.submit(slow, str(go))
            with pytest.raises(TimeoutError):
                await job.results(0.1)
            with pytest.raises(TimeoutError):
                async for _ in job.as_completed(0.1):
                    pass
            # It only follows the task.
            future.cancel()
            assert (await job.status()).canceled == 0
            await job.cancel()
            with pytest.raises(errors.ClientCancelledException):
                await (await job.futures())[0]
            for one in (left, job):
                await one.forget()

    run(main())
