"""Tasks that wait for tasks of their own in every way there is: their slots are lent however they wait."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaler import Client, SchedulerClusterCombo

WAIT_SECONDS = 30.0
"""A task that waits longer has been forgotten: it says so instead of blocking the test."""


def double(value: int) -> int:
    return value * 2


# --- ways to wait. Each takes futures and returns their results.


def by_result(futures: list[Any]) -> list[int]:
    return [future.result(WAIT_SECONDS) for future in futures]


def by_event(futures: list[Any]) -> list[int]:
    for future in futures:
        done = threading.Event()
        future.add_done_callback(lambda _, done=done: done.set())
        assert done.wait(WAIT_SECONDS)
    return [future.result() for future in futures]


def by_semaphore(futures: list[Any]) -> list[int]:
    answered = threading.Semaphore(0)
    for future in futures:
        future.add_done_callback(lambda _: answered.release())
    assert all(answered.acquire(timeout=WAIT_SECONDS) for _ in futures)
    return [future.result() for future in futures]


def by_condition(futures: list[Any]) -> list[int]:
    left = set(futures)
    changed = threading.Condition()

    def answered(future: Any) -> None:
        with changed:
            left.discard(future)
            changed.notify_all()

    for future in futures:
        future.add_done_callback(answered)
    with changed:
        assert changed.wait_for(lambda: not left, WAIT_SECONDS)
    return [future.result() for future in futures]


def by_proxy_future(futures: list[Any]) -> list[int]:
    proxies: list[cf.Future[int]] = []
    for future in futures:
        proxy: cf.Future[int] = cf.Future()
        future.add_done_callback(lambda done, proxy=proxy: proxy.set_result(done.result()))
        proxies.append(proxy)
    return [proxy.result(WAIT_SECONDS) for proxy in proxies]


def by_asyncio(futures: list[Any]) -> list[int]:
    async def gather() -> list[int]:
        return list(await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, futures)), WAIT_SECONDS))

    return asyncio.run(gather())


def by_await(futures: list[Any]) -> list[int]:
    async def one_by_one() -> list[int]:
        return [await future for future in futures]

    return asyncio.run(asyncio.wait_for(one_by_one(), WAIT_SECONDS))


def by_polling(futures: list[Any]) -> list[int]:
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(future.done() for future in futures):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return [future.result() for future in futures]


def by_busy_polling(futures: list[Any]) -> list[int]:
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(future.done() for future in futures):
        assert time.monotonic() < deadline
    return [future.result() for future in futures]


def by_helper_thread(futures: list[Any]) -> list[int]:
    results: list[int] = []
    helper = threading.Thread(target=lambda: results.extend(future.result(WAIT_SECONDS) for future in futures))
    helper.start()
    helper.join(WAIT_SECONDS)
    assert not helper.is_alive()
    return results


def by_wait(futures: list[Any]) -> list[int]:
    _, pending = cf.wait(futures, WAIT_SECONDS)
    assert not pending
    return [future.result() for future in futures]


def by_as_completed(futures: list[Any]) -> list[int]:
    assert len(list(cf.as_completed(futures, WAIT_SECONDS))) == len(futures)
    return [future.result() for future in futures]


def by_queue(futures: list[Any]) -> list[int]:
    answers: queue.Queue[Any] = queue.Queue()
    for future in futures:
        future.add_done_callback(answers.put)
    for _ in futures:
        answers.get(timeout=WAIT_SECONDS)
    return [future.result() for future in futures]


WAYS = [
    by_result,
    by_event,
    by_semaphore,
    by_condition,
    by_proxy_future,
    by_asyncio,
    by_await,
    by_polling,
    by_busy_polling,
    by_helper_thread,
    by_wait,
    by_as_completed,
    by_queue,
]


# --- kinds of client inside a task


@contextlib.contextmanager
def open_client(kind: str, pickled: Client | None, address: str) -> Iterator[Client]:
    if kind == "pickled":
        assert pickled is not None
        yield pickled
    elif kind == "implicit":
        yield Client()
    else:
        with Client(address) as client:
            yield client


KINDS = ["pickled", "implicit", "explicit"]


def nest(wait: Callable[..., Any], kind: str, pickled: Client | None, address: str, depth: int, value: int) -> int:
    """Submit two tasks one level deeper, and add up what they return."""
    if not depth:
        return double(value)
    with open_client(kind, pickled, address) as client:
        futures = [client.submit(nest, wait, kind, pickled, address, depth - 1, value) for _ in range(2)]
        return sum(wait(futures))


def run(client: Client, wait: Callable[..., Any], kind: str, depth: int, count: int) -> None:
    pickled = client if kind == "pickled" else None
    futures = [client.submit(nest, wait, kind, pickled, client.address, depth, n) for n in range(count)]
    others = [client.submit(double, n) for n in range(5)]
    assert [future.result(60.0) for future in futures] == [2**depth * 2 * n for n in range(count)]
    assert [future.result(60.0) for future in others] == [2 * n for n in range(5)]


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Client]:
    with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
        yield client


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Client]:
    with SchedulerClusterCombo(n_workers=2) as combo, Client(combo.get_address()) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wait", WAYS, ids=lambda wait: wait.__name__)
def test_one_worker_is_lent_however_its_task_waits(one_worker: Client, wait: Callable[..., Any], kind: str) -> None:
    run(one_worker, wait, kind, depth=1, count=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wait", WAYS, ids=lambda wait: wait.__name__)
def test_two_workers_three_levels_deep(two_workers: Client, wait: Callable[..., Any], kind: str) -> None:
    run(two_workers, wait, kind, depth=3, count=3)
