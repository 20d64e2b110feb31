"""The callables of the table: each a name and a function that makes it and the arguments of its four calls.

Every call is answered as by a fresh copy: what one call changes is not seen by the next.
"""

from __future__ import annotations

import collections
import functools
import math
import operator
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Calling(NamedTuple):
    """What is called four times."""

    function: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}


Maker = Callable[[], Calling]


def callables(user: Any) -> dict[str, Maker]:
    """Return all callables; `user` is the module that has the user's classes and functions."""
    return {**_functions(user), **_builtins(), **_by_value(user), **_stateful(user), **_arguments(user)}


def _functions(user: Any) -> dict[str, Maker]:
    return {
        "function": lambda: Calling(user.plus_one, (1,)),
        "function called by keyword": lambda: Calling(user.plus_one, (), {"value": 1}),
        "default": lambda: Calling(user.with_default, (1,)),
        "default replaced": lambda: Calling(user.with_default, (1,), {"step": 2}),
        "keyword-only": lambda: Calling(user.keyword_only, (), {"value": 1}),
        "positional-only": lambda: Calling(user.positional_only, (1,)),
        "any arguments": lambda: Calling(user.any_arguments, (1, "two"), {"fn": 3, "args": 4, "self": 5}),
        "every form": lambda: Calling(user.every_form, (1, 2, 3, 4), {"third": 5, "more": 6}),
        "recursion": lambda: Calling(user.factorial, (10,)),
        "two that call each other": lambda: Calling(user.is_even, (10,)),
        "decorated": lambda: Calling(user.decorated, (1,)),
        "uses a generator": lambda: Calling(user.sum_of_generator, (5,)),
        "uses a context manager": lambda: Calling(user.uses_managed, (5,)),
        "lru_cache": lambda: Calling(user.cached, (5,)),
        "singledispatch": lambda: Calling(user.dispatched, ("text",)),
        "reads a global": lambda: Calling(user.reads_global, (3,)),
        "reads a global dictionary": lambda: Calling(user.reads_global_dictionary, (3,)),
        "makes a ctypes array": lambda: Calling(user.make_ctypes_array, (1, 2)),
        "makes a pointer": lambda: Calling(user.make_pointer),
        "makes what each process has one of": lambda: Calling(user.version_of_python),
        "makes a type of C code": lambda: Calling(user.type_of_iterator),
        "makes an array of structures": lambda: Calling(user.make_records, (1, 2)),
        "generator function": lambda: Calling(user.make_generator, (3,)),
        "coroutine function": lambda: Calling(user.coroutine, (3,)),
        "asynchronous generator function": lambda: Calling(user.async_generator, (3,)),
        "static method": lambda: Calling(user.Counter.doubled, (3,)),
        "class method": lambda: Calling(user.Counter.made, (3,)),
        "method of a class": lambda: Calling(user.Counter.increment, (user.Counter(3),)),
        "method of an enum": lambda: Calling(user.Color.RED.title),
        "class": lambda: Calling(user.Point, (1.0,), {"tags": ["a"]}),
        "class with a metaclass": lambda: Calling(user.Traced, (1,)),
        "namedtuple class": lambda: Calling(user.Pair, (1, 2)),
        "enum class": lambda: Calling(user.Color, (1,)),
        "exception class": lambda: Calling(user.ReducedError, (1, "detail")),
        "abstract class": lambda: Calling(user.Shape),
        "method of a dataclass": lambda: Calling(user.TypedPair(1).joined),
    }


