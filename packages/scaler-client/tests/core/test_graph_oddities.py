"""Graphs with odd keys, odd data and odd requests: the right plan, or an error that names the place."""

from __future__ import annotations

import graphlib
import math
import pickle
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from scaler.core.graph import GraphPlan, RowInputs
from scaler.errors import GraphCycleError, GraphError, GraphKeyError
from scaler_protocol.payloads.framing import Call, InputReference


class Raising:
    """Cannot be hashed, compared or shown."""

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Elementwise:
    """Equal to everything with its hash, and says so in a way that is no truth value, as arrays do."""

    def __hash__(self) -> int:
        return hash("a")

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])


class AnyKey:
    """Looks like the key "a" to a dictionary."""

    def __hash__(self) -> int:
        return hash("a")

    def __eq__(self, other: object) -> bool:
        return other == "a"


def dask_class(name: str, *bases: type) -> Any:
    return type(name, bases, {"__module__": "dask._task_spec", "__call__": lambda self, values=(): 1})


Task, Alias, DataNode = (dask_class(name) for name in ("Task", "Alias", "DataNode"))
List = type("List", (Task,), {"__module__": "elsewhere"})


@pytest.mark.parametrize(
    "key", [-1, None, 0, "", (), math.nan, True, 1.0, b"", frozenset(), max, np.int64(7), ("x", 0)]
)
def test_any_hashable_value_is_a_key(key: Any) -> None:
    graph = {key: (abs, -3), "b": (abs, key)}
    plan = GraphPlan(graph, ["b", key])
    assert plan.order == [key, "b"]
    assert list(plan.asked) == ["b", key]
    inputs = RowInputs(plan, graph)
    assert inputs.expression([key, "x"]) == [InputReference(0), "x"]


def test_equal_keys_are_one() -> None:
    graph = {1: (abs, -3)}
    for asked in (1, True, 1.0, np.int64(1)):
        plan = GraphPlan(graph, [asked])
        assert plan.order == [1]
        assert plan.asked[asked] == 1
    with pytest.raises(GraphKeyError, match="key True is asked for twice"):
        GraphPlan(graph, [1, True])


@pytest.mark.parametrize(
    "value", [Raising(), Elementwise(), np.arange(3), {1: 2}, {3}, [Elementwise()], (Raising(), 1)]
)
def test_odd_data_names_nothing_and_stays_itself(value: Any) -> None:
    graph = {"a": (abs, -1), "data": value, "b": (max, value, "a")}
    plan = GraphPlan(graph, ["b", "data"])
    assert plan.order == ["a", "b"]
    assert not plan.names_something(value)
    assert RowInputs(plan, graph).expression(value) is value


def test_what_looks_like_a_key_is_the_graphs_own() -> None:
    graph = {"a": (abs, -1), "b": (abs, AnyKey())}
    plan = GraphPlan(graph, ["b"])
    assert plan.order == ["a", "b"]
    assert type(plan.order[0]) is str


@pytest.mark.parametrize("keys", ["total", ("x", 0), 5, -1])
def test_a_single_key_asks_for_itself(keys: Any) -> None:
    graph = {"total": (abs, 1), "t": 1, "x": 2, ("x", 0): 3, 0: 4, 5: 6, -1: 7}
    assert list(GraphPlan(graph, keys).asked) == [keys]


def test_a_text_never_means_its_letters() -> None:
    graph = dict.fromkeys("total", 1)
    with pytest.raises(GraphKeyError, match="key 'total' is not in the graph"):
        GraphPlan(graph, "total")
    with pytest.raises(GraphKeyError, match="key b'x' is not in the graph"):
        GraphPlan(graph, b"x")


def test_keys_may_come_from_any_iterable() -> None:
    graph = {"a": 1, "b": (abs, 1)}
    for keys in ((key for key in "ab"), ("a", "b"), {"a": 0, "b": 0}, iter(["a", "b"]), graph.keys()):
        assert list(GraphPlan(graph, keys).asked) == ["a", "b"]
    nothings: tuple[Iterable[Any], ...] = ([], (), iter(()), {})
    for nothing in nothings:
        assert GraphPlan(graph, nothing).asked == GraphPlan({}, nothing).asked == {}


