"""`AsyncClient`, on a cluster of real processes."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, assert_type

import anyio
import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from scaler import (
    AsyncClient,
    ClientCancelledException,
    ClientQuitException,
    DisconnectedError,
    ScalerError,
    SchedulerClusterCombo,
    SerializationError,
)
from scaler.client.async_future import AsyncFuture
from tests.integration.deployment import wait_for

pytestmark = pytest.mark.without_keys("its keys are those of the plain client underneath")

Test = Callable[[AsyncClient], Awaitable[None]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with SchedulerClusterCombo(n_workers=2) as cluster:
        yield cluster.get_address()


def run(address: str, test: Test) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), AsyncClient(address) as client:
            await test(client)

    asyncio.run(main())


def double(value: int) -> int:
    return 2 * value


async def double_soon(value: int) -> int:
    await asyncio.sleep(0.01)  # sleeps: the task
    return 2 * value


def fail(text: str) -> None:
    raise ValueError(text)


def stop_iteration() -> None:
    raise StopIteration


def add(left: int, right: int) -> int:
    return left + right


def total(values: list[int], more: dict[str, int]) -> int:
    return sum(values) + sum(more.values())


def wait_for_file(path: str) -> str:
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.005)  # sleeps: until the test says so
    return path


def run_until_cancelled(folder: str) -> None:
    Path(folder, "began").touch()
    try:
        time.sleep(60)  # sleeps: until it is cancelled
    finally:
        Path(folder, "ended").touch()


async def until_exists(path: Path) -> None:
    await asyncio.to_thread(wait_for, path.name, path.exists, 30)


# --- single calls


def test_submit(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        future = client.submit(double, 4)
        assert isinstance(future, asyncio.Future)
        assert await future == 8
        assert await client.submit(add, 1, right=2) == 3
        assert future.task.task_id > 0
        assert await client.submit_verbose(add, (1,), {"right": 5}) == 6
        assert await asyncio.gather(*(client.submit(double, n) for n in range(50))) == [2 * n for n in range(50)]
        with pytest.raises(ValueError, match="no"):
            await client.submit(fail, "no")
        with pytest.raises(RuntimeError, match="StopIteration"):
            await client.submit(stop_iteration)
        with pytest.raises(TypeError):
            client.submit(double)  # type: ignore[call-overload]  # refused
        assert len(await client.submit(bytes, 20_000_000)) == 20_000_000
        large: list[int] = await client.submit(list, range(1_000_000))
        assert large[-1] == 999_999

    run(address, test)


def test_the_type_checker_knows_results(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        assert_type(client.submit(double, 1), AsyncFuture[int])
        assert_type(await client.submit(double_soon, 2), int)

    run(address, test)


def test_coroutine_functions_run_on_workers(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        assert await client.submit(double_soon, 3) == 6
        assert await client.map(double_soon, range(20)) == [2 * n for n in range(20)]
        assert await client.get({"a": 3, "b": (double_soon, "a"), "c": (double_soon, "b")}, ["c", "b"]) == {
            "c": 12,
            "b": 6,
        }

    run(address, test)


def test_futures_as_arguments(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        one, two = client.submit(double, 1), client.submit(double, 2)
        assert await client.submit(add, one, right=two) == 6  # type: ignore[arg-type]  # a future by name
        mixed: list[Any] = [one, 1, two]
        named: dict[str, Any] = {"more": one}
        assert await client.submit(total, mixed, named) == 9
        assert await client.submit_verbose(add, (one, 10)) == 12
        assert await client.map(double, mixed) == [4, 2, 8]
        pairs: list[Any] = [(one, 1), (2, two)]
        assert await client.starmap(add, pairs) == [3, 6]
        assert await client.get({"a": one, "b": (add, "a", two)}, ["b"]) == {"b": 6}
        with pytest.raises(SerializationError, match="await it first"):
            client.submit(lambda: one)

    run(address, test)


# --- cancelling


@pytest.mark.parametrize("way", ["task", "future", "client", "timeout", "gather", "map", "get"])
def test_cancelling_reaches_the_task_that_runs(address: str, tmp_path: Path, way: str) -> None:
    async def test(client: AsyncClient) -> None:
        folder = str(tmp_path)
        if way == "future":
            future = client.submit(run_until_cancelled, folder)
            await until_exists(tmp_path / "began")
            assert future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await future
        elif way == "client":
            future = client.submit(run_until_cancelled, folder)
            await until_exists(tmp_path / "began")
            await client.cancel([future], timeout=30)
            assert future.cancelled()
            assert (tmp_path / "ended").exists()
        elif way == "timeout":
            future = client.submit(run_until_cancelled, folder)
            await until_exists(tmp_path / "began")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(future, 0.01)
        else:
            ways: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "task": lambda: awaited(client.submit(run_until_cancelled, folder)),
                "gather": lambda: client.gather([client.submit(run_until_cancelled, folder)]),
                "map": lambda: client.map(run_until_cancelled, [folder]),
                "get": lambda: client.get({"a": (run_until_cancelled, folder)}, "a"),
            }
            task = asyncio.create_task(ways[way]())
            await until_exists(tmp_path / "began")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await until_exists(tmp_path / "ended")
        assert await client.submit(double, 1) == 2

    run(address, test)


async def awaited(future: AsyncFuture) -> Any:
    return await future


def test_a_shielded_future_goes_on(address: str, tmp_path: Path) -> None:
    async def test(client: AsyncClient) -> None:
        future = client.submit(wait_for_file, str(tmp_path / "go"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 0.1)
        (tmp_path / "go").touch()
        assert await future == str(tmp_path / "go")

    run(address, test)


def test_in_a_task_group(address: str, tmp_path: Path) -> None:
    """A failure cancels the others, and their tasks."""

    async def test(client: AsyncClient) -> None:
        async def fail_later() -> None:
            await until_exists(tmp_path / "began")
            await client.submit(fail, "group")

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(awaited(client.submit(run_until_cancelled, str(tmp_path))))
                group.create_task(fail_later())

        with pytest.raises(ExceptionGroup) as caught:
            await both()
        assert [str(error) for error in caught.value.exceptions] == ["group"]
        await until_exists(tmp_path / "ended")

    run(address, test)


# --- many


def test_futures_as_they_end(address: str, tmp_path: Path) -> None:
    async def test(client: AsyncClient) -> None:
        slow = client.submit(wait_for_file, str(tmp_path / "go"))
        quick, failing = client.submit(double, 4), client.submit(fail, "no")
        ended = []
        async for future in client.as_completed([slow, quick, failing, quick]):
            ended.append(future)
            if len(ended) == 2:
                (tmp_path / "go").touch()
        assert ended[2:] == [slow]
        assert set(ended[:2]) == {quick, failing}
        assert isinstance(failing.exception(), ValueError)
        never = client.submit(wait_for_file, str(tmp_path / "never"))
        late = client.as_completed([never, quick], timeout=0.2)
        assert await anext(late) is quick
        with pytest.raises(TimeoutError, match="1 futures are not done"):
            await anext(late)
        assert never.cancel()
        with pytest.raises(TypeError, match="each a AsyncFuture, not a int"):
            client.as_completed([1])  # type: ignore[arg-type]

    run(address, test)


def test_gather(address: str, tmp_path: Path) -> None:
    async def test(client: AsyncClient) -> None:
        one, two = client.submit(double, 1), client.submit(double, 2)
        assert await client.gather([one, {"a": (two, "text")}]) == [2, {"a": (4, "text")}]
        assert await client.gather(one) == 2
        assert await client.gather([]) == []
        slow, failing = client.submit(wait_for_file, str(tmp_path / "go")), client.submit(fail, "no")
        with pytest.raises(ValueError, match="no"):
            await client.gather([slow, failing])
        with pytest.raises(TimeoutError, match="1 of 2 futures"):
            await client.gather([slow, one], timeout=0.1)
        assert not slow.done()
        (tmp_path / "go").touch()
        path, error = await client.gather([slow, failing], return_exceptions=True)
        assert path == str(tmp_path / "go")
        assert isinstance(error, ValueError)

    run(address, test)


def test_maps(address: str, tmp_path: Path) -> None:
    async def test(client: AsyncClient) -> None:
        assert await client.map(double, range(5000)) == [2 * n for n in range(5000)]
        assert sorted(await client.map(add, range(100), range(100), ordered=False)) == [2 * n for n in range(100)]
        assert await client.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
        assert await client.map(double, []) == []
        with pytest.raises(ValueError, match="no"):
            await client.map(fail, ["no"] * 3)
        with pytest.raises(TimeoutError, match="the map is not done"):
            await client.map(wait_for_file, [str(tmp_path / "never")] * 3, timeout=0.3)
        assert await client.submit(double, 1) == 2

    run(address, test)


def test_endless_maps(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        taken = itertools.count()
        results = []
        async with aclosing(client.imap(double, taken, buffersize=16)) as doubled:
            async for value in doubled:
                results.append(value)
                if len(results) == 500:
                    break
        assert results == [2 * n for n in range(500)]
        assert next(taken) <= 520
        assert {value async for value in client.imap_unordered(double, range(3000))} == {2 * n for n in range(3000)}
        with pytest.raises(ValueError, match="no"):
            async for _ in client.imap(fail, ["no"]):
                pass

    run(address, test)


async def numbers(count: float, taken: list[int] | None = None, *, pause: bool = False) -> AsyncIterator[int]:
    number = 0
    while number < count:
        if pause and number % 10 == 0:
            await asyncio.sleep(0.001)  # sleeps: what gives the items
        if taken is not None:
            taken.append(number)
        yield number
        number += 1


@pytest.mark.parametrize("pause", [False, True])
def test_maps_over_asynchronous_iterables(address: str, pause: bool) -> None:
    async def test(client: AsyncClient) -> None:
        assert [one async for one in client.imap(double, numbers(3000, pause=pause))] == [2 * n for n in range(3000)]
        unordered = {one async for one in client.imap_unordered(double, numbers(3000, pause=pause))}
        assert unordered == {2 * n for n in range(3000)}
        assert [one async for one in client.imap(double, numbers(0))] == []
        # With others, it ends with the shortest.
        for count in (20, 30, 40):
            both = client.imap(add, numbers(30, pause=pause), range(count))
            assert [one async for one in both] == [2 * n for n in range(min(30, count))]
        futures = [client.submit(double, n) for n in range(5)]
        assert [one async for one in client.imap(double, as_given(futures))] == [4 * n for n in range(5)]

    run(address, test)


async def as_given(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.mark.parametrize("buffersize", [1, 16, None])
def test_asynchronous_iterables_without_end(address: str, buffersize: int | None) -> None:
    """With a buffer's size, no more items are taken than results were and that. Without one they end somewhere too."""

    async def test(client: AsyncClient) -> None:
        taken: list[int] = []
        async with aclosing(client.imap(double, numbers(math.inf, taken), buffersize=buffersize)) as doubled:
            await asyncio.sleep(0)
            assert not taken
            results = []
            async for value in doubled:
                results.append(value)
                if buffersize is not None:
                    assert len(taken) <= len(results) + buffersize
                if len(results) == 300:
                    break
        assert results == [2 * n for n in range(300)]
        left = len(taken)
        assert await client.submit(double, 1) == 2
        assert len(taken) == left
        assert len(asyncio.all_tasks()) == 1

    run(address, test)