def _builtins() -> dict[str, Maker]:
    return {
        "builtin without signature": lambda: Calling(max, (1, 5, 3)),
        "builtin": lambda: Calling(len, ([1, 2],)),
        "builtin with keyword": lambda: Calling(sorted, ([3, 1, 2],), {"reverse": True}),
        "builtin type": lambda: Calling(dict, (), {"a": 1}),
        "math.log": lambda: Calling(math.log, (8, 2)),
        "print": lambda: Calling(print, ("",), {"end": ""}),
        "os.path.join": lambda: Calling(os.path.join, ("a", "b")),
        "operator.add": lambda: Calling(operator.add, (1, 2)),
        "itemgetter": lambda: Calling(operator.itemgetter(1), ([1, 2, 3],)),
        "attrgetter": lambda: Calling(operator.attrgetter("real"), (5,)),
        "methodcaller": lambda: Calling(operator.methodcaller("split", "-"), ("a-b",)),
        "method descriptor": lambda: Calling(str.upper, ("text",)),
        "bound builtin method": lambda: Calling("a,b".split, (",",)),
        "class method of a builtin": lambda: Calling(int.from_bytes, (b"\x01\x02", "big")),
        "ufunc": lambda: Calling(np.add, (np.arange(3), 1)),
        "ufunc method": lambda: Calling(np.add.reduce, (np.arange(5),)),
        "numpy function": lambda: Calling(np.concatenate, (([1, 2], [3]),)),
        "partial": lambda: Calling(functools.partial(int, base=2), ("101",)),
        "partial of a partial": lambda: Calling(functools.partial(functools.partial(pow, 2), 5), (7,)),
        "functools.reduce": lambda: Calling(functools.reduce, (operator.mul, [1, 2, 3, 4])),
        "Counter": lambda: Calling(collections.Counter, ("hello",)),
    }


def _by_value(user: Any) -> dict[str, Maker]:
    """What pickle cannot name."""
    return {
        "lambda": lambda: Calling(lambda value: value + 1, (1,)),
        "lambda of a function": lambda: Calling(user.make_lambda(), (4,)),
        "lambda with default": lambda: Calling(lambda value, step=3: value + step, (1,)),
        "closure over an int": lambda: Calling(user.make_adder(5), (1,)),
        "recursive closure": lambda: Calling(user.make_recursive_closure(), (10,)),
        "closure over a list": lambda: Calling(user.make_remembering([0]), (1,)),
        "closure over an array": lambda: Calling(_adding_in_place(np.zeros(3)), (1,)),
        "closure over a large array": lambda: Calling(_adding_in_place(np.zeros(50_000)), (1,)),
        "closure over a counter": lambda: Calling(_incrementing(user.Counter(3)), ()),
        "counter with nonlocal": lambda: Calling(user.make_counter()),
        "counter in a dictionary": lambda: Calling(user.make_dictionary_counter()),
        "function with attributes": lambda: Calling(user.make_function_with_attributes()),
        "closure over an iterator": lambda: Calling(user.make_iterating()),
        "local class": lambda: Calling(user.make_local_class(), (3,)),
        "method of a local class": lambda: Calling(user.make_local_class()(3).doubled),
        "class attribute changed by its constructor": lambda: Calling(_made_count(user.make_local_class())),
        "list comprehension's lambda": lambda: Calling([lambda n=n: n for n in range(3)][1]),
        "coroutine lambda": lambda: Calling(_coroutine_closure(5)),
        "partial of a lambda": lambda: Calling(functools.partial(lambda a, b: a - b, 1), (3,)),
        "partial with a list": lambda: Calling(
            functools.partial(lambda kept, value: kept.append(value) or kept, [0]), (1,)
        ),
        "wrapped closure": lambda: Calling(user.twice(user.make_adder(3)), (1,)),
        "closure over a module": lambda: Calling(_with_module(math), (4,)),
        "closure over a class": lambda: Calling(_with_class(user.Counter), (4,)),
    }


def _adding_in_place(values: Any) -> Callable[[int], Any]:
    def add(step: int) -> Any:
        nonlocal values
        values += step
        return values

    return add


def _incrementing(counter: Any) -> Callable[[], int]:
    return lambda: int(counter.increment())


def _made_count(kind: Any) -> Callable[[], int]:
    def make() -> int:
        kind()
        return int(kind.made)

    return make


def _coroutine_closure(value: int) -> Callable[[], Any]:
    async def run() -> int:
        return value

    return run


def _with_module(module: Any) -> Callable[[float], float]:
    return lambda value: float(module.sqrt(value))


def _with_class(kind: Any) -> Callable[[int], Any]:
    return lambda value: kind(value)


