"""A program with `AsyncClient`. Type checkers read it and nobody runs it: each `type: ignore` is a line that they must refuse."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, assert_type

from worker_functions import fetch, joined, price, report, same, scaled, total

from scaler import AsyncClient, ObjectReference
from scaler.client.async_future import AsyncFuture


async def results(client: AsyncClient) -> None:
    assert_type(client.submit(price, 3, "USD", rate=1.1), AsyncFuture[str])
    assert_type(await client.submit(price, 3), str)
    assert_type(await client.submit(fetch, 3), bytes)
    assert_type(await client.submit(joined, 3, "x"), tuple[int, str])
    assert_type(await client.submit(math.sqrt, 16), float)
    assert_type(await client.submit_verbose(price, (3,), {"rate": 2}), str)
    client.submit(price, "3")  # type: ignore
    client.submit(price)  # type: ignore
    client.submit(price, 3, unknown=1)  # type: ignore
    client.submit(fetch, "3")  # type: ignore


async def on_every_worker(client: AsyncClient) -> None:
    assert_type(await client.run(price, 3, rate=2), dict[str, str])
    assert_type(await client.run(fetch, 3), dict[str, bytes])
    assert_type(await client.run_verbose(price, (3,), timeout=5), dict[str, str])
    assert_type(await client.run_verbose(fetch, (3,), return_exceptions=True), dict[str, bytes | BaseException])
    await client.run(price, "3")  # type: ignore


async def values_on_the_cluster(client: AsyncClient) -> None:
    number, text = client.submit(same, 3), client.submit(price, 3)
    factor = await client.send_object(2.5)
    assert_type(factor, ObjectReference[float])
    assert_type(await client.submit(price, number, rate=2), str)
    assert_type(await client.submit(price, 3, text), str)
    assert_type(await client.submit(scaled, number, factor), float)
    assert_type(await client.submit(fetch, number), bytes)
    assert_type(await client.submit(total, [number, number]), int)
    assert_type(await client.submit(report, {"A": factor}), str)
    client.submit(price, text)  # type: ignore
    client.submit(price, 3, number)  # type: ignore
    client.submit(total, [text])  # type: ignore


async def orders() -> AsyncIterator[int]:
    yield 3


async def names() -> AsyncIterator[str]:
    yield "x"


async def maps(client: AsyncClient) -> None:
    numbers = [client.submit(same, number) for number in range(3)]
    assert_type(await client.map(price, [1, 2], timeout=3), list[str])
    assert_type(await client.map(fetch, numbers), list[bytes])
    assert_type(await client.map(scaled, numbers, [1.5, 2.5, 3.5]), list[float])
    assert_type(await client.starmap(price, [(1, "EUR")]), list[str])
    assert_type(await client.starmap(price, [(numbers[0], "EUR")]), list[str])
    assert_type(client.imap(price, range(3), buffersize=100), AsyncGenerator[str, None])
    assert_type(client.imap(price, orders()), AsyncGenerator[str, None])
    assert_type(client.imap(scaled, orders(), [1.5, 2.5]), AsyncGenerator[float, None])
    async with aclosing(client.imap_unordered(price, orders())) as texts:
        async for text in texts:
            assert_type(text, str)
    client.imap(fetch, names())  # type: ignore
    await client.map(price, orders())  # type: ignore
    async for data in client.imap_unordered(fetch, [1, 2]):
        assert_type(data, bytes)
    await client.map(price, ["1"])  # type: ignore
    await client.map(price, [1], progress=True)  # type: ignore
    await client.starmap(price, [("EUR", 1)])  # type: ignore
    client.imap(price, ["1"])  # type: ignore


async def many_futures(client: AsyncClient) -> None:
    texts = [client.submit(price, number) for number in range(3)]
    async for future in client.as_completed(texts):
        assert_type(future, AsyncFuture[str])
        assert_type(await future, str)
    assert_type(await client.gather(texts), list[str])
    assert_type(await client.gather((texts[0], client.submit(same, 3))), tuple[str, int])
    assert_type(await client.gather({"A": texts[0]}), dict[str, str])
    assert_type(await client.get({"a": 1}, ["a"]), dict[str, Any])
    assert_type(await client.get({"a": 1}, ["a"], block=False), dict[str, AsyncFuture[Any]])
    client.as_completed([1, 2])  # type: ignore


async def connecting() -> None:
    async with AsyncClient("tcp://127.0.0.1:2345") as client:
        assert_type(client, AsyncClient)
    assert_type(await AsyncClient("tcp://127.0.0.1:2345"), AsyncClient)
