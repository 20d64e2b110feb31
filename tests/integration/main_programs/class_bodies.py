"""A program whose functions define classes inside them, with modules, functions and globals of the program in their bodies.

Prints one line of JSON: what each function answered, on every road, where it is not what a plain call answers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
import threading
import xml.dom.minidom
import xml.sax.saxutils
from collections.abc import Callable
from typing import Any

from scaler import Client
from tests.integration.main_program import open_cluster

LIMIT = 7
number = 1
counts: list[int] = []
unsendable = threading.Lock()


def double(x: int) -> int:
    return x * 2


def doubled(function: Callable[[int], int]) -> Callable[[int], int]:
    return lambda x: function(function(x))


class Base:
    name = "base"


def module(x: int) -> Any:
    class A:
        root = math.sqrt(x)

    return A.root


def helper(x: int) -> Any:
    class A:
        four_times = double(double(x))

    return A.four_times


def builtin_of_a_global(_: int) -> Any:
    class Thread(threading.Thread):
        show = functools.partial(str, LIMIT)

    return Thread().show()


def nested_bodies(x: int) -> Any:
    class Outer:
        class Inner(Base):
            values = [double(LIMIT + y) for y in range(x)]
            found = dict.fromkeys((LIMIT, x), math.pi)

    return Outer.Inner.values, sorted(Outer.Inner.found), Outer.Inner.name


def defaults_and_decorators(x: int) -> Any:
    class A:
        @doubled
        def up(y: int) -> int:  # type: ignore[misc]
            return y + LIMIT

        def down(self, by: int = LIMIT, *, times: Callable[[int], int] = double) -> int:
            return times(x - by)

    return A.up(x), A().down()


def fields(x: int) -> Any:
    @dataclasses.dataclass
    class Point:
        x: int = LIMIT
        found: list[int] = dataclasses.field(default_factory=list)

    return Point(x).x, Point().x, Point().found


def conditional(x: int) -> Any:
    class A:
        if x > 1000:
            LIMIT = 0
        limit = LIMIT

    return A.limit


def own_name(_: int) -> Any:
    class A:
        # The body's own: the lock of that name cannot be sent, and need not be.
        values = [x for x in range(3) if x > 1]
        unsendable = values[0] + 3
        more = unsendable + 1

        @property
        def counts(self) -> int:
            return self.more

        @counts.setter
        def counts(self, value: int) -> None:
            self.more = value

    a = A()
    a.counts = 9
    return a.counts


def handled(_: int) -> Any:
    class A:
        try:  # noqa: SIM105
            LIMIT = {0: 0}[1]
        except KeyError:
            pass
        limit = LIMIT

    return A.limit


def same_name(_: int) -> Any:
    class A:
        LIMIT = LIMIT + 1

    return A.LIMIT


def submodules(_: int) -> Any:
    class A:
        make = xml.dom.minidom.parseString

    def escaped() -> Any:
        return xml.sax.saxutils.escape("<")

    return A.make("<a/>").toxml(), escaped()


def method(x: int) -> Any:
    return WithMethod().make(x)


class WithMethod:
    def make(self, x: int) -> int:
        class A:
            limit = double(LIMIT)

        return A.limit + x


def changed_global(_: int) -> Any:
    class A:
        seen = number

    return A.seen


def state(x: int) -> Any:
    class A:
        added = counts.append(x)  # type: ignore[func-returns-value]
        seen = len(counts)

    return A.seen


FUNCTIONS: tuple[Callable[[int], Any], ...] = (
    module, helper, builtin_of_a_global, nested_bodies, defaults_and_decorators, fields, conditional, handled, own_name,
    same_name, submodules, method, lambda x: module(x) + method(x),
)  # fmt: skip


def in_a_nested_client(function: Callable[[int], Any], x: int) -> Any:
    with Client() as client:
        return client.submit(function, x).result()


def answers(client: Client, function: Callable[[int], Any]) -> dict[str, Any]:
    return {
        "submit": client.submit(function, 3).result(),
        "map": client.map(function, [3, 3])[1],
        "starmap": client.starmap(function, [(3,), (3,)])[1],
        "graph": client.get({"a": (function, 3)}, ["a"])["a"],
        "argument": client.submit(lambda call: call(3), function).result(),
    }


def main() -> None:
    global number
    problems: dict[str, Any] = {}
    in_process = sys.argv[1] == "in process"
    with open_cluster(sys.argv[1]) as address, Client(address) as client:
        for function in FUNCTIONS:
            expected = function(3)
            try:
                found = answers(client, function)
                if not in_process:
                    found["nested"] = client.submit(in_a_nested_client, function, 3).result()
            except Exception as error:
                problems[function.__name__] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            if any(answer != expected for answer in found.values()):
                problems[function.__name__] = found
        for number in (1, 2, 3):
            found = answers(client, changed_global)
            if set(found.values()) != {number}:
                problems[f"changed global {number}"] = found
        kept = [client.submit(state, 0).result() for _ in range(3)] + client.map(state, [0] * 3)
        if kept != [1] * 6 or counts:
            problems["state"] = kept
    print(json.dumps(problems))


if __name__ == "__main__":
    main()