def test_an_asynchronous_iterable_that_waits_or_fails(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        # Results come while it waits for further items.
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def from_queue() -> AsyncIterator[int]:
            while True:
                yield await queue.get()

        async with aclosing(client.imap(double, from_queue())) as doubled:
            for number in range(5):
                queue.put_nowait(number)
                assert await anext(doubled) == 2 * number
        assert len(asyncio.all_tasks()) == 1

        async def failing() -> AsyncIterator[int]:
            yield 1
            yield 2
            raise LookupError("no more")

        values: list[int] = []

        async def collect() -> None:
            async for value in client.imap(double, failing()):
                values.append(value)

        with pytest.raises(LookupError, match="no more"):
            await collect()
        assert values == [2, 4]

        class Odd(BaseException):
            pass

        async def raising(error: type[BaseException]) -> AsyncIterator[int]:
            yield 1
            yield 2
            raise error

        for error in (ValueError, asyncio.CancelledError, Odd):
            results = client.imap(double, raising(error))
            assert [await anext(results), await anext(results)] == [2, 4]
            with pytest.raises(error):
                await anext(results)

        class Bare:
            """An asynchronous iterator needs no more than `__anext__`."""

            left = 3

            async def __anext__(self) -> int:
                if not self.left:
                    raise StopAsyncIteration
                self.left -= 1
                return self.left

        class OverBare:
            def __aiter__(self) -> Bare:
                return Bare()

        assert [one async for one in client.imap(double, OverBare())] == [4, 2, 0]  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="not iterable"):
            client.imap(add, numbers(3), 5)  # type: ignore[call-overload]  # refused
        # Whoever is cancelled while it waits for an item leaves nothing behind.
        waiting = asyncio.create_task(anext(client.imap(double, from_queue())))
        async with asyncio.timeout(30):
            while not queue._getters:  # type: ignore[attr-defined]  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert len(asyncio.all_tasks()) == 1

    run(address, test)


