"""Arguments a function does not take are told apart from those it takes, exactly as a call would."""

from __future__ import annotations

import enum
import functools
import inspect
import itertools
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from scaler import Client, errors
from scaler.serialization.signatures import check_of
from scaler.testing import InProcessCluster


def nothing() -> None: ...
def two(a: Any, b: Any) -> None: ...
def defaults(a: Any, b: Any = 1, *, c: Any, d: Any = 2) -> None: ...
def only_positional(a: Any, /, b: Any = 3) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...
def starred(a: Any, *rest: Any, c: Any = 1) -> None: ...
def named(a: Any, **rest: Any) -> None: ...


@functools.wraps(two)
def decorated(*args: Any, **kwargs: Any) -> None: ...


def claims(*args: Any) -> None: ...


claims.__signature__ = inspect.signature(nothing)  # type: ignore[attr-defined]


class Ordinary:
    def __init__(self, x: Any, y: Any = None) -> None: ...
    def method(self, a: Any) -> None: ...
    def __call__(self, a: Any, *, k: Any = 1) -> None: ...
    @classmethod
    def of(cls, a: Any) -> None: ...
    @staticmethod
    def static(a: Any) -> None: ...


class Derived(Ordinary):
    pass


@dataclass
class Point:
    x: int
    y: int = 0


KNOWN: list[Any] = [
    nothing,
    two,
    defaults,
    only_positional,
    anything,
    starred,
    named,
    decorated,
    claims,
    Ordinary,
    Derived,
    Point,
    Ordinary(1).method,
    Ordinary(1),
    Ordinary.of,
    Ordinary.static,
    Ordinary.method,
    functools.partial(two, 1),
    functools.partial(two, b=1),
    functools.partial(functools.partial(defaults, c=1), 5),
    functools.partial(Ordinary(1).method),
    lambda a, b=2: None,
]

ARGUMENTS = [
    (tuple(range(count)), dict.fromkeys(names))
    for count in range(4)
    for names in itertools.chain.from_iterable(itertools.combinations("abcxz", size) for size in range(3))
]


@pytest.mark.parametrize("function", KNOWN)
def test_the_check_says_what_a_call_says(function: Any) -> None:
    check = check_of(function)
    assert check is not None
    for args, kwargs in ARGUMENTS:
        said = []
        for each in (function, check):
            try:
                each(*args, **kwargs)
                said.append("")
            except TypeError as error:
                said.append(str(error))
        assert said[0] == said[1], (args, kwargs)


class Metaclass(type):
    def __call__(cls, *args: Any) -> int:
        return 5


class Made(metaclass=Metaclass):
    def __init__(self) -> None: ...


class New:
    def __new__(cls, *args: Any) -> Any:
        return 5

    def __init__(self) -> None: ...


class Color(enum.Enum):
    RED = 1

    def __init__(self, number: int) -> None: ...


class Tuple(NamedTuple):
    a: int


class Odd:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "function",
    [
        max,
        dict,
        int,
        np.sum,
        np.add,
        operator.itemgetter(1),
        functools.lru_cache(two),
        Made,
        New,
        Color,
        Tuple,
        "".join,
    ],
)
def test_nothing_is_said_of_others(function: Any) -> None:
    assert check_of(function) is None


def test_what_answers_no_questions_is_not_asked_twice() -> None:
    assert check_of(Odd()) is None


def test_a_check_keeps_no_argument_alive() -> None:
    large = [object()]
    check = check_of(functools.partial(two, large))
    assert isinstance(check, functools.partial)
    assert check.args == (None,)


@pytest.fixture
def client() -> Iterator[Client]:
    with InProcessCluster() as cluster, Client(cluster.address, timeout_seconds=10) as client:
        yield client


def pair(a: int, b: int) -> int:
    return a + b


def fail_at_two(a: int) -> int:
    if a == 2:
        raise LookupError("two")
    return a


def test_missing_and_surplus_arguments_are_told_at_once(client: Client) -> None:
    missing = r"pair\(\) missing 1 required positional argument: 'b'"
    surplus = r"pair\(\) takes 2 positional arguments but 3 were given"
    for call, text in (
        (lambda: client.submit(pair, 1), missing),  # type: ignore[call-overload]
        (lambda: client.submit(pair, 1, 2, 3), surplus),  # type: ignore[call-overload]
        (lambda: client.submit(pair, 1, b=2, c=3), "unexpected keyword argument 'c'"),  # type: ignore[arg-type, call-arg]
        (lambda: client.submit(pair, 1, a=2), "multiple values for argument 'a'"),  # type: ignore[arg-type, call-arg, misc]
        (lambda: client.submit_verbose(pair, (1,)), missing),
        (lambda: client.submit(functools.partial(pair, 1), 2, 3), surplus),
        (lambda: client.map(pair, [1, 2]), missing),  # type: ignore[arg-type, list-item]
        (lambda: client.map(pair, [1], [2], [3]), surplus),
        (lambda: client.starmap(pair, [(1,)]), missing),  # type: ignore[arg-type]
        (lambda: client.get({"a": (pair, 1)}, "a"), f"^node 'a': .*{missing}"),
        (lambda: client.get({"x": (abs, -1), "a": (pair, "x", 1, "x")}, "a"), f"^node 'a': .*{surplus}"),
        (lambda: client.submit_verbose(pair, 5), "args must be a tuple of arguments, not 5"),  # type: ignore[call-overload]
        (lambda: client.submit_verbose(pair, (), 5), "kwargs must be a dictionary"),  # type: ignore[call-overload]
        (lambda: client.submit_verbose(max, (), {5: 1}), "the name 5 is a int, not a str"),  # type: ignore[dict-item]
    ):
        with pytest.raises(TypeError, match=text) as caught:
            call()
        assert not isinstance(caught.value, errors.ScalerError)
    assert client.submit(pair, 1, b=2).result(5) == 3


def test_nothing_is_asked_of_no_items(client: Client) -> None:
    assert client.map(pair, []) == client.starmap(pair, []) == []  # type: ignore[arg-type]


def test_what_comes_first_is_raised_first(client: Client) -> None:
    with pytest.raises(LookupError, match="two"):
        client.starmap(fail_at_two, [(1,), (2,), (3, 4)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        client.starmap(fail_at_two, [(1,), (3, 4), (2,)])  # type: ignore[arg-type]


def test_large_arguments_of_a_call_that_cannot_be_are_let_go(client: Client) -> None:
    large = b"x" * 300_000
    kept = client.send_object(large)
    for call in (  # type: ignore[var-annotated]
        lambda: client.submit(pair, large),  # type: ignore[call-overload]
        lambda: client.map(pair, [large]),  # type: ignore[arg-type, list-item]
        lambda: client.get({"l": large, "ok": (len, "l"), "a": (pair, "l", "ok", large)}, "a"),
    ):
        with pytest.raises(TypeError):
            call()
    counts = client.operations.engine.core.snapshot().object_uses
    assert list(counts) == [kept.object_id]
