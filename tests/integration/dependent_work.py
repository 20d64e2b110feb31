"""Work whose tasks need each other's results, for tests that kill processes meanwhile: small, large and failing ones."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, wait
from typing import Any, TypeAlias

import numpy as np

from scaler import Client, ScalerFuture
from tests.integration import functions as f

LARGE_EVERY = 97
"""One of so many results is an array of more than a MiB, which no message carries."""
LARGE_ITEMS = 140_000
ODD_EVERY = 50
"""Behind one of so many tasks there is one that fails, with others behind it."""

Value: TypeAlias = "int | np.ndarray[Any, Any]"


class OnPurposeError(Exception):
    """What tasks raise that are to fail."""


def number_of(value: Value) -> int:
    """Return the number that a value stands for, after a look at all of it."""
    if isinstance(value, int):
        return value
    number = int(value[0])
    assert len(value) == LARGE_ITEMS
    assert (value == number).all()
    return number


def value_of(number: int) -> Value:
    """Return a number, or many of it."""
    return np.full(LARGE_ITEMS, number) if number % LARGE_EVERY == 1 else number


def total(*values: Value | Sequence[Value]) -> Value:
    """Return what values stand for, added."""
    numbers = 0
    for value in values:
        numbers += sum([number_of(one) for one in value]) if isinstance(value, list | tuple) else number_of(value)  # type: ignore[arg-type]
    return value_of(numbers)


def slow_total(seconds: float, *values: Value) -> Value:
    """As `total`, but it takes so long."""
    time.sleep(seconds)  # sleeps: the task takes so long
    return total(*values)


def fail_with(value: Value) -> None:
    """Raise what the value stands for."""
    raise OnPurposeError(number_of(value))


class Work:
    """Futures, and what is to become of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.expected: list[tuple[ScalerFuture, int]] = []
        """The number that a future's result stands for."""
        self.failing: list[tuple[ScalerFuture, int]] = []
        """The number that its error has."""
        self.canceled: list[ScalerFuture] = []

    @property
    def futures(self) -> list[ScalerFuture]:
        """All of them."""
        return [*(one for one, _ in self.expected), *(one for one, _ in self.failing), *self.canceled]

    def done(self) -> int:
        """How many have ended."""
        return sum(one.done() for one in self.futures)

    def check(self, timeout_s: float) -> str:
        """Assert that all have ended in time as they should. Return that in words."""
        futures = self.futures
        silent = wait(futures, timeout=timeout_s).not_done
        assert not silent, f"{self.name}: {len(silent)} of {len(futures)} futures are silent"
        wrong: Counter[str] = Counter()
        for future, number in self.expected:
            error = None if future.cancelled() else future.exception()
            if future.cancelled() or error is not None:
                wrong[repr(error)[:300]] += 1
            elif number_of(future.result()) != number:
                wrong[f"another result than {number}"] += 1
        for future, number in self.failing:
            error = None if future.cancelled() else future.exception()
            if type(error).__name__ != OnPurposeError.__name__ or error.args != (number,):  # type: ignore[union-attr]
                wrong[f"not the error {number}: {error!r}"[:300]] += 1
        for future in self.canceled:
            if not future.cancelled():
                wrong["not cancelled"] += 1
        assert not wrong, f"{self.name}: {dict(wrong)}"
        counts = f"{len(self.expected)} results, {len(self.failing)} errors, {len(self.canceled)} cancelled"
        return f"{self.name}: {counts}"

    def add_odd_ones(self, client: Client, future: ScalerFuture, number: int, blocked: ScalerFuture) -> None:
        """Have tasks behind `future` fail, and others behind `blocked`, which is to be cancelled."""
        broken: ScalerFuture = client.submit(fail_with, future)
        self.failing += [(one, number) for one in (broken, client.submit(total, 1, broken))]
        needs_both = client.submit(total, [future, blocked])
        self.canceled += [needs_both, client.submit(total, needs_both)]


def chain(client: Client, size: int, gate: str) -> Work:
    """Each link needs the one before."""
    work = Work("chain")
    blocked = client.submit(f.wait_for_file, 0, gate)
    future = client.submit(total, 0, 1)
    work.expected.append((future, 1))
    for number in range(2, size + 1):
        future = client.submit(total, future, 1)
        work.expected.append((future, number))
        if number % ODD_EVERY == 0:
            work.add_odd_ones(client, future, number, blocked)
    _cancel(work, blocked)
    return work


