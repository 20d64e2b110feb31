"""What carries state is restored for each call, or found to be just as it was restored."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.by_value.classes import set_scope
from scaler_worker.processor.unchanged import Restoring

_scope = 0


@pytest.fixture(autouse=True)
def scopes() -> Iterator[None]:
    """Each call has a scope of its own, as in a processor."""
    set_scope(lambda: _scope)
    yield
    set_scope(bool)


class Calls:
    """A function of a program, restored and called as a processor does."""

    def __init__(self, source: str) -> None:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(source, namespace)
        self.pickled = by_value.dumps(namespace["f"])
        # The classes are to be made from the pickle, not found here.
        del namespace
        gc.collect()
        self.loads = 0
        self._restoring = Restoring(self._load)

    def _load(self) -> Callable[..., Any]:
        self.loads += 1
        loaded: Callable[..., Any] = pickle.loads(self.pickled)
        return loaded

    def call(self) -> Any:
        global _scope
        _scope += 1
        return self._restoring.function()()

    def answers(self) -> list[Any]:
        return [self.call() for _ in range(4)]


WATCHED = {
    "class": "class C:\n x = 1\n def m(self):\n  self.y = 2\n  return self.y\ndef f():\n return C().m()",
    "dataclass": "from dataclasses import dataclass\n"
    "@dataclass\nclass C:\n x: int = 2\ndef f():\n C()\n repr(C())\n return C().x",
    "subclass": "class B:\n def m(self):\n  return 2\n"
    "class C(B):\n def m(self):\n  return super().m()\ndef f():\n return C().m()",
    "kinds of methods": "class C:\n @staticmethod\n def s(): return 1\n @classmethod\n def c(cls): return cls.s()\n"
    " @property\n def p(self): return self.c() + 1\ndef f():\n return C().p",
    "enum": "import enum\nclass E(enum.Enum):\n A = 1\n B = 2\n def m(self): return self.value\ndef f():\n return E.B.m()",
    "slots": "class C:\n __slots__ = ('a',)\ndef f():\n c = C()\n c.a = 2\n return c.a",
    "empty list": "items = []\ndef f():\n return len(items) + 2",
    "class as function": "class f:\n def __init__(self): pass\n def __eq__(self, other): return other == 2",
}

CHANGED = {
    "class attribute": "class C:\n n = 1\ndef f():\n C.n += 1\n return C.n",
    "new class attribute": "class C: pass\ndef f():\n C.n = getattr(C, 'n', 1) + 1\n return C.n",
    "deleted class attribute": "class C:\n n = 1\ndef f():\n n = getattr(C, 'n', 0) + 1\n if n == 2: del C.n\n return n",
    "method": "class C:\n def m(self): return 2\ndef f():\n n = C().m()\n C.m = lambda self: 3\n return n",
    "attribute of a base": "class B:\n n = 1\nclass C(B): pass\ndef f():\n B.n += 1\n return C.n",
    "attribute of a member": "import enum\n"
    "class E(enum.Enum):\n A = 1\ndef f():\n E.A.n = getattr(E.A, 'n', 1) + 1\n return E.A.n",
    "global": "class C: pass\nn = 1\ndef f():\n global n\n n += 1\n return n",
    "cell": "def make():\n n = 1\n def f():\n  nonlocal n\n  n += 1\n  return n\n return f\nf = make()",
    "own attribute": "def f():\n f.n = getattr(f, 'n', 1) + 1\n return f.n",
    "own default": "def f(n=2):\n f.__defaults__ = (n + 1,)\n return n",
    "own keyword default": "def f(*, n=2):\n f.__kwdefaults__['n'] = 3\n return n",
    "global of a method": "n = 1\nclass C:\n def m(self):\n  global n\n  n += 1\n  return n\ndef f():\n return C().m()",
    "list": "items = [1]\ndef f():\n items.append(1)\n return len(items)",
    "empty list": "items = []\ndef f():\n items.extend((1, 1))\n return len(items)",
    "list in a class": "class C:\n items = [1]\ndef f():\n C.items.append(1)\n return len(C.items)",
    "object": "class C:\n n = 1\nc = C()\ndef f():\n c.n += 1\n return c.n",
    "metaclass": "class M(type):\n n = 1\nclass C(metaclass=M): pass\ndef f():\n M.n += 1\n return C.n",
}


@pytest.mark.parametrize("name", WATCHED)
def test_what_nobody_has_changed_is_restored_once(name: str) -> None:
    calls = Calls(WATCHED[name])
    assert calls.answers() == [2] * 4
    assert calls.loads <= 2, "the second time because of what pickling or calling notes in a class"


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_call_has_changed_is_restored_for_the_next(name: str) -> None:
    calls = Calls(CHANGED[name])
    assert calls.answers() == [2] * 4
    assert [calls.call() for _ in range(20)] == [2] * 20, "also when it is not looked at any more"


def test_a_class_that_another_task_brings_otherwise_is_restored() -> None:
    global _scope
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class C:\n n = 2\ndef f():\n return C.n\ndef g():\n return C.n", namespace)
    first = by_value.dumps(namespace["f"])
    namespace["C"].n = 3
    second = by_value.dumps(namespace["g"])
    namespace.clear()
    gc.collect()
    old, new = Restoring(lambda: pickle.loads(first)), Restoring(lambda: pickle.loads(second))
    for _ in range(3):
        for restoring, expected in ((old, 2), (new, 3), (old, 2), (old, 2)):
            _scope += 1
            assert restoring.function()() == expected


def test_a_result_does_not_change_a_class_while_a_function_that_was_kept_runs() -> None:
    calls = Calls("class C:\n n = 2\n def m(self): return self.n\ndef f():\n return C")
    cls = calls.call()
    old = by_value.dumps(cls())
    cls.n = 3
    assert calls.call() is cls
    assert cls.n == 2
    calls.call()
    cls.n = 2
    pickle.loads(old)
    assert calls.loads == 2
    assert cls.n == 2
