"""A program with `Client`. Type checkers read it and nobody runs it: each `type: ignore` is a line that they must refuse."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, assert_type

from worker_functions import Model, fetch, joined, largest, nothing, price, report, same, scaled, total, untyped

from scaler import Client, ObjectReference, ScalerFuture


def results(client: Client, model: Model) -> None:
    assert_type(client.submit(price, 3), ScalerFuture[str])
    assert_type(client.submit(price, 3, "USD", rate=1.1), ScalerFuture[str])
    assert_type(client.submit(price, units=3, rate=2), ScalerFuture[str])
    assert_type(client.submit(nothing), ScalerFuture[None])
    assert_type(client.submit(math.sqrt, 16), ScalerFuture[float])
    assert_type(client.submit(Path, "data"), ScalerFuture[Path])
    assert_type(client.submit(Model, 3), ScalerFuture[Model])
    assert_type(client.submit(model, 3), ScalerFuture[bool])
    assert_type(client.submit(model.fit, [1.0], steps=2), ScalerFuture[complex])
    assert_type(client.submit(partial(price, 3), "USD"), ScalerFuture[str])
    assert_type(client.submit(lambda: 1), ScalerFuture[int])
    assert_type(client.submit(same, 3), ScalerFuture[int])
    assert_type(client.submit(largest, 1, 2, 3), ScalerFuture[int])
    assert_type(client.submit(untyped, 3, seed=4), ScalerFuture[Any])
    assert_type(client.submit(price, 3).result(), str)
    assert_type(client.submit(fetch, 3), ScalerFuture[bytes])
    assert_type(client.submit_verbose(price, (3,), {"rate": 2}, {"gpu": 1}), ScalerFuture[str])
    assert_type(client.submit_verbose(fetch, (3,)), ScalerFuture[bytes])


def on_every_worker(client: Client) -> None:
    assert_type(client.run(price, 3, rate=2), dict[str, str])
    assert_type(client.run(fetch, 3), dict[str, bytes])
    assert_type(client.run_verbose(price, (3,), {"rate": 2}, timeout=5), dict[str, str])
    assert_type(client.run_verbose(fetch, (3,), return_exceptions=True), dict[str, bytes | BaseException])
    client.run(price, "3")  # type: ignore
    client.run(price, 3, timeout=5)  # type: ignore


async def awaited(client: Client) -> None:
    assert_type(await client.submit(price, 3), str)
    assert_type(await client.submit(joined, 3, "x"), tuple[int, str])


def wrong_arguments(client: Client, model: Model) -> None:
    client.submit(price)  # type: ignore
    client.submit(price, "3")  # type: ignore
    client.submit(price, 3, 4)  # type: ignore
    client.submit(price, 3, rate="high")  # type: ignore
    client.submit(price, 3, unknown=1)  # type: ignore
    client.submit(price, 3, "USD", 1.1)  # type: ignore
    client.submit(nothing, 1)  # type: ignore
    client.submit(fetch, "3")  # type: ignore
    client.submit(math.sqrt, "16")  # type: ignore
    client.submit(model, "3")  # type: ignore
    client.submit(model.fit, 1.0)  # type: ignore
    client.submit(total, [1.5])  # type: ignore
    client.submit(total, [])
    client.submit(price, [])  # type: ignore
    client.submit(largest, 1, "2")  # type: ignore
    client.submit(3, 4)  # type: ignore
    client.submit(price(3))  # type: ignore


def values_on_the_cluster(client: Client) -> None:
    number, text = client.submit(same, 3), client.submit(price, 3)
    factor = client.send_object(2.5)
    assert_type(factor, ObjectReference[float])
    assert_type(client.submit(price, number), ScalerFuture[str])
    assert_type(client.submit(price, number, "USD", rate=2), ScalerFuture[str])
    assert_type(client.submit(price, 3, text), ScalerFuture[str])
    assert_type(client.submit(price, number, text, rate=2), ScalerFuture[str])
    assert_type(client.submit(scaled, 1.5, factor), ScalerFuture[float])
    assert_type(client.submit(scaled, factor, factor), ScalerFuture[float])
    # An int does where a float is wanted.
    assert_type(client.submit(scaled, number, factor), ScalerFuture[float])
    assert_type(client.submit(fetch, number), ScalerFuture[bytes])
    assert_type(client.submit(joined, 3, text), ScalerFuture[tuple[int, str]])
    assert_type(client.submit(same, number), ScalerFuture[int])
    assert_type(client.submit(untyped, number, seed=4), ScalerFuture[Any])
    assert_type(client.submit(total, [number, number]), ScalerFuture[int])
    assert_type(client.submit(report, {"A": factor}), ScalerFuture[str])
    assert_type(client.submit(largest, number, 3, number), ScalerFuture[int])
    assert_type(client.submit(largest, *[number, number]), ScalerFuture[int])
    # By name, and in lists of both kinds, no type checker knows them: these ways take anything.
    assert_type(client.submit_verbose(price, (3,), {"rate": factor}), ScalerFuture[str])
    both: list[Any] = [number, 4]
    assert_type(client.submit(total, both), ScalerFuture[int])


def wrong_values_on_the_cluster(client: Client) -> None:
    number, text = client.submit(same, 3), client.submit(price, 3)
    reference = client.send_object("text")
    client.submit(price, text)  # type: ignore
    client.submit(price, reference)  # type: ignore
    client.submit(price, 3, number)  # type: ignore
    client.submit(price, number, 4)  # type: ignore
    client.submit(price, number, unknown=1)  # type: ignore
    client.submit(fetch, text)  # type: ignore
    client.submit(total, [text])  # type: ignore
    client.submit(report, {"A": reference})  # type: ignore
    client.submit(largest, number, text)  # type: ignore


def maps(client: Client) -> None:
    numbers = [client.submit(same, number) for number in range(3)]
    assert_type(client.map(price, [1, 2]), list[str])
    assert_type(client.map(price, range(3), ["EUR", "USD", "GBP"], timeout=3, ordered=False), list[str])
    assert_type(client.map(fetch, [1, 2], capabilities={"gpu": 1}, progress=True), list[bytes])
    assert_type(client.map(price, numbers), list[str])
    assert_type(client.map(scaled, numbers, [1.5, 2.5, 3.5]), list[float])
    assert_type(client.map(math.sqrt, range(3)), list[float])
    assert_type(client.map(lambda number: [number], range(3)), list[list[int]])
    assert_type(client.map(largest, [1], [2], [3], [4]), list[int])
    assert_type(client.starmap(price, [(1, "EUR"), (2, "USD")], timeout=3), list[str])
    assert_type(client.starmap(price, zip([1, 2], ["EUR", "USD"], strict=True)), list[str])
    assert_type(client.starmap(joined, [(1, "x")]), list[tuple[int, str]])
    assert_type(client.starmap(price, [(numbers[0], "EUR")]), list[str])
    assert_type(client.starmap(largest, [[1, 2], [3]]), list[int])
    assert_type(client.imap(price, iter(range(3)), buffersize=100), Iterator[str])
    assert_type(client.imap_unordered(fetch, [1, 2]), Iterator[bytes])
    for text in client.imap(price, [1, 2]):
        assert_type(text, str)


def wrong_maps(client: Client) -> None:
    texts = [client.submit(price, number) for number in range(3)]
    client.map(price, ["1"])  # type: ignore
    client.map(price, 1)  # type: ignore
    client.map(price, [1], [2])  # type: ignore
    client.map(price)  # type: ignore
    client.map(price, texts)  # type: ignore
    client.map(price, [1], timeout="1")  # type: ignore
    client.map(price, [1], buffersize=3)  # type: ignore
    client.starmap(price, [("EUR", 1)])  # type: ignore
    client.starmap(price, [(1, "EUR")], unknown=3)  # type: ignore
    client.starmap(fetch, [(1, 2)])  # type: ignore
    client.imap(price, ["1"])  # type: ignore
    client.imap_unordered(price, [1], progress=True)  # type: ignore


def many_futures(client: Client) -> None:
    texts = [client.submit(price, number) for number in range(3)]
    number = client.submit(same, 3)
    for future in client.as_completed(texts):
        assert_type(future, ScalerFuture[str])
    assert_type(client.gather(number), int)
    assert_type(client.gather(texts, timeout=3), list[str])
    assert_type(client.gather(one for one in texts), list[str])
    assert_type(client.gather((number, texts[0])), tuple[int, str])
    assert_type(client.gather({"A": number}), dict[str, int])
    assert_type(client.gather(texts, return_exceptions=True), list[str | BaseException])
    assert_type(client.gather([texts, {"A": (number, number)}]), Any)
    client.as_completed([1, 2])  # type: ignore


def graphs(client: Client) -> None:
    graph = {"a": 1, "b": (operator.add, "a", 2), ("c", 0): (fetch, "b")}
    assert_type(client.get(graph, ["a", "b"]), dict[str, Any])
    assert_type(client.get(graph, "b"), dict[Any, Any])
    assert_type(client.get(graph, ("c", 0), progress=True), dict[Any, Any])
    assert_type(client.get(graph, ["a", "b"], block=False), dict[str, ScalerFuture[Any]])
    client.get([1], ["a"])  # type: ignore
    client.get(graph, ["a"], block="no")  # type: ignore


def a_function_of_futures(any_future: ScalerFuture, number: ScalerFuture[bool]) -> ScalerFuture[int]:
    """Without a parameter, a future is one of anything. One of a subtype does where another is wanted."""
    assert_type(any_future, ScalerFuture[Any])
    return number
