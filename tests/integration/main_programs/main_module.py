"""A program whose functions look things up in `__main__` by name, as pickle and others do.

Prints one line of JSON: what each function answered, on every road, where it is not what a plain call answers.
"""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import json
import multiprocessing
import pickle
import sys
import typing
from collections.abc import Callable
from typing import Any
from unittest import mock

import __main__
from scaler import Client
from tests.integration.main_program import open_cluster

fork = multiprocessing.get_context("fork")
number = 1


class Pair:
    scale = 10

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return type(other) is Pair and other.x == self.x

    __hash__ = None  # type: ignore[assignment]

    def scaled(self) -> int:
        return self.x * self.scale


class ProblemError(Exception):
    pass


def helper(x: int) -> int:
    return x * 2


def pair_of(x: int) -> Pair:
    return Pair(x)


def in_a_pool(x: int) -> Any:
    with fork.Pool(2) as pool:
        return pool.map(helper, [1, x])


def objects_in_a_pool(x: int) -> Any:
    with fork.Pool(1) as pool:
        return pool.map(pair_of, [1, x]) == [Pair(1), Pair(x)]


def in_an_executor(x: int) -> Any:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
        return [pool.submit(helper, x).result(), pool.submit(Pair(x).scaled).result()]


def pickled_and_restored(x: int) -> Any:
    restored = pickle.loads(pickle.dumps([Pair(x), helper, Pair]))
    return restored[0] == Pair(x), restored[1] is helper, restored[2] is Pair, copy.deepcopy(Pair(x)) == Pair(x)


def imported(x: int) -> Any:
    import __main__ as main

    return main.helper(x), main is sys.modules["__main__"], hasattr(main, "no_such_name")


def imported_above(x: int) -> Any:
    return __main__.helper(x), helper(0)


def patched(x: int) -> Any:
    with mock.patch("__main__.helper", return_value="patched"):
        inside = helper(x)
    return inside, helper(x)


def patched_for_good(x: int) -> Any:
    before = helper(x), hasattr(__main__, "made_here")
    __main__.helper, __main__.made_here = abs, 1
    after = helper(x), hasattr(__main__, "made_here")
    del __main__.made_here
    return before, after, hasattr(__main__, "made_here")


def hints(_: int) -> Any:
    class Local:
        first: Pair
        second: ProblemError

    return {name: hint.__name__ for name, hint in typing.get_type_hints(Local).items()} if (Pair, ProblemError) else ()


async def coroutine(x: int) -> Any:
    return pickle.loads(pickle.dumps(Pair(x))) == Pair(x)


def with_wrapper(function: Callable[[int], Any]) -> Callable[[int], Any]:
    @functools.wraps(function)
    def call(x: int) -> Any:
        return function(x)

    return call


@with_wrapper
def decorated(x: int) -> Any:
    return pickle.loads(pickle.dumps(Pair(x))).x


@functools.lru_cache
def cached(x: int) -> Any:
    return pickle.loads(pickle.dumps(Pair(x))).x


def added(y: int, x: int) -> Any:
    return pickle.loads(pickle.dumps(Pair(x))).x + y


class Calling:
    def method(self, x: int) -> Any:
        return pickle.loads(pickle.dumps(Pair(x))).x

    __call__ = method


FUNCTIONS: tuple[Callable[[int], Any], ...] = (
    in_a_pool, objects_in_a_pool, in_an_executor, pickled_and_restored, imported, imported_above, patched, hints, decorated,
    cached, functools.partial(added, 5), Calling().method, Calling(), lambda x: pickle.loads(pickle.dumps(Pair(x))).scaled(),
)  # fmt: skip


USING_FUNCTIONS = (in_a_pool, objects_in_a_pool, in_an_executor, pickled_and_restored, patched, patched_for_good)
"""In the client's own process, tasks have its classes, but copies of its functions."""


def result(x: int) -> list[Any]:
    return [Pair(x), pickle.loads(pickle.dumps(Pair(x)))]


def fails(x: int) -> None:
    raise pickle.loads(pickle.dumps(ProblemError(x)))


def spawned(x: int) -> Any:
    """Spawned processes have nothing of the program; to say so is better than to wait for one that cannot restore its task."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        answered = pool.map(abs, [-x])
        try:
            pool.map(helper, [x])
        except (pickle.PicklingError, AttributeError):
            return [*answered, "refused"]
    return answered


def in_a_nested_client(x: int) -> Any:
    with Client() as client:
        return [
            client.submit(pickled_and_restored, x).result(),
            client.submit(result, x).result() == result(x),
            client.submit(Pair.scaled, Pair(x)).result(),
            client.map(lambda y: helper(y), [x]),
        ]


def answers(client: Client, function: Callable[[int], Any]) -> dict[str, Any]:
    return {
        "submit": client.submit(function, 3).result(),
        "submit again": client.submit(function, 3).result(),
        "map": client.map(function, [3, 3])[1],
        "starmap": client.starmap(function, [(3,), (3,)])[1],
        "graph": client.get({"a": (function, 3)}, ["a"])["a"],
        "graph, nested calls": client.get({"a": (list, [(function, 3)])}, ["a"])["a"][0],
    }


def main() -> None:
    problems: dict[str, Any] = {}
    in_process = sys.argv[1] == "in process"
    with open_cluster(sys.argv[1]) as address, Client(address, profiling=sys.argv[2:] == ["profiling"]) as client:
        for function in (*FUNCTIONS, patched_for_good):
            if in_process and function in USING_FUNCTIONS:
                continue
            name = getattr(function, "__name__", repr(function))
            expected = ((6, False), (3, True), False) if function is patched_for_good else function(3)
            try:
                found = answers(client, function)
            except Exception as error:
                problems[name] = f"{type(error).__name__}: {str(error)[:300]}"
                continue
            if any(answer != expected for answer in found.values()):
                problems[name] = found
        if set(answers(client, coroutine).values()) != {True}:
            problems["coroutine"] = answers(client, coroutine)
        for found in answers(client, result).values():
            if [type(each) for each in found] != [Pair, Pair]:
                problems["result"] = repr(found)
        failure = client.submit(fails, 1).exception()
        if type(failure) is not ProblemError or failure.args != (1,):
            problems["failure"] = repr(failure)
        if not in_process:
            if client.submit(in_a_nested_client, 3).result() != [(True, True, True, True), True, 30, [6]]:
                problems["nested"] = repr(client.submit(in_a_nested_client, 3).result())
            if client.submit(spawned, 3).result() != [3, "refused"]:
                problems["spawned"] = client.submit(spawned, 3).result()
    print(json.dumps(problems))


if __name__ == "__main__":
    main()
