"""Dask's conventions for graphs, before anything is serialized."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.core.graph import GraphPlan, RowInputs, is_task
from scaler.errors import GraphError, GraphKeyError
from scaler_protocol.payloads.framing import Call, InputReference


def test_rows_follow_those_they_need() -> None:
    graph = {"c": (sum, ["a", "b"]), "a": (len, "x"), "b": (max, "a", 3)}
    plan = GraphPlan(graph, ["c"])
    assert plan.order == ["a", "b", "c"]


def test_only_what_is_needed_is_computed() -> None:
    graph = {"a": (len, "x"), "b": (len, "y"), "c": (abs, "a")}
    assert GraphPlan(graph, ["c"]).order == ["a", "c"]


def test_literals_and_names_of_other_nodes_are_no_rows() -> None:
    graph = {"a": 2, "b": "a", "c": "b", "d": (abs, "c"), "e": [1, 2]}
    plan = GraphPlan(graph, ["d", "c", "e"])
    assert plan.order == ["d"]
    assert plan.resolve("c") == "a"


def test_containers_that_name_nodes_are_rows() -> None:
    graph = {"a": (abs, 1), "list": ["a", 2], "tuple": ("a", 3), "dict": {"k": "a"}, "plain": [1, "x"]}
    assert set(GraphPlan(graph, ["list", "tuple", "dict", "plain"]).order) == {"a", "list", "tuple", "dict"}


def test_keys_may_be_tuples() -> None:
    graph: dict[Any, Any] = {("x", 0): (abs, -1), ("x", 1): (abs, ("x", 0))}
    plan = GraphPlan(graph, [("x", 1)])
    assert plan.order == [("x", 0), ("x", 1)]


def test_a_missing_key_is_named() -> None:
    with pytest.raises(GraphKeyError, match="key 'b' is not in the graph") as caught:
        GraphPlan({"a": 1}, ["a", "b"])
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)


def test_a_duplicate_key_is_named() -> None:
    with pytest.raises(GraphError, match="'a' is asked for twice"):
        GraphPlan({"a": 1}, ["a", "a"])


@pytest.mark.parametrize(
    "graph",
    [
        {"a": (abs, "b"), "b": (abs, "c"), "c": (abs, "a")},
        {"a": (abs, "b"), "b": "c", "c": "b"},
        {"a": (abs, "b"), "b": [["b"]]},
    ],
)
def test_a_cycle_is_shown(graph: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match=r"cycle: .* -> "):
        GraphPlan(graph, ["a"])


def test_a_node_may_name_itself_only_by_mistake() -> None:
    with pytest.raises(GraphError, match="'a' -> 'a'"):
        GraphPlan({"a": (abs, "a")}, ["a"])


def test_long_chains_need_no_recursion() -> None:
    graph: dict[int, Any] = {0: (abs, -1)}
    graph.update({row: (abs, row - 1) for row in range(1, 50_000)})
    assert GraphPlan(graph, [49_999]).order == list(range(50_000))


def test_expressions_name_inputs_and_calls() -> None:
    graph = {"a": (abs, -1), "b": 5, "c": (max, [(min, "a", "b"), {"k": "a"}], ("a", 1))}
    plan = GraphPlan(graph, ["c"])
    inputs = RowInputs(plan, graph)
    expression = inputs.expression([(min, "a", "b"), {"k": "a"}])
    assert expression == [Call(min, (InputReference(0), 5)), {"k": InputReference(0)}]
    assert inputs.rows == [plan.row_of["a"]]


def test_a_task_begins_with_something_callable() -> None:
    assert is_task((abs, 1))
    assert not is_task(("abs", 1))
    assert not is_task(())
    assert not is_task([abs, 1])