def test_the_loop_goes_on_meanwhile(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.thread_time()
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - before)

        watching = asyncio.create_task(watch())
        await client.map(double, range(200_000))
        await client.gather([client.submit(double, 1) for _ in range(100)])
        watching.cancel()
        # Of this thread's own processor time: that others use the machine does not matter.
        assert longest < 0.25

    run(address, test)


def test_send_object(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        reference = await client.send_object(list(range(100_000)), name="numbers")
        assert await client.submit(sum, reference) == sum(range(100_000))
        assert await client.gather([client.submit(len, reference) for _ in range(5)]) == [100_000] * 5

    run(address, test)


# --- the client


def test_connecting_and_leaving(address: str, tmp_path: Path) -> None:
    async def main() -> None:
        client = AsyncClient(address)
        assert "not connected yet" in repr(client)
        with pytest.raises(RuntimeError, match="not connected yet"):
            client.submit(double, 1)
        assert await client is client
        assert await client.connect() is client
        assert client.address == address
        assert len(client.identity) == 16
        waiting = client.submit(wait_for_file, str(tmp_path / "never"))
        await client.clear()
        with pytest.raises(ClientCancelledException):
            await waiting
        waiting = client.submit(wait_for_file, str(tmp_path / "never"))
        await client.disconnect()
        await client.disconnect()
        with pytest.raises(ClientQuitException):
            await waiting
        with pytest.raises(ScalerError):
            client.submit(double, 1)
        with pytest.raises(DisconnectedError):
            await AsyncClient("tcp://127.0.0.1:1", timeout_seconds=0.5)

    asyncio.run(main())


def test_another_loop_is_refused(address: str) -> None:
    client = AsyncClient(address)

    async def connect() -> None:
        await client.connect()

    async def use() -> None:
        with pytest.raises(RuntimeError, match="another event loop runs here: make one AsyncClient for each loop"):
            client.submit(double, 1)
        with pytest.raises(RuntimeError, match="another event loop"):
            await client.map(double, [1])
        await client.disconnect()

    asyncio.run(connect())
    with pytest.raises(RuntimeError, match="no event loop runs in this thread"):
        client.submit(double, 1)
    asyncio.run(use())


def test_a_loop_that_ends_without_leaving_harms_nobody(address: str, tmp_path: Path) -> None:
    async def leave() -> AsyncClient:
        client = await AsyncClient(address)
        client.submit(wait_for_file, str(tmp_path / "go"))
        return client

    client = asyncio.run(leave())
    (tmp_path / "go").touch()
    plain = client._client
    assert plain is not None
    wait_for("its answer", lambda: plain.operations.engine.unanswered_count == 0, 30)
    plain.disconnect()


def test_tasks_beyond_the_schedulers_limit_wait_without_blocking() -> None:
    async def test(client: AsyncClient) -> None:
        futures = [client.submit(double_soon, n) for n in range(200)]
        cancelled = futures[-10:]
        for future in cancelled:
            future.cancel()
        assert await client.gather(futures[:-10]) == [2 * n for n in range(190)]
        assert all(future.cancelled() for future in cancelled)
        assert await client.map(double, range(500)) == [2 * n for n in range(500)]

    with SchedulerClusterCombo(n_workers=1, max_number_of_tasks_waiting=5) as cluster:
        run(cluster.get_address(), test)


async def submit_inside(count: int) -> int:
    client = await AsyncClient()
    parts = await client.gather([client.submit(double, n) for n in range(count)])
    total: int = sum(parts) + sum(await client.map(double, range(count)))
    return total


def test_inside_tasks(address: str) -> None:
    async def test(client: AsyncClient) -> None:
        assert await client.gather([client.submit(submit_inside, 10) for _ in range(4)]) == [180] * 4

    run(address, test)


# --- what else runs event loops


def test_behind_a_web_server(address: str, tmp_path: Path) -> None:
    """A request whose caller goes away cancels nothing by itself; the server's own tasks do, as all asyncio tasks."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncClient(address) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/double/{value}")
    async def answer(value: int) -> dict[str, int]:
        return {"result": await app.state.client.submit(double, value)}

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None))
        serving = asyncio.create_task(server.serve())
        async with asyncio.timeout(60):
            await asyncio.to_thread(wait_for, "the server", lambda: server.started, 30)
            port = server.servers[0].sockets[0].getsockname()[1]
            async with httpx.AsyncClient() as web:
                answers = await asyncio.gather(*(web.get(f"http://127.0.0.1:{port}/double/{n}") for n in range(20)))
            server.should_exit = True
            await serving
        assert [answer.json()["result"] for answer in answers] == [2 * n for n in range(20)]

    asyncio.run(main())


def test_in_anyio(address: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(address) as client:
            with anyio.move_on_after(60) as scope:
                future = client.submit(run_until_cancelled, str(tmp_path))
                await until_exists(tmp_path / "began")
                scope.deadline = anyio.current_time()
                await future
            assert scope.cancelled_caught
            await until_exists(tmp_path / "ended")
            assert await client.submit(double, 1) == 2

    anyio.run(main)


def test_in_uvloop(address: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> list[int]:
        async with AsyncClient(address) as client:
            results: list[int] = await client.gather([client.submit(double, n) for n in range(100)])
            return results

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == [2 * n for n in range(100)]


def test_importing_it_does_not_import_asyncio() -> None:
    program = (
        "import sys; from scaler import AsyncClient; AsyncClient('tcp://127.0.0.1:1'); print('asyncio' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("False\n", "")