@pytest.mark.parametrize(
    ("keys", "kind", "text"),
    [
        ([["a"], ["b"]], GraphError, r"\['a'\] was asked for, which is no key: keys must be one flat list"),
        ([Raising()], GraphError, "<.*Raising> was asked for, which is no key: it cannot be looked up"),
        ([np.arange(2)], GraphError, r"array\(\[0, 1\]\) was asked for"),
        (["a", "missing"], GraphKeyError, "key 'missing' is not in the graph"),
        (7, GraphKeyError, "key 7 is not in the graph"),
        (None, GraphKeyError, "key None is not in the graph"),
        ([float("nan")], GraphKeyError, "key nan is not in the graph"),
        (["a", "b", "a"], GraphKeyError, "key 'a' is asked for twice"),
    ],
)
def test_what_is_no_key_is_named(keys: Any, kind: type[GraphError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        GraphPlan({"a": 1, "b": 2, math.nan: 3}, keys)
    assert type(caught.value) is kind
    assert isinstance(caught.value, KeyError) == (kind is GraphKeyError)


def test_a_cycle_is_what_graphlib_says_it_is() -> None:
    graph = {"a": (abs, "b"), "b": [{"k": ("c",)}], "c": (max, 1, "a")}
    with pytest.raises(graphlib.CycleError) as caught:
        GraphPlan(graph, ["a"])
    assert isinstance(caught.value, GraphError)
    assert str(caught.value) == "the graph has a cycle: 'a' -> 'b' -> 'c' -> 'a'"
    assert caught.value.args[1] == ["a", "b", "c", "a"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is GraphCycleError
    assert again.args == caught.value.args


@pytest.mark.parametrize(
    ("computation", "where"),
    [
        (Task(), "it is a dask._task_spec.Task"),
        ((abs, Alias()), "argument 1 is a dask._task_spec.Alias"),
        ((max, 1, [0, {"k": (DataNode(),)}]), r"argument 2\[1\]\['k'\]\[0\] is a dask._task_spec.DataNode"),
        ([List()], r"\[0\] is a elsewhere.List"),
        ((Task(), 1), "its function is a dask._task_spec.Task"),
        ((abs, (Task(), 1)), r"argument 1\[0\] is a dask._task_spec.Task"),
    ],
)
def test_dasks_own_tasks_are_refused_by_name(computation: Any, where: str) -> None:
    with pytest.raises(GraphError, match=rf"^node 'bad': {where}: Dask's task objects"):
        GraphPlan({"bad": computation, "good": 1, "after": (abs, "bad")}, ["good", "after"])


def nested(levels: int, innermost: Any) -> Any:
    value = innermost
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [400, 100_000])
def test_deep_data_needs_no_recursion(levels: int) -> None:
    plain, naming = nested(levels, "x"), nested(levels, "a")
    graph = {"a": (abs, -1), "plain": plain, "row": naming, "b": (max, plain, naming)}
    plan = GraphPlan(graph, ["plain", "row", "b"])
    assert plan.order == ["a", "row", "b"]
    inputs = RowInputs(plan, graph)
    assert inputs.expression(plain) is plain
    expression = inputs.expression(naming)
    for _ in range(levels):
        [expression] = expression
    assert expression == InputReference(0)


def test_deep_tasks_need_no_recursion() -> None:
    task: Any = (abs, "a")
    for _ in range(50_000):
        task = (abs, task)
    graph = {"a": 1, "b": task}
    plan = GraphPlan(graph, ["b"])
    expression = RowInputs(plan, graph).expression(task)
    for _ in range(50_000):
        (expression,) = expression.arguments
    assert expression == Call(abs, (1,))


def test_a_list_that_holds_itself_is_data() -> None:
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    graph = {"a": (abs, -1), "data": cyclic, "b": (max, [cyclic, "a"])}
    plan = GraphPlan(graph, ["data", "b"])
    assert plan.order == ["a", "b"]
    expression = RowInputs(plan, graph).expression([cyclic, "a"])
    assert expression[0] is cyclic


def test_a_list_that_holds_itself_and_names_nodes_is_refused() -> None:
    cyclic: list[Any] = ["a"]
    cyclic.append({"again": cyclic})
    graph = {"a": (abs, -1), "b": (max, cyclic)}
    plan = GraphPlan(graph, ["b"])
    with pytest.raises(GraphError, match="holds itself, and names other nodes"):
        RowInputs(plan, graph).expression(cyclic)


def test_shared_containers_are_followed_once_and_stay_shared() -> None:
    shared: Any = ["a"]
    for _ in range(200):
        shared = [shared, shared]
    graph = {"a": (abs, -1), "b": (len, shared)}
    plan = GraphPlan(graph, ["b"])
    expression = RowInputs(plan, graph).expression(shared)
    assert expression[0] is expression[1]


def test_a_callable_in_front_makes_a_task_even_of_a_key() -> None:
    graph: dict[Any, Any] = {(len, "xx"): (abs, -1), "b": (max, (len, "xx"), 0)}
    plan = GraphPlan(graph, ["b"])
    assert plan.order == ["b"]
