"""Futures as arguments, with real processes: in tasks too, and while processes die."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from scaler import Client, ScalerFuture, SchedulerClusterCombo
from scaler.client.object_channel import ObjectChannel
from scaler_protocol.testing.waiting import wait_until


def add(*values: Any) -> Any:
    return sum(values)


def slowly(value: Any) -> Any:
    time.sleep(0.3)  # sleeps: the task takes so long
    return value


def grown(value: bytes) -> bytes:
    return value + b"x"


def large(size: int) -> bytes:
    return b"x" * size


def die_once(path: str, value: int) -> int:
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return value + 1


def chain_inside(length: int) -> int:
    client = Client()
    future = client.submit(slowly, 0)
    for _ in range(length):
        future = client.submit(add, future, 1)
    result: int = client.submit(sum, [future, future]).result(60)
    return result


def map_inside(size: int) -> int:
    client = Client()
    futures = [client.submit(slowly, bytes(size)), client.submit(large, size)]
    lengths = client.map(len, cast(Any, [b"x", *futures, [*futures]]))
    value: int = client.get({"a": (len, futures[1]), "b": (sum, ["a", *lengths])}, "b")["b"]
    return value


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        yield client


def test_chains_trees_and_lists(client: Client) -> None:
    future = client.submit(add, 0)
    for _ in range(200):
        future = client.submit(add, future, 1)
    assert future.result(60) == 200
    level = [client.submit(add, number) for number in range(256)]
    assert client.submit(sum, level).result(60) == sum(range(256))
    while len(level) > 1:
        level = [client.submit(add, *level[at : at + 2]) for at in range(0, len(level), 2)]
    assert level[0].result(60) == sum(range(256))


def test_large_results(client: Client) -> None:
    future = client.submit(large, client.submit(slowly, 3_000_000))
    lengths = [client.submit(len, future) for _ in range(5)]
    assert [length.result(60) for length in lengths] == [3_000_000] * 5
    assert len(future.result(60)) == 3_000_000
    assert client.submit(len, future).result(60) == 3_000_000
    future = client.submit(large, client.submit(slowly, 3_000_000))
    items: list[Any] = ["x", [future], *map(str, range(100)), future]
    assert client.map(len, items) == [1, 1, *map(len, map(str, range(100))), 3_000_000]
    future = client.submit(large, client.submit(slowly, 3_000_000))
    graph = {"a": (len, future), "b": (add, "a", (len, [future])), "c": (add, "b", client.submit(add, 1, 1))}
    assert client.get(graph, ["b", "c"]) == {"b": 3_000_001, "c": 3_000_003}


def left_in_storage(future: ScalerFuture) -> ScalerFuture:
    wait_until(lambda: future.has_value)
    return future


def noted(method: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        calls.append(method.__name__)
        return method(*args, **named)

    return call


def test_large_results_that_are_there(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []
    for name in ("fetch", "put", "put_soon"):
        monkeypatch.setattr(ObjectChannel, name, noted(getattr(ObjectChannel, name), passed))
    future = client.submit(large, 3_000_000)
    for _ in range(3):
        future = client.submit(grown, left_in_storage(future))
    left_in_storage(future)
    waiting = client.submit(len, (client.submit(slowly, 1), future)), client.submit(len, future)
    lengths = client.map(len, cast(Any, [future, [future]]))
    graph = {"a": (len, future), "b": (len, [future, "a"])}
    assert client.get(graph, ["a", "b"]) == {"a": 3_000_003, "b": 2}
    del future, graph
    gc.collect()
    assert [one.result(60) for one in waiting] == [2, 3_000_003]
    assert lengths == [3_000_003, 1]
    assert passed == []


def test_futures_of_graphs(client: Client) -> None:
    graph = {"a": (slowly, 3), "b": (large, 3_000_000), "c": (large, (slowly, 2_000_000)), "d": (add, "a", (len, "c"))}
    futures = client.get(graph, [*graph], block=False)
    needs = [client.submit(add, futures["a"], 1), client.submit(len, futures["c"]), client.submit(len, futures["b"])]
    total = client.submit(add, futures["d"], *needs)
    again = client.get({"x": (add, futures["d"], total)}, ["x"], block=False)
    assert client.map(add, [futures["a"], again["x"], 5]) == [3, 2_000_003 * 2 + 5_000_004, 5]
    assert total.result(60) == 2_000_003 + 5_000_004
    assert [len(futures[key].result(60)) for key in "bc"] == [3_000_000, 2_000_000]


def test_inside_a_task(client: Client) -> None:
    assert client.submit(chain_inside, 20).result(60) == 40
    maps = [client.submit(map_inside, size) for size in (10, 1_000_000)]
    assert [one.result(60) for one in maps] == [33, 3_000_003]


def test_a_worker_dies_in_the_middle(client: Client, tmp_path: Any) -> None:
    future = client.submit(slowly, 0)
    for number in range(10):
        future = client.submit(die_once, str(tmp_path / f"died{number % 3}"), future)
    assert future.result(60) == 10
