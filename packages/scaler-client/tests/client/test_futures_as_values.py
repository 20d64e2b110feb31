"""A future is no value that can travel: nobody would complete its copy. Pools refuse it as well.

As an argument of a task, item of a map or part of a graph it stands for its result: see `test_future_arguments.py`.
"""

from __future__ import annotations

import concurrent.futures as cf
import copy
import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from scaler import Client, ScalerFuture, Serializer, errors
from scaler.testing import InProcessCluster


class Pickles(Serializer):
    @staticmethod
    def serialize(obj: Any) -> bytes:
        return bytes(cloudpickle.dumps(obj))

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return pickle.loads(payload)


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held

    def method(self) -> Any:
        return self.held


@pytest.fixture(params=[None, Pickles], ids=["plain", "custom"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with InProcessCluster() as cluster, Client(cluster.address, serializer=request.param, timeout_seconds=10) as client:
        yield client


def use(*values: Any, **named: Any) -> int:
    return len(values) + len(named)


ROADS: dict[str, tuple[Callable[[Client, ScalerFuture], Any], str]] = {
    "argument": (lambda c, f: c.submit(use, 1, f), "argument 2 of .*use is a future"),
    "keyword": (lambda c, f: c.submit(use, k=f), "argument 'k' of .*use is a future"),
    "in a list": (lambda c, f: c.submit(use, [1, f]), r"argument 1 of .*: \[1\] is a future"),
    "in a dictionary": (lambda c, f: c.submit(use, {"x": {"y": f}}), r": \['x'\]\['y'\] is a future"),
    "in an attribute": (lambda c, f: c.submit(use, Holder(f)), r": \.held is a future"),
    "in a closure": (lambda c, f: c.submit(lambda: f), "the variable 'f' that .* takes from around it is a future"),
    "in a partial": (lambda c, f: c.submit(functools.partial(use, f)), "argument 1 of the partial is a future"),
    "in a method": (lambda c, f: c.submit(Holder(f).method), r"the method .*\.held is a future"),
    "verbose": (lambda c, f: c.submit_verbose(use, (f,)), "argument 1 of .*use is a future"),
    "map": (lambda c, f: c.map(use, [1, 2, f]), "item 2"),
    "starmap": (lambda c, f: c.starmap(use, [(1, 2), (3, [f])]), r"item 1: argument 2 of .*: \[0\] is a future"),
    "row": (lambda c, f: c.get({"a": (use, 1, f)}, "a"), "node 'a': argument 2 of .*use is a future"),
    "row with inputs": (
        lambda c, f: c.get({"a": (abs, -1), "b": (use, "a", ["a", f])}, "b"),
        r"node 'b': argument 2 of .*: \[1\] is a future",
    ),
    "node": (lambda c, f: c.get({"a": f}, ["a"]), "node 'a' is a future"),
    "node of a row": (
        lambda c, f: c.get({"f": f, "a": (use, "f")}, ["a"]),
        "node 'a': argument 1 of .*use is a future",
    ),
    "object": (lambda c, f: c.send_object([f]), r"the object cannot be serialized: \[0\] is a future"),
}


STANDS_FOR_ITS_RESULT: dict[str, Any] = {
    "argument": 2,
    "keyword": 1,
    "in a list": 1,
    "in a dictionary": 1,
    "verbose": 1,
    "map": [1, 1, 1],
    "starmap": [2, 2],
    "row": {"a": 2},
    "row with inputs": {"b": 2},
    "node": {"a": 1},
    "node of a row": {"a": 1},
}
"""The roads on which a future of the client itself is replaced by its result, and what comes of it."""


@pytest.mark.parametrize("road", STANDS_FOR_ITS_RESULT)
@pytest.mark.parametrize("kind", ["pending", "done"])
def test_a_future_stands_for_its_result(road: str, kind: str, client: Client) -> None:
    future = client.submit(abs, -1)
    if kind == "done":
        future.result(5)
    call, _ = ROADS[road]
    found = call(client, future)
    assert (found.result(5) if isinstance(found, ScalerFuture) else found) == STANDS_FOR_ITS_RESULT[road]


@pytest.mark.parametrize(
    ("road", "kind"),
    [
        (road, kind)
        for road in ROADS
        for kind in ("pending", "done", "other")
        if kind == "other" or road not in STANDS_FOR_ITS_RESULT
    ],
)
def test_a_future_is_refused_on_every_road(road: str, kind: str, client: Client) -> None:
    future: Any = cf.Future() if kind == "other" else client.submit(abs, -1)
    if kind == "done":
        future.result(5)
    call, text = ROADS[road]
    with pytest.raises(errors.SerializationError, match=text) as caught:
        call(client, future)
    assert "call .result() first" in str(caught.value)
    assert client.submit(use, 1).result(5) == 1


def test_the_pool_refuses_it_too() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(cf.Future())


def test_a_future_cannot_be_copied(client: Client) -> None:
    future = client.submit(abs, -1)
    for action in (copy.copy, copy.deepcopy, pickle.dumps, cloudpickle.dumps):
        with pytest.raises(TypeError, match=r"a future cannot be copied or sent, .* call \.result\(\) first"):
            action(future)


def make_future() -> Any:
    return [ScalerFuture(None)]  # type: ignore[arg-type]


def test_a_future_that_is_returned_fails_its_task(client: Client) -> None:
    with pytest.raises(Exception, match="a future cannot be copied or sent"):
        client.submit(make_future).result(5)