def tree(client: Client, size: int, gate: str) -> Work:
    """Each task needs two others."""
    work = Work("tree")
    blocked = client.submit(f.wait_for_file, 0, gate)
    level = [(client.submit(total, number), number) for number in range(size // 2)]
    while True:
        work.expected += level
        for future, number in level[::ODD_EVERY]:
            work.add_odd_ones(client, future, number, blocked)
        if len(level) == 1:
            break
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [(client.submit(total, *(one for one, _ in pair)), sum(n for _, n in pair)) for pair in pairs]
    _cancel(work, blocked)
    return work


def fan_in(client: Client, size: int, gate: str) -> Work:
    """One task needs all the others."""
    work = Work("fan-in")
    work.expected = [(client.submit(slow_total, 0.0005, number), number) for number in range(size)]
    futures = [one for one, _ in work.expected]
    work.expected.append((client.submit(total, futures), sum(range(size))))
    broken = client.submit(fail_with, size)
    blocked = client.submit(f.wait_for_file, 0, gate)
    work.failing += [(broken, size), (client.submit(total, [*futures, broken]), size)]
    work.canceled.append(client.submit(total, [*futures, blocked]))
    _cancel(work, blocked)
    return work


def _graph_of(size: int) -> tuple[dict[Hashable, Any], dict[Hashable, int], dict[Hashable, int]]:
    """Return a graph with chains that meet, what its nodes come to where "start" is 0, and what they fail with."""
    graph: dict[Hashable, Any] = {"start": 0}
    expected: dict[Hashable, int] = {}
    failing: dict[Hashable, int] = {}
    width, ends = 10, []
    for column in range(width):
        before: Hashable = "start"
        for row in range(size // width):
            key = (column, row)
            graph[key] = (slow_total, 0.001, before, column) if row else (total, before)
            expected[key] = column * row
            before = key
            if row % ODD_EVERY == ODD_EVERY - 1 and column == 3:
                graph["broken", row] = (fail_with, key)
                graph["behind", row] = (total, ("broken", row), [(1, 2), key])
                failing["broken", row] = failing["behind", row] = expected[key]
        ends.append(before)
    graph["end"] = (total, ends)
    expected["end"] = sum(expected[end] for end in ends)
    return graph, expected, failing


def graph(client: Client, size: int, gate: str) -> Work:
    """A graph of which every third node is asked for."""
    work = Work("graph")
    nodes, expected, failing = _graph_of(size)
    nodes["blocked"] = (f.wait_for_file, 0, gate)
    nodes["behind blocked"] = (total, "blocked", "end")
    keys = [*list(expected)[::3], *failing, "end", "blocked", "behind blocked"]
    futures = client.get(nodes, list(dict.fromkeys(keys)), block=False)
    work.expected = [(futures[key], number) for key, number in expected.items() if key in futures]
    work.failing = [(futures[key], number) for key, number in failing.items()]
    work.canceled = [futures["behind blocked"]]
    _cancel(work, futures["blocked"])
    return work


def template(client: Client, size: int, gate: str) -> Work:
    """A prepared graph that runs some times; its runs have one node of the one before."""
    work = Work("runs of a prepared graph")
    nodes, expected, failing = _graph_of(size // 5)
    runs = 5
    ends = [key for key in expected if key == "end" or (isinstance(key, tuple) and key[1] == size // 50 - 1)]
    with client.prepare(nodes, [*ends, *failing]) as prepared:
        start: Any = 0
        added = 0
        for _ in range(runs):
            futures = prepared.run({"start": start}, block=False)
            count = 10
            for key in ends:
                work.expected.append((futures[key], expected[key] + added * (count if key == "end" else 1)))
            work.failing += [(futures[key], number + added) for key, number in failing.items()]
            start = futures["end"]
            added = expected["end"] + added * count
    return work


def _cancel(work: Work, blocked: ScalerFuture) -> None:
    """End what waits for a file that never comes."""
    with contextlib.suppress(CancelledError):
        blocked.cancel()
    work.canceled.append(blocked)


SHAPES: dict[str, Callable[[Client, int, str], Work]] = {
    "chain": chain,
    "tree": tree,
    "fan-in": fan_in,
    "graph": graph,
    "template": template,
}
