"""Which functions a worker may keep between calls: those that no call can leave anything in."""

from __future__ import annotations

import functools
import logging
import math
import operator
import re
import types
from collections.abc import Iterator
from typing import Any

import cloudpickle
import numpy as np
import pytest

from scaler.serialization.functions import is_code
from scaler_protocol.ids import content_id


def main_function(source: str, **names: Any) -> Any:
    """Define `f` as a program's `__main__` would, in a namespace of its own."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace["f"]


CODE = {
    "importable": content_id,
    "builtin": max,
    "class": dict,
    "pure": main_function("def f(x, y=2, *, z=(3, 'a')):\n return x + y + z[0]"),
    "recursive": main_function("def f(n):\n return n if n < 2 else f(n - 1) + f(n - 2)"),
    "helper": main_function("def g(x):\n return x + 1\ndef f(x):\n return g(x)"),
    "module": main_function("def f(x):\n return math.sqrt(x)", math=math),
    "module in a class body": main_function("def f():\n class A: t = math.pi\n return A.t", math=math),
    "pattern": main_function("def f(x):\n return P.match(x)", P=re.compile("a")),
    "logger": main_function("def f(x):\n L.info(x)", L=logging.getLogger("x")),
    "immutable cell": main_function("def make(k):\n return lambda x: x + k\nf = make(3)"),
    "inner cells of its own": main_function("def f():\n k = 0\n def g():\n  nonlocal k\n  k += 1\n  return k\n return g() + g()"),
    "attributes of its objects": main_function("def f(x):\n x.y = 1\n return x"),
    "own annotations": main_function("def f(x: int) -> int:\n return x"),
    "partial": functools.partial(pow, 2, mod=5),
    "partial of a lambda": functools.partial(main_function("f = lambda x, y: x + y"), 1),
    "itemgetter": operator.itemgetter(1, "a"),
    "attrgetter": operator.attrgetter("a.b"),
    "methodcaller": operator.methodcaller("split", ","),
}  # fmt: skip


class Machine:
    def run(self) -> None: ...

    @classmethod
    def build(cls) -> None: ...

    def __call__(self) -> None: ...


STATE = {
    "bound method": Machine().run,
    "callable object": Machine(),
    "method of a list": [].append,
    "class by value": main_function("class f: pass"),
    "instance in a global": main_function("class C: pass\nc = C()\ndef f():\n return c"),
    "class in a global": main_function("class C: pass\ndef f():\n return C"),
    "list in a cell": main_function("def make(k):\n return lambda x: k.append(x)\nf = make([])"),
    "list in a global": main_function("items = []\ndef f():\n items.append(1)"),
    "list as default": main_function("def f(x=[]):\n x.append(1)"),
    "list as keyword default": main_function("def f(*, x=[]):\n x.append(1)"),
    "list in a tuple": main_function("items = ([],)\ndef f():\n return items"),
    "array": main_function("def f():\n a[0] += 1", a=np.zeros(1)),
    "iterator": main_function("it = iter((1, 2))\ndef f():\n return next(it)"),
    "counter in a cell": main_function(
        "def make():\n k = 0\n def f():\n  nonlocal k\n  k += 1\n return f\nf = make()"
    ),
    "counter in a cell, from within": main_function(
        "def make():\n k = 0\n def f():\n  def g():\n   nonlocal k\n   k += 1\n  g()\n  return k\n return f\nf = make()"
    ),
    "deleted cell": main_function("def make():\n k = 0\n def f():\n  nonlocal k\n  del k\n return f\nf = make()"),
    "counter in a global": main_function("n = 0\ndef f():\n global n\n n += 1"),
    "deleted global": main_function("n = 0\ndef f():\n global n\n del n"),
    "global, from within": main_function("def f():\n def g():\n  global n\n  n = 1\n g()"),
    "counter of a helper": main_function("n = 0\ndef g():\n global n\n n += 1\ndef f():\n g()"),
    "list in a global, in a class body": main_function("items = []\ndef f():\n class A: n = items.append(1)"),
    "counter in a global, in a class body": main_function("n = 0\ndef f():\n class A:\n  global n\n  n += 1"),
    "namespace": main_function("def f():\n globals()['n'] = 1"),
    "namespace of a frame": main_function("def f():\n sys._getframe().f_globals['n'] = 1", sys=__import__("sys")),
    "exec": main_function("def f():\n exec('global n; n = 1')"),
    "own attribute": main_function("def f():\n f.count += 1\nf.count = 0"),
    "own attribute made by a call": main_function("def f():\n f.count = getattr(f, 'count', 0) + 1"),
    "own attribute by setattr": main_function("def f():\n setattr(f, 'count', 1)"),
    "own dictionary": main_function("def f():\n f.__dict__['count'] = 1"),
    "own keyword defaults": main_function("def f(*, k=1):\n f.__kwdefaults__['k'] = 2"),
    "attribute of a helper": main_function("def g(): pass\ndef f():\n g.count = 1"),
    "partial with a list": functools.partial(list.append, []),
    "partial with a keyword list": functools.partial(sorted, key=[].append),
    "partial of a bound method": functools.partial(Machine().run),
    "methodcaller with a list": operator.methodcaller("append", []),
    "cached": main_function("f = lru_cache(lambda x: x)", lru_cache=functools.lru_cache),
    "module by value": main_function("def f():\n m.n = 1", m=types.ModuleType("made_up")),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_code_is_kept(name: str) -> None:
    assert is_code(CODE[name])


@pytest.mark.parametrize("name", STATE)
def test_state_is_restored_for_each_call(name: str) -> None:
    assert not is_code(STATE[name])


@pytest.fixture
def by_value() -> Iterator[None]:
    import scaler_protocol.ids as module

    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def test_functions_of_modules_that_are_pickled_by_value_are_not_code(by_value: None) -> None:
    assert not is_code(content_id)
    assert is_code(math.sqrt)
