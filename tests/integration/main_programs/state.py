"""A program whose functions carry state: each call gets what was submitted, and nothing of what other calls have done.

Prints one line of JSON: what each kind of function answered, on every road, where its answers are not all the same.
"""

from __future__ import annotations

import functools
import json
import random
import sys
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np

from scaler import Client, Serializer
from tests.integration.main_program import open_cluster


class Counter:
    total = 0

    def __init__(self) -> None:
        self.count = 0

    def up(self, _: Any) -> int:
        self.count += 1
        return self.count

    __call__ = up

    @classmethod
    def up_all(cls, _: Any) -> int:
        cls.total += 1
        return cls.total


class Estimator:
    def fit(self, data: list[int]) -> int:
        self.seen = [*getattr(self, "seen", ()), *data]
        return len(self.seen)


items: list[int] = []
number = 0


def global_list(_: Any) -> int:
    items.append(1)
    return len(items)


def global_number(_: Any) -> int:
    global number
    number += 1
    return number


def helper() -> int:
    return global_number(None)


def through_a_helper(_: Any) -> int:
    return helper()


def through_the_namespace(_: Any) -> int:
    globals()["number"] += 1
    return number


def own_attribute(_: Any) -> int:
    own_attribute.count += 1  # type: ignore[attr-defined]
    return own_attribute.count  # type: ignore[attr-defined,no-any-return]


own_attribute.count = 0  # type: ignore[attr-defined]


def own_new_attribute(_: Any) -> int:
    own_new_attribute.count = getattr(own_new_attribute, "count", 0) + 1  # type: ignore[attr-defined]
    return own_new_attribute.count  # type: ignore[attr-defined,no-any-return]


def mutable_default(_: Any, found: list[int] = []) -> int:  # noqa: B006
    found.append(1)
    return len(found)


def mutable_keyword(_: Any, *, found: list[int] = []) -> int:  # noqa: B006
    found.append(1)
    return len(found)


def append(found: list[int], _: Any) -> int:
    found.append(1)
    return len(found)


def over_a_list() -> Callable[[Any], int]:
    found: list[int] = []

    def call(_: Any) -> int:
        found.append(1)
        return len(found)

    return call


def over_a_number() -> Callable[[Any], int]:
    count = 0

    def call(_: Any) -> int:
        nonlocal count
        count += 1
        return count

    return call


def over_an_iterator() -> Callable[[Any], int]:
    iterator = iter(list(range(100)))
    return lambda _: next(iterator)


@functools.lru_cache
def cached(_: Any) -> int:
    items.append(1)
    return len(items)


def class_attribute(_: Any) -> int:
    Counter.total += 1
    return Counter.total


small, large, tally = np.zeros(3), np.zeros(200_000), Tally[int]()


def small_array(_: Any) -> float:
    small[0] += 1
    return float(small[0])


def large_array(_: Any) -> float:
    large[0] += 1
    return float(large[0])


def dict_subclass(_: Any) -> int:
    tally[1] += 1
    return tally[1]


generator, rng = random.Random(1), np.random.default_rng(1)


def random_number(_: Any) -> float:
    return generator.random()


def random_array(_: Any) -> float:
    return float(rng.random())


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "bound method": Counter().up,
    "callable object": Counter(),
    "class method": Counter.up_all,
    "estimator": lambda x: Estimator().fit([x]),
    "estimator.fit": functools.partial(lambda fit, x: fit([x]), Estimator().fit),
    "method of a list": functools.partial(append, [0]),
    "partial with a list": functools.partial(append, []),
    "pop": functools.partial(lambda found, _: found.pop(), [1, 2, 3, 4, 5, 6]),
    **{
        function.__name__: function
        for function in (
            global_list, global_number, through_a_helper, through_the_namespace, own_attribute, own_new_attribute,
            mutable_default, mutable_keyword, class_attribute, small_array, large_array, dict_subclass, random_number,
            random_array,
        )
    },
    "over a list": over_a_list(),
    "over a number": over_a_number(),
    "over an iterator": over_an_iterator(),
    "cached": cached,
    "numpy": np.poly1d([1, 2]),
    "plain": lambda x: x,
}  # fmt: skip


class Pickles(Serializer):
    @staticmethod
    def serialize(obj: Any) -> bytes:
        return cloudpickle.dumps(obj)  # type: ignore[no-any-return]

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return cloudpickle.loads(payload)


def in_a_nested_client(function: Callable[[Any], Any], _: Any) -> list[Any]:
    with Client() as client:
        return [client.submit(function, 2).result() for _ in range(3)]


def equal_objects(client: Client) -> list[int]:
    return [client.submit(Counter().up, 2).result() for _ in range(4)]


def answers(client: Client, function: Callable[[Any], Any], *, nested: bool) -> dict[str, list[Any]]:
    keys = [f"node {i}" for i in range(4)]
    found = {
        "one after another": [client.submit(function, 2).result() for _ in range(4)],
        "together": [future.result() for future in [client.submit(function, 2) for _ in range(4)]],
        "map": client.map(function, [2] * 4),
        "starmap": client.starmap(function, [(2,)] * 4),
        "map of large items": [int(x) for x in client.map(first_of, [(function, np.ones(30_000))] * 4)],
        "graph": list(client.get(dict.fromkeys(keys, (function, 2)), keys).values()),
        "graph, nested calls": list(client.get(dict.fromkeys(keys, (int, (function, 2))), keys).values()),
    }
    if isinstance(found["map"][0], float):
        del found["map of large items"], found["graph, nested calls"]
    if nested:
        found["nested"] = client.submit(in_a_nested_client, function, 2).result()
    return found


def first_of(pair: tuple[Callable[[Any], Any], Any]) -> Any:
    return pair[0](2)


def main() -> None:
    in_process = sys.argv[1] == "in process"
    serializer = Pickles if sys.argv[2:] == ["serializer"] else None
    problems: dict[str, Any] = {}
    with open_cluster(sys.argv[1]) as address, Client(address, serializer=serializer) as client:
        for name, function in FUNCTIONS.items():
            if in_process and name in ("class method", "class_attribute"):
                # There, tasks and client share one class.
                continue
            try:
                found = answers(client, function, nested=not in_process)
                if len({answer for road in found.values() for answer in road}) != 1:
                    problems[name] = found
            except Exception as error:
                problems[name] = f"{type(error).__name__}: {str(error)[:200]}"
        if equal_objects(client) != [1] * 4:
            problems["equal objects"] = equal_objects(client)
    if items or number or small[0] or large[0] or (Counter.total and not in_process):
        problems["the client's own"] = [items, number, small[0], large[0], Counter.total]
    print(json.dumps(problems))


if __name__ == "__main__":
    main()
