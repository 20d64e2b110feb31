"""`AsyncClient.lock` and `semaphore` against the in-process cluster: coroutines wait, the event loop does not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from scaler import AsyncClient, Client, LockError, LockTimeoutError
from scaler.testing import InProcessCluster


def run(cluster: InProcessCluster, use: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncClient(cluster.address) as client:
            await use(client)

    asyncio.run(main())


def test_it_is_held_in_the_block_and_shared_with_plain_clients(cluster: InProcessCluster, client: Client) -> None:
    async def use(own: AsyncClient) -> None:
        lock = own.lock("a")
        for _ in range(3):
            assert not lock.held
            async with lock as held:
                assert held is lock
                assert lock.held
                with pytest.raises(LockTimeoutError, match=r"lock 'a' was not free within 0\.1 s"):
                    await asyncio.to_thread(client.lock("a", timeout=0.1).__enter__)
        with client.lock("a"), pytest.raises(LockTimeoutError):
            await own.lock("a", timeout=0.1).__aenter__()

    run(cluster, use)


def test_many_more_coroutines_than_threads_take_turns(cluster: InProcessCluster) -> None:
    inside, most, done = 0, 0, 0

    async def work(own: AsyncClient) -> None:
        nonlocal inside, most, done
        async with own.semaphore("a", 3):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            done += 1

    async def use(own: AsyncClient) -> None:
        await asyncio.gather(*(work(own) for _ in range(200)))

    run(cluster, use)
    assert (done, most) == (200, 3)


def test_errors_and_cancellation_free_it(cluster: InProcessCluster) -> None:
    async def use(own: AsyncClient) -> None:
        with pytest.raises(KeyError):
            async with own.lock("a"):
                raise KeyError("mine")
        async with own.lock("a"):
            waiting = asyncio.create_task(own.lock("a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        held = asyncio.Event()

        async def hold() -> None:
            async with own.lock("a"):
                held.set()
                await asyncio.Event().wait()

        holding = asyncio.create_task(hold())
        await held.wait()
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        # A coroutine that nobody ends: its lock goes with the object.
        await own.lock("a", timeout=5).__aenter__()
        gc.collect()
        async with own.lock("a", timeout=5):
            pass

    run(cluster, use)


def test_wrong_uses_have_one_clear_error(cluster: InProcessCluster) -> None:
    async def use(own: AsyncClient) -> None:
        async with own.lock("a") as lock:
            with pytest.raises(LockError, match="in use by this object"):
                await lock.__aenter__()
            with pytest.raises(LockError, match="semaphore 'a' of 3 cannot be had: 1 may hold it"):
                await own.semaphore("a", 3).__aenter__()
        for name, count, error in (
            ("", 1, ValueError),
            (3, 1, TypeError),
            ("a", 0, ValueError),
            ("a", True, TypeError),
        ):
            with pytest.raises(error):
                own.semaphore(name, count)  # type: ignore[arg-type]

    run(cluster, use)
