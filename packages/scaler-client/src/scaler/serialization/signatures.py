"""Whether a function takes some arguments, found out before they are sent.

Only of functions written in Python is it certain what they take; of everything else nothing is said. Python itself decides:
a function without a body that has the same parameters is called. What a signature merely claims (`__signature__`,
`__wrapped__`, annotations) does not matter, only what a call would do.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

Check = Callable[..., object]
"""Raises TypeError, in Python's own words, for arguments that the function does not take."""

_LEVELS_MAX = 20


def _nothing() -> None:
    return None


_NOTHING_CODE = _nothing.__code__
_VARIABLE = inspect.CO_VARARGS, inspect.CO_VARKEYWORDS


def check_of(function: Any, levels: int = _LEVELS_MAX) -> Check | None:
    """Return what tells whether `function` takes arguments, or None where that is not known."""
    if type(function) is types.FunctionType:
        return _without_body(function)
    if levels == 0:
        return None
    if type(function) is types.MethodType:
        return _bound(function.__func__, levels)
    if type(function) is functools.partial:
        check = check_of(function.func, levels - 1)
        # Placeholders stand for what the partial holds: it is not to be kept alive.
        return check and functools.partial(check, *[None] * len(function.args), **dict.fromkeys(function.keywords))
    try:
        if isinstance(function, type):
            return _check_of_class(function, levels)
        call = _found(type(function), "__call__")
    except Exception:
        # Classes may answer in any way they like, or not at all.
        return None
    return _bound(call, levels) if type(call) is types.FunctionType else None


def _bound(function: Any, levels: int) -> Check | None:
    check = check_of(function, levels - 1)
    return check and functools.partial(check, None)


def _check_of_class(made: type, levels: int) -> Check | None:
    """An ordinary class hands its arguments to `__init__`, and only there are they looked at."""
    if _found(type(made), "__call__") is not type.__call__ or _found(made, "__new__") is not object.__new__:
        return None
    initialize = _found(made, "__init__")
    return _bound(initialize, levels) if type(initialize) is types.FunctionType else None


def _found(owner: type, name: str) -> Any:
    """Return what a class has under a name, looked up as Python does for special methods."""
    for base in type.__dict__["__mro__"].__get__(owner):
        namespace = type.__dict__["__dict__"].__get__(base)
        if name in namespace:
            found = namespace[name]
            return found.__func__ if type(found) is staticmethod else found
    return None


def _without_body(function: types.FunctionType) -> types.FunctionType:
    """Return a function with the same parameters that does nothing."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount + sum(bool(code.co_flags & flag) for flag in _VARIABLE)
    names = code.co_varnames[:count]
    flags = _NOTHING_CODE.co_flags | (code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS))
    empty = _NOTHING_CODE.replace(
        co_argcount=code.co_argcount,
        co_posonlyargcount=code.co_posonlyargcount,
        co_kwonlyargcount=code.co_kwonlyargcount,
        co_nlocals=count,
        co_varnames=names,
        co_flags=flags,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
    )
    check = types.FunctionType(empty, {}, function.__name__)
    check.__qualname__ = function.__qualname__
    check.__defaults__ = None if function.__defaults__ is None else (None,) * len(function.__defaults__)
    check.__kwdefaults__ = dict.fromkeys(function.__kwdefaults__) if function.__kwdefaults__ else None
    return check
