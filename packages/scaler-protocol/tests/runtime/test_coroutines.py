"""Coroutines come to a value, in a loop of their own, and leave nothing behind."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scaler_protocol.runtime.coroutines import awaiting, cancel_running, completed


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


class Callable:
    async def __call__(self, value: int) -> int:
        return await double(value)

    async def method(self, value: int) -> int:
        return await double(value)

    @staticmethod
    async def static(value: int) -> int:
        return await double(value)


class Odd:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self, value: int) -> int:
        return 2 * value


@pytest.mark.parametrize(
    "function",
    [double, Callable(), Callable().method, Callable.static, functools.partial(double), functools.partial(Callable())],
)
def test_coroutine_functions_of_every_kind(function: Any) -> None:
    assert awaiting(function)(4) == 8
    assert completed(function(4)) == 8


@pytest.mark.parametrize("function", [abs, len, Callable, lambda value: value])
def test_other_functions_stay_themselves(function: Any) -> None:
    assert awaiting(function) is function


def test_what_answers_no_questions_can_be_called() -> None:
    odd = Odd()
    assert awaiting(odd) is odd


def test_other_values_stay_themselves() -> None:
    generator = (value for value in [1])
    assert completed(generator) is generator
    assert completed(5) == 5


def test_what_goes_on_is_cancelled_and_closed() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1000)  # sleeps: a coroutine that does not end by itself
        except asyncio.CancelledError:
            ended.append("task")
            raise

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    kept: list[Any] = []

    async def work() -> int:
        kept.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
        kept.append(numbers())
        return await anext(kept[-1])

    assert completed(work()) == 1
    assert sorted(ended) == ["generator", "task"]


def test_a_coroutine_is_cancelled_from_outside() -> None:
    ended = []
    thread = threading.get_ident()

    async def work() -> None:
        try:
            await asyncio.sleep(1000)  # sleeps: a coroutine that does not end by itself
        finally:
            ended.append("finally")

    async def cancelled() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert cancel_running(thread)
        await task

    with pytest.raises(asyncio.CancelledError):
        completed(cancelled())
    assert ended == ["finally"]
    assert not cancel_running(thread)


def test_the_threads_own_loop_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert completed(double(1)) == 2
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_errors_come_as_themselves() -> None:
    async def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        completed(fail())
    assert inspect.iscoroutinefunction(fail)
