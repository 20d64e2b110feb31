"""Tiny tasks submitted in other ways than an imported function with a number: what each kind of call costs beside that."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from benchmarks.curve import Curve, Point
from benchmarks.system import Cluster, NotSupported
from benchmarks.tasks import add, add_keywords, fail, identity
from benchmarks.workload import Better, Metric, Run, Workload, check, growing

LAMBDAS = 1000
RATE_LEAST = 45_000
"""A third of what a core's worth of plain submits reaches: what every kind is to reach."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, and what it returns."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    expected: Any
    keywords: Mapping[str, Any] = field(default_factory=dict)


def _plain(number: int) -> Call:
    return Call(identity, (number,), number)


def _keywords(number: int) -> Call:
    return Call(add_keywords, (), number + 1, {"left": number, "right": 1})


def _closure(number: int) -> Call:
    return Call(lambda value: value + number, (1,), number + 1)


_lambdas: list[Callable[[int], int]] = [eval(f"lambda value: value + {number}") for number in range(LAMBDAS)]
"""As in a program's text: each has code of its own."""


def _lambda(number: int) -> Call:
    return Call(_lambdas[number % LAMBDAS], (1,), number % LAMBDAS + 1)


def _partial(number: int) -> Call:
    return Call(functools.partial(add, number), (1,), number + 1)


def _array(number: int) -> Call:
    array = np.full(10, number)
    return Call(identity, (array,), array)


def _scalar(number: int) -> Call:
    return Call(identity, (np.float64(number),), np.float64(number))


KINDS: Mapping[str, Callable[[int], Call]] = {
    "plain": _plain,
    "keywords": _keywords,
    "closures": _closure,
    "lambdas": _lambda,
    "partials": _partial,
    "arrays": _array,
    "scalars": _scalar,
}

_TITLES = {
    "plain": "plain call",
    "keywords": "keyword arguments",
    "closures": "a new closure each",
    "lambdas": f"{LAMBDAS} lambdas in turn",
    "partials": "a new partial each",
    "arrays": "arrays of 10 integers",
    "scalars": "numpy scalars",
    "failures": "tasks that raise",
    "profiling": "profiling on",
}


class Calls(Workload):
    """Single submits, then all results, one kind of call after the other on the same cluster."""

    name = "calls"
    title = "Single submits of tiny tasks by kind of call"
    metrics = (
        Metric("plain", _TITLES["plain"], "tasks/s", Better.HIGHER),
        *(
            Metric(name, title, "tasks/s", Better.HIGHER, target=RATE_LEAST)
            for name, title in _TITLES.items()
            if name != "plain"
        ),
    )
    curves = (
        Curve(
            "Kinds of call, tiny tasks",
            "kind of call",
            "tasks/s",
            tuple(Point(title, name) for name, title in _TITLES.items()),
        ),
    )
    systems: ClassVar[tuple[str, ...] | None] = ("scaler", "processpool", "ray")

    def run(self, run: Run) -> dict[str, float]:
        seconds = run.seconds / 3
        found: dict[str, float] = {}
        with run.cluster() as cluster:
            for name, make in KINDS.items():
                if _takes(cluster, make(0)):
                    found[name] = _rate(functools.partial(_time_calls, cluster, make), seconds)
            found["failures"] = _rate(functools.partial(_time_failures, cluster), seconds)
            try:
                profiled = cluster.profiled()
            except NotSupported:
                return found
            with contextlib.closing(profiled):
                found["profiling"] = _rate(functools.partial(_time_calls, profiled, _plain), seconds)
        return found


def _takes(cluster: Cluster, call: Call) -> bool:
    """Whether the system can send such a call at all: some pickle every function by its name."""
    try:
        _check_result(_results(cluster, [call])[0], call.expected)
    except NotSupported:
        return False
    except (AttributeError, TypeError) as error:
        # What pickle raises for lambdas and closures. PicklingError has no other base than Exception.
        return _not_by_name(error)
    except Exception as error:
        if type(error).__name__ == "PicklingError":
            return False
        raise
    return True


def _not_by_name(error: Exception) -> bool:
    if "pickle" in str(error):
        return False
    raise error


def _rate(measure: Callable[[int], float], seconds: float) -> float:
    # The first sample, which is thrown away, has every function once.
    count, taken = growing(measure, first=LAMBDAS, last=200_000, seconds=seconds)
    return count / taken


def _time_calls(cluster: Cluster, make: Callable[[int], Call], count: int) -> float:
    calls = [make(number) for number in range(count)]
    begin = time.perf_counter()
    results = _results(cluster, calls)
    taken = time.perf_counter() - begin
    for result, call in zip(results, calls, strict=True):
        _check_result(result, call.expected)
    return taken


def _results(cluster: Cluster, calls: Sequence[Call]) -> list[Any]:
    return cluster.gather([cluster.submit(call.function, *call.arguments, **call.keywords) for call in calls])


def _check_result(result: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        check(result.tolist(), expected.tolist())
    else:
        check((type(result), result), (type(expected), expected))


def _time_failures(cluster: Cluster, count: int) -> float:
    begin = time.perf_counter()
    handles = [cluster.submit(fail, number) for number in range(count)]
    failed = 0
    for handle in handles:
        try:
            cluster.gather([handle])
        except ValueError:
            failed += 1
    taken = time.perf_counter() - begin
    check(failed, count)
    return taken


WORKLOADS = (Calls(),)
