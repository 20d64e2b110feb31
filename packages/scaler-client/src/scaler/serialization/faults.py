"""Finds what it is inside a value that cannot be pickled, so that the error can name it. Only used when pickling failed."""

from __future__ import annotations

import functools
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from scaler.serialization.code_effects import global_names
from scaler_protocol.payloads import by_value
from scaler_protocol.runtime.names import name_of, shown, shown_error, shown_type

_DEPTH_MAX = 50
_SECONDS = 2.0
"""Looking costs about as much as pickling. It is given up then, and the error names what was found until there."""

_TOO_DEEP = "it is nested too deeply to be pickled"

Dump = Callable[[Any], object]


def explain(what: str, value: Any, error: BaseException, dump: Dump | None = None) -> str:
    """Return one sentence: `what` (such as "argument 1 of f") cannot be serialized, because of which part of `value`.

    `dump` raises for what cannot be serialized; by default `by_value` pickles.
    """
    if _is_too_deep(error):
        return f"{what} cannot be serialized: {_TOO_DEEP}"
    path, culprit, cause = _find(value, error, dump or _dump)
    if isinstance(culprit, Future):
        subject = f"{what} is" if not path else f"{what} cannot be serialized: {_joined(path)} is"
        return f"{subject} a future, {shown(culprit)}; call .result() first"
    if not path:
        return f"{what} cannot be serialized: {_reason(culprit, cause)}"
    return f"{what} cannot be serialized: {_joined(path)} is a {shown_type(culprit)}: {_reason(culprit, cause)}"


def _reason(culprit: Any, cause: BaseException) -> str:
    hint = ""
    if isinstance(culprit, types.GeneratorType | types.AsyncGeneratorType):
        hint = "; make a list of what it yields"
    return shown_error(cause) + hint


def _find(value: Any, error: BaseException, dump: Dump) -> tuple[list[str], Any, BaseException]:
    """Return the path to the innermost part that fails, that part, and its error."""
    deadline = time.monotonic() + _SECONDS
    path: list[str] = []
    seen = {id(value)}
    for _ in range(_DEPTH_MAX):
        if isinstance(value, Future):
            break
        for step, part in _parts(value):
            if id(part) in seen:
                continue
            seen.add(id(part))
            try:
                dump(part)
            except Exception as cause:
                if _is_too_deep(cause):
                    return path, value, error
                path.append(step)
                value, error = part, cause
                break
            if time.monotonic() > deadline:
                return path, value, error
        else:
            break
    return path, value, error


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (step of a path, part) of everything that is pickled with `value`."""
    kind = type(value)
    try:
        if kind is types.FunctionType:
            yield from _parts_of_function(value)
        elif kind is types.MethodType:
            yield f"the object of the method {name_of(value)}", value.__self__
            yield f"the function of the method {name_of(value)}", value.__func__
        elif isinstance(value, functools.partial):
            yield "the function of the partial", value.func
            yield from ((f"argument {position + 1} of the partial", part) for position, part in enumerate(value.args))
            yield from ((f"argument {shown(name)} of the partial", part) for name, part in value.keywords.items())
        elif isinstance(value, list | tuple):
            yield from ((f"[{position}]", part) for position, part in enumerate(value))
        elif isinstance(value, dict):
            yield from ((f"[{shown(key)}]", part) for key, part in value.items())
            yield from ((f"the key {shown(key)}", key) for key in value)
        elif isinstance(value, set | frozenset):
            yield from (("an element", part) for part in value)
        elif isinstance(value, type):
            yield from ((f".{name}", part) for name, part in vars(value).items() if not name.startswith("__"))
        else:
            yield from _parts_of_object(value)
    except Exception:
        # It does not let itself be looked into: then it is what cannot be pickled.
        return


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    name = name_of(function)
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"the variable {variable!r} that {name} takes from around it", cell.cell_contents
        except ValueError:
            # Not assigned yet.
            continue
    for variable in sorted(global_names(function.__code__)):
        if variable in function.__globals__:
            yield f"the global variable {variable!r} of {name}", function.__globals__[variable]
    code = function.__code__
    defaults = function.__defaults__ or ()
    with_default = code.co_varnames[: code.co_argcount][code.co_argcount - len(defaults) :]
    yield from (
        (f"the default of {each!r} of {name}", part) for each, part in zip(with_default, defaults, strict=False)
    )
    for each, part in (function.__kwdefaults__ or {}).items():
        yield f"the default of {each!r} of {name}", part
    yield from ((f"the attribute {each!r} of {name}", part) for each, part in vars(function).items())


def _parts_of_object(value: Any) -> Iterator[tuple[str, Any]]:
    """What the object itself says it is pickled as."""
    reduced = value.__reduce_ex__(5)
    if not isinstance(reduced, tuple):
        return
    arguments = reduced[1] if len(reduced) > 1 else ()
    state = reduced[2] if len(reduced) > 2 else None
    # Slots come as (attributes, slots).
    for states in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        if isinstance(states, dict):
            yield from ((f".{name}", part) for name, part in states.items())
        elif states is not None:
            yield "its state", states
    # The class itself comes first where it is made by `copyreg.__newobj__`.
    yield from (("what it is made from", part) for part in arguments if not isinstance(part, type))
    if len(reduced) > 3 and reduced[3] is not None:
        yield from ((f"[{position}]", part) for position, part in enumerate(reduced[3]))
    if len(reduced) > 4 and reduced[4] is not None:
        yield from ((f"[{shown(key)}]", part) for key, part in reduced[4])


def _joined(path: list[str]) -> str:
    """Return a path: what begins with a bracket or a dot belongs to the word before it."""
    text = ""
    for step in path:
        glued = step.startswith((".", "["))
        text += step if not text or glued else f", {step}"
    return text


def _is_too_deep(error: BaseException) -> bool:
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


class _Nowhere:
    """A file whose content nobody needs."""

    def write(self, data: Any) -> int:
        return len(data)


def _dump(value: Any) -> None:
    by_value.Pickler(_Nowhere(), by_value.PROTOCOL, buffer_callback=lambda _: None).dump(value)
