"""Pickles of functions are reused only while they say what a new one would: attempts to catch a stale one."""

from __future__ import annotations

import gc
import math
import pickle
import types
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from scaler.serialization.arguments import Packer
from scaler.serialization.functions import FunctionCache, is_importable
from scaler.serialization.pickled import Packed, Pickled
from scaler_protocol.ids import content_id
from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.framing import unframe_function


def no_arguments(*_: Any) -> Packed:
    return Packed(b"")


class Cache:
    """Counts how often functions are pickled; runs what was pickled."""

    def __init__(self) -> None:
        self.made = 0
        self.cache = FunctionCache(self._make)

    def _make(self, function: Any, tag: bytes) -> Pickled:
        self.made += 1
        body = tag + b"P" + cloudpickle.dumps(function)
        return Pickled(content_id(body), body, (), "", no_arguments)

    def run(self, function: Any, *args: Any) -> Any:
        return pickle.loads(unframe_function(self.cache.get(function).body)[1][1:])(*args)


@pytest.fixture
def cache() -> Cache:
    return Cache()


def main_function(source: str, **names: Any) -> Any:
    """Define `f` as a program's `__main__` would, in a namespace of its own."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace["f"]


def namespace_of(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = function.__globals__
    return found


def test_importable_functions_are_pickled_once(cache: Cache) -> None:
    for _ in range(3):
        assert cache.run(math.sqrt, 16) == 4
        assert cache.run(max, 1, 2) == 2
        assert cache.run(dict, a=1) if False else cache.run(dict) == {}
        assert cache.run(content_id, b"x") == content_id(b"x")
    assert cache.made == 4


def test_a_pure_function_of_main_is_pickled_once(cache: Cache) -> None:
    f = main_function("def f(x, y=2, *, z=(3, 'a')):\n return x + y + z[0]")
    assert [cache.run(f, 1) for _ in range(3)] == [6, 6, 6]
    assert cache.made == 1


def test_a_changed_global_of_a_class_body_shows() -> None:
    made: list[bytes] = []

    def make(function: Any, tag: bytes) -> Pickled:
        made.append(by_value.dumps(function))
        return Pickled(content_id(made[-1]), tag + made[-1], (), "", no_arguments)

    cache = FunctionCache(make)
    f = main_function("k = 1\ndef f():\n class A:\n  class B: n = k\n return A.B.n")
    found = []
    for namespace_of(f)["k"] in (1, 1, 2, 2):
        found.append(pickle.loads(cache.get(f).body)())
    assert found == [1, 1, 2, 2]
    assert len(made) == 2


def test_a_changed_cell_shows(cache: Cache) -> None:
    value = 1

    def f() -> int:
        return value

    assert cache.run(f) == 1
    assert cache.run(f) == 1
    assert cache.made == 1
    value = 2
    assert cache.run(f) == 2


def test_a_mutable_cell_is_never_reused(cache: Cache) -> None:
    values = [1]

    def f() -> list[int]:
        return values

    assert cache.run(f) == [1]
    values.append(2)
    assert cache.run(f) == [1, 2]


def test_a_cell_without_value_yet(cache: Cache) -> None:
    def f() -> Any:
        try:
            return later
        except NameError:
            return None

    assert cache.run(f) is None
    later = 5
    assert cache.run(f) == 5


def test_a_changed_global_shows(cache: Cache) -> None:
    f = main_function("def f():\n return g", g=1)
    assert (cache.run(f), cache.run(f), cache.made) == (1, 1, 1)
    namespace_of(f)["g"] = 2
    assert cache.run(f) == 2


def test_a_mutable_global_is_never_reused(cache: Cache) -> None:
    f = main_function("def f():\n return g", g={"k": 1})
    assert cache.run(f) == {"k": 1}
    namespace_of(f)["g"]["k"] = 2
    assert cache.run(f) == {"k": 2}


def test_a_global_defined_later_shows(cache: Cache) -> None:
    f = main_function("def f():\n return g()")
    with pytest.raises(NameError):
        cache.run(f)
    exec("def g():\n return 7", namespace_of(f))
    assert cache.run(f) == 7


def test_a_shadowed_builtin_shows(cache: Cache) -> None:
    f = main_function("def f(x):\n return len(x)")
    assert cache.run(f, "abc") == 3
    exec("def len(x):\n return -1", namespace_of(f))
    assert cache.run(f, "abc") == -1


def test_a_changed_function_behind_the_function_shows(cache: Cache) -> None:
    f = main_function("def g():\n return 1\ndef f():\n return g()")
    assert (cache.run(f), cache.run(f), cache.made) == (1, 1, 1)
    exec("def g():\n return 2", namespace_of(f))
    assert cache.run(f) == 2


def test_what_the_function_behind_captures_shows(cache: Cache) -> None:
    f = main_function("h = 1\ndef g():\n return h\ndef f():\n return g()")
    assert cache.run(f) == 1
    namespace_of(f)["h"] = 2
    assert cache.run(f) == 2
    namespace_of(f)["h"] = [3]
    assert cache.run(f) == [3]
    namespace_of(f)["h"].append(4)
    assert cache.run(f) == [3, 4]


def test_names_inside_inner_functions_are_seen(cache: Cache) -> None:
    f = main_function("def f():\n return [g * i for i in (1, 2)], (lambda: g)()", g=1)
    assert cache.run(f) == ([1, 2], 1)
    namespace_of(f)["g"] = 2
    assert cache.run(f) == ([2, 4], 2)


def test_changed_defaults_show(cache: Cache) -> None:
    f = main_function("def f(x=1, *, y=1):\n return x, y")
    assert cache.run(f) == (1, 1)
    f.__defaults__ = (2,)
    assert cache.run(f) == (2, 1)
    f.__kwdefaults__["y"] = 3
    assert cache.run(f) == (2, 3)
    f.__kwdefaults__ = {"y": 4}
    assert cache.run(f) == (2, 4)


def test_changed_names_and_texts_show(cache: Cache) -> None:
    f = main_function("def f():\n return f.__name__, f.__qualname__, f.__module__, f.__doc__")
    namespace_of(f)["f"] = f
    assert cache.run(f) == ("f", "f", "__main__", None)
    for number, name in enumerate(("__name__", "__qualname__", "__doc__")):
        setattr(f, name, f"other {number}")
        assert cache.run(f) == (f.__name__, f.__qualname__, "__main__", f.__doc__)


def test_a_mutable_default_is_never_reused(cache: Cache) -> None:
    f = main_function("def f(x=[]):\n return x")
    assert cache.run(f) == []
    f.__defaults__[0].append(1)
    assert cache.run(f) == [1]


def test_changed_code_shows(cache: Cache) -> None:
    f = main_function("def f():\n return 1")
    assert cache.run(f) == 1
    f.__code__ = main_function("def f():\n return 2").__code__
    assert cache.run(f) == 2


def test_a_changed_attribute_shows(cache: Cache) -> None:
    f = main_function("def f():\n return f.scale")
    f.scale = 1
    assert cache.run(f) == 1
    f.scale = 2
    assert cache.run(f) == 2
    f.scale = [3]
    assert cache.run(f) == [3]
    f.scale.append(4)
    assert cache.run(f) == [3, 4]


def test_objects_with_methods_are_never_reused(cache: Cache) -> None:
    class Scale:
        factor = 1

        def apply(self, x: int) -> int:
            return self.factor * x

    scale = Scale()
    assert cache.run(scale.apply, 5) == 5
    scale.factor = 2
    assert cache.run(scale.apply, 5) == 10


def test_a_captured_class_of_main_is_never_reused(cache: Cache) -> None:
    class Settings:
        level = 1

    def f() -> int:
        return Settings.level

    assert cache.run(f) == 1
    assert cache.cache.get(f).body == cache.cache.get(f).body
    assert cache.made == 3


def test_recursion_is_no_obstacle(cache: Cache) -> None:
    f = main_function("def f(n):\n return n * f(n - 1) if n else 1")
    assert (cache.run(f, 5), cache.run(f, 5), cache.made) == (120, 120, 1)


def test_modules_are_captured_by_name(cache: Cache) -> None:
    f = main_function("def f(x):\n return math.sqrt(x)", math=math)
    assert (cache.run(f, 4), cache.run(f, 4), cache.made) == (2, 2, 1)


def test_a_tuple_with_something_mutable_inside_is_never_reused(cache: Cache) -> None:
    inner: list[int] = []
    f = main_function("def f():\n return g", g=(1, inner))
    assert cache.run(f) == (1, [])
    inner.append(2)
    assert cache.run(f) == (1, [2])


def test_modules_registered_by_value_are_never_reused(cache: Cache) -> None:
    module = types.ModuleType("edited_module")
    exec("level = 1\ndef f():\n return level", module.__dict__)
    import sys

    sys.modules["edited_module"] = module
    try:
        cloudpickle.register_pickle_by_value(module)
        assert cache.run(module.f) == 1
        module.level = 2  # type: ignore[attr-defined]
        assert cache.run(module.f) == 2
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules["edited_module"]


def test_equal_content_has_one_name(cache: Cache) -> None:
    make: Callable[[], Any] = lambda: main_function("def f(x):\n return x + 1")  # noqa: E731
    assert cache.cache.get(make()).function_id == cache.cache.get(make()).function_id


def test_functions_are_not_kept_alive(cache: Cache) -> None:
    f = main_function("def f(x):\n return x")
    cache.run(f, 1)
    reference = weakref.ref(f)
    namespace_of(f).clear()
    del f
    gc.collect()
    assert reference() is None


def test_many_functions_do_not_pile_up(cache: Cache) -> None:
    functions = [main_function("def f(x):\n return x") for _ in range(4_000)]
    for f in functions:
        cache.run(f, 1)
    assert cache.run(functions[0], 3) == 3
    assert len(cache.cache._entries) <= 2_048


def test_what_counts_as_importable() -> None:
    assert is_importable(math.sqrt)
    assert is_importable(dict)
    assert is_importable(Packer)
    assert not is_importable(lambda: None)
    assert not is_importable([].append)
    assert not is_importable(main_function("def f():\n pass"))
