"""Calls in the forms of earlier versions."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from scaler import Client, by_name
from scaler.client import older_calls
from scaler.client.serializer.default import DefaultSerializer
from scaler.testing import InProcessCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[InProcessCluster]:
    with InProcessCluster() as running:
        yield running


@pytest.fixture
def client(cluster: InProcessCluster) -> Iterator[Client]:
    with Client(cluster.address) as connected:
        yield connected


@pytest.fixture(autouse=True)
def told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(older_calls, "_has_told", False)


def add(left: int, right: int) -> int:
    return left + right


def add_some(left: int, right: int = 0) -> int:
    return left + right


def identity(value: Any) -> Any:
    return value


def anything(*values: Any) -> tuple[Any, ...]:
    return values


def keyword_only(value: int, *, other: int) -> int:
    return value + other


def options(**named: Any) -> dict[str, Any]:
    return named


class Adder:
    def __init__(self, left: int, right: int) -> None:
        self.sum = left + right

    def plus(self, left: int, right: int) -> int:
        return self.sum + left + right

    def __call__(self, left: int, right: int) -> int:
        return self.plus(left, right)


class Pair(NamedTuple):
    left: int
    right: int


# Type checkers know today's meaning of `map` only.
Function = Callable[..., Any]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (add, [3, 7]),
        (lambda left, right: left * right, [2, 12]),
        (partial(lambda extra, left, right: extra + left + right, 100), [103, 107]),
        (Adder(1000, 0), [1003, 1007]),
        (Adder(1000, 0).plus, [1003, 1007]),
        (operator.sub, [-1, -1]),
        (pow, [1, 81]),
    ],
)
def test_tuples_are_unpacked_where_the_function_takes_no_single_argument(
    client: Client, function: Function, expected: list[Any]
) -> None:
    with pytest.warns(DeprecationWarning, match=r"map\(\) unpacks the tuples") as warned:
        assert client.map(function, [(1, 2), (3, 4)]) == expected
    assert [warning.filename for warning in warned] == [__file__]
    assert "client.starmap(" in str(warned[0].message)


def test_a_class_is_called_with_unpacked_tuples(client: Client) -> None:
    function: Function = Adder
    with pytest.warns(DeprecationWarning, match="unpacks"):
        assert [made.sum for made in client.map(function, [(1, 2)])] == [3]


@pytest.mark.parametrize("make", [tuple, iter, lambda items: (item for item in items), lambda items: [*items]])
def test_iterables_of_tuples_of_any_kind(client: Client, make: Callable[[list[Any]], Any]) -> None:
    function: Function = add
    with pytest.warns(DeprecationWarning, match="unpacks"):
        assert client.map(function, make([(n, 1) for n in range(1000)])) == [n + 1 for n in range(1000)]


def test_tuples_with_names_are_unpacked_too(client: Client) -> None:
    function: Function = add
    with pytest.warns(DeprecationWarning, match="unpacks"):
        assert client.map(function, [Pair(1, 2)]) == [3]


@pytest.mark.parametrize(
    ("function", "items", "expected"),
    [
        (identity, [(1, 2)], [(1, 2)]),
        (anything, [(1, 2)], [((1, 2),)]),
        (add_some, [4, 5], [4, 5]),
        (max, [(1, 2)], [2]),
        (identity, [], []),
        (add, [], []),
        (add, iter(()), []),
        (identity, iter([(1,)]), [(1,)]),
        (identity, [None, None], [None, None]),
    ],
)
def test_else_it_is_map_s_own_meaning_without_a_word(
    client: Client, function: Function, items: Any, expected: list[Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.map(function, items) == expected


@pytest.mark.parametrize(
    ("function", "items"),
    [(add, [1, 2]), (add, [None]), (add, [(1, 2, 3)]), (keyword_only, [(1, 2)]), (add, [[1, 2]])],
)
def test_what_fits_in_neither_way_is_refused(client: Client, function: Function, items: list[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match=r"argument"):
            client.map(function, items)
    assert client.map(identity, [1]) == [1]


def test_tuples_of_one_are_told_about_once(client: Client) -> None:
    with pytest.warns(UserWarning, match=r"identity gets it as a tuple.*client\.starmap\(identity") as warned:
        assert [client.map(identity, [(1,), (2,)]) for _ in range(2)] == [[(1,), (2,)], [(1,), (2,)]]
    assert [warning.filename for warning in warned] == [__file__]


def test_profiling_may_be_asked_for_one_task(client: Client) -> None:
    submit: Callable[..., Any] = client.submit
    for future in (submit(add, 1, right=2, profiling=True), submit(operator.add, 1, 2, profiling=True)):
        assert future.result(20) == 3
        assert future.profiling_info().duration_s >= 0
    future = submit(add, 1, 2, profiling=False)
    assert future.result(20) == 3
    with pytest.raises(ValueError, match="with profiling=True"):
        future.profiling_info()


def test_profiling_may_be_off_for_one_task_of_a_client_with_it(cluster: InProcessCluster) -> None:
    with Client(cluster.address, profiling=True) as client:
        submit: Callable[..., Any] = client.submit
        future = submit(add, 1, 2, profiling=False)
        assert (future.result(20), client.submit(add, 1, 2).result(20)) == (3, 3)
        with pytest.raises(ValueError, match="was not measured"):
            future.profiling_info()


def test_after_a_tuple_there_must_be_tuples(client: Client) -> None:
    function: Function = add
    for items in ([(1, 2), "ab"], [(1, 2), [3, 4]], [(1, 2), 3]):
        with pytest.warns(DeprecationWarning, match="unpacks"), pytest.raises(TypeError, match="another item is"):
            client.map(function, items)
    assert client.map(identity, [1]) == [1]


def test_profiling_is_an_argument_where_the_function_takes_it(client: Client) -> None:
    submit: Callable[..., Any] = client.submit
    assert submit(options, profiling=True).result(20) == {"profiling": True}
    assert submit(dict, profiling=True).result(20) == {"profiling": True}
    with pytest.raises(TypeError, match="profiling"):
        submit(add, 1, 2, profiling="yes")
    with pytest.raises(TypeError):
        submit(add, 1, profiling=True)


@pytest.mark.parametrize("serializer", [DefaultSerializer, DefaultSerializer()], ids=["class", "instance"])
def test_the_default_serializer_stands_for_none(cluster: InProcessCluster, serializer: Any) -> None:
    assert DefaultSerializer.deserialize(DefaultSerializer.serialize(lambda: 3))() == 3
    with Client(cluster.address, serializer=serializer) as client:
        assert client.serializer is None
        assert client.submit(lambda value: value + 1, 2).result(20) == 3


def test_a_serializer_may_be_derived_from_the_default_one(cluster: InProcessCluster) -> None:
    class Marked(DefaultSerializer):
        """Another one."""

    with Client(cluster.address, serializer=Marked) as client:
        assert client.serializer is Marked
        assert client.submit(lambda value: value + 1, 2).result(20) == 3


def test_a_function_that_is_named_gets_all_keywords(client: Client) -> None:
    assert client.submit(by_name("builtins:dict"), profiling=True).result() == {"profiling": True}
    assert by_name.__doc__ is not None
    assert "`profiling=True` too" in by_name.__doc__


@pytest.mark.parametrize("make", [lambda client: client, lambda client: client.with_options(priority=1)])
def test_an_option_among_the_keywords_of_submit_is_told(client: Client, make: Callable[[Client], Client]) -> None:
    # Without types: mypy refuses these calls.
    untyped: Any = make(client)
    with pytest.raises(
        TypeError, match=r"^len takes no argument label, and .* client\.with_options\(label=…\)\.submit"
    ):
        untyped.submit(len, "x", label="books")
    assert untyped.submit(dict, label="books", retries=3).result() == {"label": "books", "retries": 3}
    # What else is wrong the task says.
    with pytest.raises(TypeError, match=r"len\(\) takes"):
        untyped.submit(len, label="books").result()
