"""What users hand over, through real processes: values that surprise, functions that are coroutines, calls that cannot be."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from scaler import Client, ScalerExecutor, ScalerFuture, errors
from tests.integration.deployment import wait_for, wait_for_output
from tests.integration.serializers import Reversed


async def double(value: int) -> int:
    await asyncio.sleep(0.001)  # sleeps: the coroutine takes so long
    return 2 * value


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def fail(text: str) -> None:
    await asyncio.sleep(0)
    raise LookupError(text)


def note(path: str) -> None:
    Path(path).touch()


async def sleep_until_cancelled(started: str, ended: str) -> None:
    note(started)
    try:
        waits = [asyncio.sleep(1000) for _ in range(2)]  # sleeps: a coroutine that does not end by itself
        await asyncio.gather(*waits)
    finally:
        note(ended)


async def submit_inside(value: int) -> int:
    client = Client()
    doubled, one = await client.submit(double, value), await client.submit(abs, -1)
    return int(doubled + one)


def makes_a_coroutine(value: int) -> Any:
    return double(value)


def default_loop() -> int:
    return int(asyncio.get_event_loop_policy().get_event_loop().run_until_complete(double(4)))


class Doubler:
    async def __call__(self, value: int) -> int:
        return await double(value)

    async def method(self, value: int) -> int:
        return await double(value)


async def generate() -> AsyncIterator[int]:
    yield 1


def on_every_road_inside(function: Any) -> list[Any]:
    with Client() as client:
        return [
            [client.submit(function, value).result() for value in (4, 5)],
            client.map(function, [4, 5]),
            list(client.imap(function, [4, 5])),
            client.get({"a": (function, 4)}, ["a"]),
        ]


def map_inside(function: Any, chunksize: int) -> list[Any]:
    with ScalerExecutor() as executor:
        return list(executor.map(function, range(3), chunksize=chunksize))


def returns_a_generator() -> Iterator[int]:
    return (value for value in [1])


def returns_an_async_generator() -> AsyncIterator[int]:
    return generate()


class TestCoroutines:
    @pytest.mark.parametrize(
        "function",
        [
            double,
            Doubler(),
            Doubler().method,
            functools.partial(double),
            functools.partial(Doubler()),
            makes_a_coroutine,
        ],
    )
    def test_they_are_awaited(self, client: Client, function: Any) -> None:
        assert client.submit(function, 4).result(30) == 8
        assert client.submit_verbose(function, (4,)).result(30) == 8
        assert client.map(function, range(50)) == [2 * value for value in range(50)]
        assert client.starmap(function, [(1,), (2,)]) == [2, 4]
        assert list(client.imap(function, range(50))) == [2 * value for value in range(50)]
        assert sorted(client.imap_unordered(function, range(50))) == [2 * value for value in range(50)]
        graph = {"a": (function, 4), "b": (operator.add, "a", (function, (function, 5)))}
        assert client.get(graph, ["a", "b"]) == {"a": 8, "b": 28}
        assert client.prepare(graph, ["b"], node_seconds=0.001).run({}) == {"b": 28}
        assert client.submit(on_every_road_inside, function).result(60) == [[8, 10], [8, 10], [8, 10], {"a": 8}]

    @pytest.mark.parametrize("function", [double, Doubler(), functools.partial(double), makes_a_coroutine])
    @pytest.mark.parametrize("chunksize", [1, 4])
    def test_an_executor_awaits_them(self, address: str, function: Any, chunksize: int) -> None:
        with ScalerExecutor(address) as executor:
            assert executor.submit(function, 4).result(30) == 8
            assert list(executor.map(function, range(10), chunksize=chunksize)) == [2 * value for value in range(10)]
            with pytest.raises(LookupError, match="gone"):
                list(executor.map(fail, ["gone", "too"], chunksize=chunksize))
            assert executor.submit(map_inside, function, chunksize).result(60) == [0, 2, 4]

    def test_others_live_on(self, client: Client) -> None:
        assert client.submit(submit_inside, 3).result(30) == 7
        assert client.map(add, [1, 2], [3, 4]) == [4, 6]
        with pytest.raises(LookupError, match="gone"):
            client.submit(fail, "gone").result(30)
        with pytest.raises(LookupError, match="gone"):
            client.map(fail, ["gone", "too"])
        for _ in range(4):
            client.submit(double, 1).result(30)
            # A processor's main thread still makes the loop it always made.
            assert client.submit(default_loop).result(30) == 8

    def test_one_that_is_cancelled_ends_in_its_own_way(self, client: Client, tmp_path: Path) -> None:
        for number in range(3):
            started, ended = (str(tmp_path / f"{name}{number}") for name in ("started", "ended"))
            future = client.submit(sleep_until_cancelled, started, ended)
            wait_for("it runs", Path(started).exists)
            before = time.monotonic()
            assert future.cancel(timeout=30)
            # Sooner than by the end of its processor, which would come a second later.
            wait_for("its finally has run", Path(ended).exists)
            assert time.monotonic() - before < 10
        assert client.submit(double, 4).result(30) == 8

    def test_with_a_serializer_output_and_profile(self, address: str, capfd: Any) -> None:
        with Client(address, serializer=Reversed, stream_output=True, profiling=True) as client:
            future = client.submit(prints, 4)
            assert future.result(30) == 8
            assert client.map(double, [1, 2]) == [2, 4]
            assert future.profiling_info().duration_s > 0
            wait_for_output(capfd, "inside 4", "")

    def test_generators_are_refused_with_a_hint(self, client: Client) -> None:
        with pytest.raises(errors.SerializationError, match=r"generate is an async generator function, .* list"):
            client.submit(generate)
        for function in (returns_a_generator, returns_an_async_generator):
            with pytest.raises(Exception, match=r"generator.*; return a list of what it yields"):
                client.submit(function).result(30)


async def prints(value: int) -> int:
    print("inside", value)
    return await double(value)


class SpeaksText(Reversed):
    """Right until it has a result to serialize."""

    @staticmethod
    def serialize(obj: Any) -> Any:
        return "no bytes" if obj == 55 else Reversed.serialize(obj)


def returns_future() -> list[Any]:
    return [Client().submit(abs, -1)]


def waits_inside(value: int) -> Any:
    return Client().submit(returns_future).exception(30), value


def named_oddly() -> int:
    return 7


def keywords(**values: Any) -> list[str]:
    return list(values)


class TestValues:
    def test_a_future_that_is_returned_is_named(self, client: Client) -> None:
        with pytest.raises(Exception, match=r"the task's result, of type list, cannot be serialized: .*a future"):
            client.submit(returns_future).result(30)
        error, value = client.submit(waits_inside, 3).result(30)
        assert value == 3
        assert "call .result() first" in str(error)

    def test_odd_names_of_functions(self, client: Client) -> None:
        for name in ("w\udcff", "x" * 1_000_000, "", "a\0b"):
            function: Any = lambda: 7  # noqa: E731
            function.__qualname__ = function.__name__ = name
            function.__module__ = name or 5
            assert client.submit(function).result(30) == 7
            captured = cast(Any, lambda _, function=function: function())
            assert client.map(captured, [1, 2]) == [7, 7]

    def test_any_arguments(self, client: Client) -> None:
        names = ["n" * 70_000, "a\udcff", "", "ordinary"]
        for value in (1, b"x" * 300_000):
            assert client.submit(keywords, **dict.fromkeys(names, value)).result(30) == names
        assert client.submit(max, *range(70_000)).result(30) == 69_999

    def test_what_a_serializer_returns_on_the_worker(self, address: str) -> None:
        with Client(address, serializer=SpeaksText) as client:
            for call in (lambda: client.submit(abs, -55).result(30), lambda: client.map(abs, [-1, -55])):
                with pytest.raises(Exception, match="returned a str, not bytes"):
                    call()
            assert client.submit(abs, -5).result(30) == 5

    def test_a_value_that_is_refused_costs_no_other(self, client: Client) -> None:
        waiting: list[ScalerFuture] = []
        for _ in range(20):
            waiting.append(client.submit(double, len(waiting)))
            for bad in ({"gpu": 2**70}, {"a\udcff": -1}, {"n" * 70_000: 1}):
                with pytest.raises(ValueError, match="capability"):
                    client.submit_verbose(abs, (1,), capabilities=bad)
            with pytest.raises(errors.SerializationError):
                client.submit(abs, threading.Lock())  # type: ignore[call-overload]  # refused
            with pytest.raises(ValueError, match="name"):
                client.send_object([1], name="a\udcff")
        assert [future.result(30) for future in waiting] == [2 * value for value in range(20)]


class Shy:
    """Iterates, and answers no question of its length."""

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])

    def __len__(self) -> int:
        raise RuntimeError("no length")


class TestMaps:
    @pytest.mark.timeout(120)
    def test_what_is_not_there_is_said_as_for_a_task(self, address: str, client: Client) -> None:
        with Client(address) as other:
            reference = other.send_object(b"x" * 100_000)

        said: list[str] = []

        def is_missing(call: Callable[[], Any]) -> bool:
            try:
                call()
            except errors.MissingObjects as error:
                said.append(str(error))
                return True
            return False

        def is_said_by_both() -> bool:
            # Side by side, because the worker waits some seconds for an object that may still be on its way.
            future = client.submit(len, reference)
            by_map = is_missing(lambda: client.map(len, cast(Any, [b"", reference])))
            return is_missing(lambda: future.result(60)) and by_map

        # The objects of a client that has left stay for the moment that the scheduler needs to have them deleted.
        wait_for("both calls miss the object", is_said_by_both, 90)
        assert all(f"object {reference.object_id.hex()} is not in object stor" in text for text in said)

    def test_a_length_that_cannot_be_told_is_not_needed(self, client: Client) -> None:
        assert client.map(operator.neg, Shy()) == [-1, -2]
        assert client.starmap(operator.add, zip(Shy(), Shy(), strict=True)) == [2, 4]
