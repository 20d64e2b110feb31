"""Maps in jobs: results are kept and fetched in order elsewhere, also after a scheduler was killed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from scaler import AsyncClient, Client, errors
from tests.integration.deployment import Deployment, wait_for


def powered(base: int, exponent: int) -> int:
    time.sleep(0.002)  # sleeps: later ones would end before earlier ones otherwise, and the order be that of the ends
    return int(base**exponent)


def test_results_of_a_map_come_in_order_after_the_scheduler_was_killed(deployment: Deployment, tmp_path: Path) -> None:
    flags = ("--storage-path", str(tmp_path / "kept"))
    scheduler = deployment.scheduler(*flags)
    expected = [number**2 for number in range(400)]
    with Client(scheduler.address) as client:
        with client.job("mapped") as job:
            futures = job.map(powered, range(400), [2] * 500, priority=1, retries=2)
        assert len(futures) == 400
    deployment.workers(scheduler)
    with Client(scheduler.address) as client:
        job = client.jobs()["mapped"]
        wait_for("some results", lambda: job.status().done > 20)
    scheduler.kill()
    again = deployment.scheduler(*flags, address=scheduler.address)
    with Client(again.address) as client:
        job = client.jobs()["mapped"]
        assert job.results(timeout=50) == expected
        assert job.status().tasks == 400
        # The same map again runs nothing, and its futures have the results.
        with client.job("mapped") as taken_up:
            futures = taken_up.starmap(powered, [(number, 2) for number in range(400)], priority=1, retries=2)
        assert [future.result(30) for future in futures] == expected
        assert job.status().tasks == 400


def test_wrong_calls_and_asynchronous_maps(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)

    async def main() -> None:
        async with AsyncClient(scheduler.address) as client:
            async with client.job("asynchronous") as job:
                futures = job.map(powered, [2, 3, 4], [5, 5, 5])
                futures += job.starmap(powered, [(2, 1)])
            assert [await future for future in futures] == [32, 243, 1024, 2]
            assert await job.results(30) == [32, 243, 1024, 2]

    asyncio.run(main())
    with Client(scheduler.address) as client, client.job("wrong") as job:
        with pytest.raises(TypeError, match="at least one iterable"):
            job.map(powered)
        with pytest.raises(TypeError, match="has no option retry"):
            job.map(powered, [1], [2], retry=3)
        with pytest.raises(TypeError, match="takes no other name"):
            job.map(powered, [1], [2], name="other")
        with pytest.raises((ValueError, errors.ScalerError, TypeError)):
            client.map(powered, [1], [2])
