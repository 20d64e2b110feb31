"""A program with `ScalerExecutor`. Type checkers read it, nobody runs it: each `type: ignore` is a line that they must refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor, Future, as_completed, wait
from typing import assert_type

from worker_functions import fetch, joined, price, same, scaled, total

from scaler import ScalerExecutor, ScalerFuture


def results(executor: ScalerExecutor) -> None:
    number = executor.submit(same, 3)
    assert_type(number, ScalerFuture[int])
    assert_type(executor.submit(price, 3, "USD", rate=1.1), ScalerFuture[str])
    assert_type(executor.submit(fetch, 3).result(), bytes)
    assert_type(executor.submit(joined, number, "x"), ScalerFuture[tuple[int, str]])
    assert_type(executor.submit(scaled, 1.5, number), ScalerFuture[float])
    assert_type(executor.submit(total, [number, number]), ScalerFuture[int])
    executor.submit(price, "3")  # type: ignore
    executor.submit(price)  # type: ignore
    executor.submit(price, 3, number)  # type: ignore
    executor.submit(price, 3, unknown=1)  # type: ignore


def maps(executor: ScalerExecutor) -> None:
    assert_type(executor.map(price, [1, 2], timeout=3, chunksize=2, buffersize=10), Iterator[str])
    assert_type(executor.map(price, [1, 2], ["EUR", "USD"]), Iterator[str])
    assert_type(executor.map(fetch, [1, 2], chunksize=2), Iterator[bytes])
    executor.map(price, ["1"])  # type: ignore
    executor.map(price, [1], chunksize="2")  # type: ignore
    executor.map(price, [1], ordered=False)  # type: ignore


def as_any_executor(executor: Executor) -> Future[str]:
    return executor.submit(price, 3)


async def where_one_is_asked_for(executor: ScalerExecutor) -> None:
    assert_type(await asyncio.get_running_loop().run_in_executor(executor, price, 3), str)
    as_any_executor(executor)
    texts = [executor.submit(price, number) for number in range(3)]
    done, left = wait(texts)
    for future in as_completed(texts):
        assert_type(future.result(), str)
    with executor as entered:
        assert_type(entered, ScalerExecutor)
    del done, left
