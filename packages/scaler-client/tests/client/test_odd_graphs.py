"""Graphs with odd keys and data on the whole road: client, worker and back."""

from __future__ import annotations

import graphlib
import operator
import threading
from typing import Any

import numpy as np
import pytest

from scaler import Client, errors


def nested(levels: int, innermost: Any = 1) -> Any:
    value = innermost
    for _ in range(levels):
        value = [value]
    return value


def depth_of(value: Any) -> int:
    levels = 0
    while isinstance(value, list):
        [value] = value
        levels += 1
    return levels


def is_shared(values: list[Any]) -> bool:
    return values[0] is values[1]


def holds_itself(values: list[Any]) -> bool:
    return values[0] is values


@pytest.mark.parametrize("key", [-1, None, True, 1.5, (), ("x", 0), b"k", max, np.int64(3)])
def test_any_key(client: Client, key: Any) -> None:
    graph = {key: (operator.neg, 5), "b": (operator.add, key, [key][0])}
    assert client.get(graph, [key, "b"]) == {key: -5, "b": -10}


def test_one_key(client: Client) -> None:
    graph = {"total": (abs, -1), ("x", 0): (abs, -2), "t": 3, 0: 4, "x": 5}
    assert client.get(graph, "total") == {"total": 1}
    assert client.get(graph, ("x", 0)) == {("x", 0): 2}
    assert client.get(graph, 0) == {0: 4}
    assert client.get(graph, (key for key in ["t", "total"])) == {"t": 3, "total": 1}
    assert client.get(graph, "total", block=False)["total"].result(5) == 1
    assert client.get(graph, []) == client.get({}, []) == {}


def test_data_that_equals_a_key_is_replaced_as_in_dask(client: Client) -> None:
    assert client.get({"cols": ["a"], "a": 1}, ["cols"]) == {"cols": [1]}


def test_arrays_are_data(client: Client) -> None:
    graph = {"a": np.arange(3), "b": (np.sum, "a"), "c": (max, ["b", np.float64(7)])}
    values = client.get(graph, ["a", "b", "c"])
    assert values["a"].tolist() == [0, 1, 2]
    assert (values["b"], values["c"]) == (3, 7)


def test_deep_data(client: Client) -> None:
    graph = {"a": 1, "data": nested(300), "b": (depth_of, nested(300)), "c": (depth_of, nested(300, "a"))}
    values = client.get(graph, ["data", "b", "c"])
    assert depth_of(values["data"]) == values["b"] == values["c"] == 300
    assert client.submit(depth_of, nested(400)).result(5) == 400


def test_data_deeper_than_pickle_takes(client: Client) -> None:
    too_deep = nested(100_000)
    with pytest.raises(errors.SerializationError, match=r"^argument 1 of .*depth_of cannot .* nested too deeply"):
        client.submit(depth_of, too_deep)
    with pytest.raises(errors.SerializationError, match=r"^item 1 for .* nested too deeply"):
        client.map(depth_of, [[1], too_deep])
    with pytest.raises(errors.SerializationError, match=r"^node 'b': argument 1 of .* nested too deeply"):
        client.get({"b": (depth_of, too_deep)}, "b")
    with pytest.raises(errors.SerializationError, match=r"^node 'b': argument 1 of .* nested too deeply"):
        client.get({"a": 1, "b": (depth_of, nested(100_000, "a"))}, "b")
    with pytest.raises(errors.SerializationError, match=r"^the object cannot .* nested too deeply"):
        client.send_object(too_deep)


def test_what_is_shared_stays_shared(client: Client) -> None:
    shared = ["a", 1]
    assert client.get({"a": 5, "b": (is_shared, [shared, shared])}, "b") == {"b": True}
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert client.get({"a": 5, "b": (holds_itself, cyclic)}, "b") == {"b": True}
    assert client.get({"a": 5, "b": (list, ["a", (holds_itself, cyclic)])}, "b") == {"b": [5, True]}
    cyclic.append("a")
    with pytest.raises(errors.GraphError, match=r"^node 'b': a list holds itself, and names other nodes"):
        client.get({"a": (abs, -5), "b": (holds_itself, cyclic)}, "b")


may_read = threading.Event()
"""Tasks run in this process."""


def wait_for_the_word() -> bool:
    return may_read.wait(5)


def length(value: bytes, *_: Any) -> int:
    return len(value)


def test_a_large_value_that_is_asked_for_and_needed(client: Client) -> None:
    may_read.clear()
    graph = {"a": (bytes, 300_000), "word": (wait_for_the_word,), "b": (length, "a", "word")}
    futures = client.get(graph, ["a", "b"], block=False)
    # The client has it, and has deleted what it got, before the other one reads it.
    assert futures["a"].result(5) == bytes(300_000)
    assert client.submit(abs, -1).result(5) == 1
    may_read.set()
    assert futures["b"].result(5) == 300_000


def test_errors_are_those_people_catch(client: Client) -> None:
    with pytest.raises(graphlib.CycleError, match="cycle: 'a' -> 'b' -> 'a'"):
        client.get({"a": (abs, "b"), "b": (abs, "a")}, ["a"])
    for keys, text in ((["b"], "key 'b' is not in the graph"), (["a", "a"], "key 'a' is asked for twice")):
        with pytest.raises(KeyError) as caught:
            client.get({"a": 1}, keys)
        assert str(caught.value) == text
    with pytest.raises(TypeError, match="a graph is a dictionary"):
        client.get([("a", 1)], ["a"])  # type: ignore[call-overload]  # refused
    assert client.get({"a": (abs, -1)}, ["a"]) == {"a": 1}
