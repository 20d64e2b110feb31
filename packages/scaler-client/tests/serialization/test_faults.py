"""What cannot be pickled is named: which argument or function, and which part inside it."""

from __future__ import annotations

import functools
import pickle
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import cloudpickle
import pytest

from scaler.serialization.faults import explain
from scaler_protocol.runtime.names import name_of, shown, shown_error, shown_type

LOCK = threading.Lock()
NO_LOCK = "cannot pickle '_thread.lock' object"


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held

    def method(self) -> Any:
        return self.held


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


class Refuses:
    def __reduce__(self) -> Any:
        raise ValueError("not this one")


def by_value(make: Any) -> Any:
    """A function that is pickled by value wherever this module is found."""
    make.__module__ = "__main__"
    return make


def closure() -> Any:
    lock = threading.Lock()

    def inner() -> Any:
        return lock

    def outer() -> Any:
        return by_value(inner)()

    by_value(inner)
    return by_value(outer)


def with_default() -> Any:
    def work(a: int, b: Any = LOCK, *, c: Any = None) -> Any:
        return a, b, c

    return by_value(work)


def with_keyword_default() -> Any:
    def work(*, c: Any = [LOCK]) -> Any:  # noqa: B006
        return c

    return by_value(work)


def with_attribute() -> Any:
    def work() -> None: ...

    work.kept = LOCK  # type: ignore[attr-defined]
    return by_value(work)


def with_global() -> Any:
    return by_value(lambda: LOCK)


def generate() -> Iterator[int]:
    yield 1


CASES: list[tuple[Any, str]] = [
    (LOCK, f"X cannot be serialized: {NO_LOCK}"),
    ([1, {"k": (2, LOCK)}], f"X cannot be serialized: [1]['k'][1] is a _thread.lock: {NO_LOCK}"),
    (Holder([LOCK]), f"X cannot be serialized: .held[0] is a _thread.lock: {NO_LOCK}"),
    (Slotted(LOCK), f"X cannot be serialized: .held is a _thread.lock: {NO_LOCK}"),
    ([Refuses()], "X cannot be serialized: [0] is a tests.Refuses: not this one"),
    (
        Holder(LOCK).method,
        f"X cannot be serialized: the object of the method tests.Holder.method.held is a _thread.lock: {NO_LOCK}",
    ),
    (functools.partial(max, 1, LOCK), f"argument 2 of the partial is a _thread.lock: {NO_LOCK}"),
    (functools.partial(max, key=[LOCK]), f"argument 'key' of the partial[0] is a _thread.lock: {NO_LOCK}"),
    (
        closure(),
        "the variable 'inner' that __main__.closure.<locals>.outer takes from around it, the variable 'lock' that ",
    ),
    (
        with_global(),
        f"the global variable 'LOCK' of __main__.with_global.<locals>.<lambda> is a _thread.lock: {NO_LOCK}",
    ),
    (with_default(), "the default of 'b' of __main__.with_default.<locals>.work is a _thread.lock"),
    (with_keyword_default(), "the default of 'c' of __main__.with_keyword_default.<locals>.work[0] is a _thread.lock"),
    (with_attribute(), "the attribute 'kept' of __main__.with_attribute.<locals>.work is a _thread.lock"),
    ({"g": generate()}, "['g'] is a generator: cannot pickle 'generator' object; make a list of what it yields"),
    (Future(), "X is a future, <Future at 0x"),
    ([{"f": Future()}], "X cannot be serialized: [0]['f'] is a future, <Future at 0x"),
]


@pytest.mark.parametrize(("value", "expected"), CASES)
def test_the_part_at_fault_is_named(value: Any, expected: str) -> None:
    with pytest.raises((TypeError, ValueError, pickle.PicklingError)) as caught:
        cloudpickle.dumps(value)
    text = explain("X", value, caught.value).replace(__name__, "tests")
    assert expected in text


def test_a_future_comes_with_the_way_out() -> None:
    assert explain("argument 1 of f", Future(), TypeError()).endswith("; call .result() first")


def test_too_deep_is_said_in_a_sentence() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(pickle.PicklingError) as caught:
        cloudpickle.dumps(value)
    assert explain("X", value, caught.value) == "X cannot be serialized: it is nested too deeply to be pickled"


def test_a_structure_that_holds_itself_is_looked_through_once() -> None:
    value: list[Any] = []
    value += [value, LOCK, Holder(value)]
    assert "[1] is a _thread.lock" in explain("X", value, TypeError("no"))


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self) -> int:
        return 5

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class OfMeta(metaclass=Meta):
    pass


def test_names_are_short_and_can_be_written() -> None:
    def work() -> None: ...

    work.__qualname__ = "w\udcff" * 1_000_000
    work.__module__ = 5  # type: ignore[assignment]
    name = name_of(work)
    assert re.fullmatch(r"function\.(w\?)+w?…|builtins\.(w\?)+w?…", name)
    assert len(name) <= 200
    assert name_of(functools.partial(max)) == "functools.partial"
    assert name_of(Hostile()).endswith(".Hostile")
    assert name_of(OfMeta()).endswith("OfMeta")
    assert shown_type(OfMeta()).endswith("OfMeta")
    assert shown_type(1) == "int"
    assert shown(Hostile()) == f"<{__name__}.Hostile>"
    assert len(shown("x" * 1000)) == 100
    assert shown_error(ValueError()) == "ValueError"
