"""`__main__` as a task sees it whose function is of its program's `__main__`.

Such functions and classes travel by value: where they run, `__main__` is another module. But programs look things up there by
name. `pickle` does, also for `multiprocessing`, and so do `mock.patch`, type hints and `import __main__`. So while such a
function runs, `__main__` has what travelled with it: the names that its code mentions. Before and after, it is what it was, so
that results are pickled by value.

What a call sets there is taken back when it ends, because the next call may be of the same restored function.

A process that runs one task at a time calls `install` once; elsewhere nothing is changed.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import CoroutineType, FunctionType, MethodType, ModuleType
from typing import Any

from scaler_protocol.runtime.coroutines import completed

_MAIN = "__main__"
_MISSING: Any = object()
_LAYERS_MAX = 16
"""So many partials and decorators are looked through."""


class _Lent:
    """What `__main__` has at present besides its own."""

    __slots__ = ("changes", "names", "spawns")

    def __init__(self) -> None:
        self.names: dict[str, Any] | None = None
        """The globals of the function that runs."""
        self.changes: list[tuple[dict[str, Any], str, Any]] = []
        """What was in the places that the task has set or deleted, in order."""
        self.spawns = False
        """Whether the task starts processes that begin with an empty `__main__`."""


_LENT = _Lent()
_installed: list[ModuleType] = []


class _Spec:
    """The specification of the real `__main__`. To ask it for its name is what `multiprocessing` does before it spawns.

    A spawned process has nothing of what is lent here, and one that cannot restore what it gets may never answer. So for the
    rest of the call nothing is found any more, and whoever pickles gets an error at once.
    """

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    @property
    def name(self) -> Any:
        _LENT.spawns = _LENT.names is not None
        return getattr(self._spec, "name", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_spec"], name)


class _MainModule(ModuleType):
    """In place of `__main__`: has what is lent, and else what the real one has."""

    def __getattr__(self, name: str) -> Any:
        names = _LENT.names
        if names is not None and name in names and not _LENT.spawns:
            return names[name]
        try:
            return getattr(_installed[0], name)
        except AttributeError:
            raise AttributeError(f"module {_MAIN!r} has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        names = _LENT.names
        if names is None:
            setattr(_installed[0], name, value)
        else:
            _LENT.changes.append((names, name, names.get(name, _MISSING)))
            names[name] = value

    def __delattr__(self, name: str) -> None:
        names = _LENT.names
        if names is None or name not in names:
            delattr(_installed[0], name)
        else:
            _LENT.changes.append((names, name, names.pop(name)))

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        # Those who pickle modules know them by their type, which is another one here.
        return importlib.import_module, (_MAIN,)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        own, names = vars(_installed[0]), _LENT.names
        # A copy: what is written to it would stay for the next call.
        return own if names is None or _LENT.spawns else {**own, **names}


def install() -> None:
    """Put in place of this process's `__main__` one that can lend. Called once or more, before tasks run."""
    real = sys.modules.get(_MAIN)
    if _installed or real is None:
        return
    module = _MainModule(_MAIN)
    _installed.append(real)
    own = _own_names(module)
    # What every module has of its own: the rest is looked up in the real one.
    own.clear()
    own["__name__"] = _MAIN
    own["__spec__"] = _Spec(getattr(real, "__spec__", None))
    sys.modules[_MAIN] = module


def _own_names(module: ModuleType) -> dict[str, Any]:
    """Return a module's own dictionary, whatever its class says of it."""
    found: dict[str, Any] = vars(ModuleType)["__dict__"].__get__(module)
    return found


def lending(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `function` while `__main__` has what travelled with it.

    That is `function` itself where it is none of a program's `__main__`. Coroutines are awaited within.
    """
    names = _names_of(function) if _installed else None
    if names is None:
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        _LENT.names = names
        try:
            value = function(*args, **kwargs)
            return completed(value) if type(value) is CoroutineType else value
        finally:
            _LENT.names = None
            if _LENT.changes or _LENT.spawns:
                take_back()

    return call


def take_back() -> None:
    """Have `__main__` be the process's own again. Called again where an exception from outside may have come between."""
    _LENT.names = None
    _LENT.spawns = False
    while _LENT.changes:
        names, name, value = _LENT.changes.pop()
        if value is _MISSING:
            names.pop(name, None)
        else:
            names[name] = value


def _names_of(function: Any) -> dict[str, Any] | None:
    """Return the globals of a function of `__main__` that travelled by value, looking through what is around it."""
    try:
        for _ in range(_LAYERS_MAX):
            kind = type(function)
            if kind is FunctionType:
                names: dict[str, Any] = function.__globals__
                if names.get("__name__") == _MAIN and names is not vars(_installed[0]):
                    return names
            if isinstance(function, functools.partial):
                function = function.func
            elif kind is MethodType:
                function = function.__func__
            elif isinstance(function, type):
                function = next((value for value in vars(function).values() if type(value) is FunctionType), None)
            elif (wrapped := getattr(function, "__wrapped__", None)) is not None:
                function = wrapped
            elif kind is FunctionType:
                return None
            else:
                function = kind
    except Exception:
        # Some objects answer no question of this kind; they can be called nevertheless.
        return None
    return None