def _stateful(user: Any) -> dict[str, Maker]:
    """What would remember, were the same copy called again."""
    return {
        "bound method": lambda: Calling(user.Counter(0).increment),
        "bound method that gives its object": lambda: Calling(user.Counter(0).itself),
        "callable object": lambda: Calling(user.Counter(10), (2,)),
        "list.append": lambda: Calling([1].append, (2,)),
        "list.pop": lambda: Calling([1, 2, 3, 4].pop),
        "dict.setdefault": lambda: Calling({"a": 1}.setdefault, ("b", 2)),
        "deque.popleft": lambda: Calling(collections.deque([1, 2, 3, 4]).popleft),
        "iterator's next": lambda: Calling(iter([1, 2, 3, 4]).__next__),
        "next of an iterator": lambda: Calling(next, (iter([1, 2, 3, 4]),)),
        "partial with a list of a function": lambda: Calling(functools.partial(user.append_one, [0])),
        "partial with an array": lambda: Calling(functools.partial(user.add_in_place, np.zeros(3))),
        "partial with a large array": lambda: Calling(functools.partial(user.add_in_place, np.zeros(50_000))),
        "partial of a bound method": lambda: Calling(functools.partial(user.Counter(0).__call__, 3)),
        "methods in a tuple": lambda: Calling(functools.partial(_call_both, (user.Counter(0).increment, [].append))),
        "random generator's method": lambda: Calling(np.random.default_rng(3).integers, (1000,)),
        "object with slots": lambda: Calling(functools.partial(_swap, user.Slotted(1, 2))),
    }


def _call_both(functions: tuple[Any, Any]) -> Any:
    functions[1](1)
    return functions[0](), functions[1].__self__


def _swap(slotted: Any) -> tuple[Any, Any]:
    slotted.left, slotted.right = slotted.right, slotted.left
    return slotted.left, slotted.right


def _arguments(user: Any) -> dict[str, Maker]:
    """Arguments that a call changes: the next one gets them as they were submitted."""
    return {
        "changes a list": lambda: Calling(user.append_one, ([0],)),
        "changes a large list": lambda: Calling(user.append_one, (_large_list(),)),
        "changes a dictionary": lambda: Calling(user.set_item, ({"n": 0},)),
        "changes an array": lambda: Calling(user.add_in_place, (np.zeros(3),)),
        "changes an array of 56 KiB": lambda: Calling(user.add_in_place, (np.zeros(7 * 1024),)),
        "changes a large array": lambda: Calling(user.add_in_place, (np.zeros(50_000),)),
        "changes a very large array": lambda: Calling(user.add_in_place, (np.zeros(200_000),)),
        "changes a bytearray": lambda: Calling(_set_first, (bytearray(70_000),)),
        "changes an object": lambda: Calling(_incremented, (user.Counter(5),)),
        "same list twice": lambda: Calling(_are_one, (shared := [1], shared)),
        "same large list twice": lambda: Calling(_are_one, (shared := _large_list(), shared)),
        "same array twice": lambda: Calling(_are_one, (shared := np.zeros(5), shared)),
        "same large array twice": lambda: Calling(_are_one, (shared := np.zeros(50_000), shared)),
        "same list by keyword": lambda: Calling(_are_one, (shared := [1],), {"right": shared}),
        "list inside another argument": lambda: Calling(_is_inside, (shared := [1], {"a": shared})),
        "list inside another argument, beside a large one": lambda: Calling(
            _is_inside, (shared := [1], {"a": shared}, bytes(100_000))
        ),
    }


def _large_list() -> list[int]:
    """Pickled it takes 300 KB, more than travels inline, with few items: each is described, and looked at in graphs."""
    return list(range(1 << 62, (1 << 62) + 30_000))


def _set_first(values: bytearray) -> bytes:
    values[0] += 1
    return bytes(values[:3])


def _incremented(counter: Any) -> tuple[int, list[int]]:
    return counter.increment(), counter.history


def _are_one(left: Any, right: Any) -> bool:
    return left is right


def _is_inside(value: Any, container: dict[str, Any], *_: Any) -> bool:
    return container["a"] is value
