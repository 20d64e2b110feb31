"""Functions that a program makes anew for each submit, taken apart: what they have in common is sent once.

A `functools.partial` is its function with more arguments. Closures of one `def` or `lambda`, and functions that differ in their
defaults only, have one code (see `scaler_protocol.payloads.refilled`). What makes each of them different is pickled together
with the arguments of its call.

That is done only where nobody can tell: where the rest is code in the sense of `functions`, which a worker may keep, and where
what goes with each call is so small that it need not be kept there. Everything else is one body.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cloudpickle

from scaler.serialization.functions import FunctionCache, Watch, is_importable, look_at
from scaler.serialization.pickled import Pack, Packed, Pickled
from scaler.serialization.pickling import is_tiny
from scaler.serialization.signatures import check_of
from scaler_protocol.payloads.framing import PER_CALL
from scaler_protocol.payloads.refilled import CapturedValues, RefilledFunction, emptied
from scaler_protocol.runtime.names import name_of

_TEMPLATES_MAX = 1024
_CODE = (types.FunctionType, types.BuiltinFunctionType, type)


class _Template(NamedTuple):
    """What is known of the functions of one code. Without `pickled` they are not taken apart."""

    code: weakref.ref[types.CodeType]
    first: weakref.ref[types.FunctionType]
    """The one seen first. Another one of the same code shows that they are made anew."""
    is_tried: bool = False
    pickled: Pickled | None = None
    names: tuple[str | None, ...] = ()
    may_be_importable: bool = True
    globals_id: int = 0
    defaults_count: int | None = None
    watches: tuple[Watch, ...] = ()


class CalledFunctions(FunctionCache):
    """As `FunctionCache`, for single calls: `Pickled.pack` packs the arguments of what `get` returns."""

    def __init__(self, make: Callable[[Any, bytes], Pickled], release: Callable[[Sequence[bytes]], None]) -> None:
        """`release` undoes one use of each of these objects: what names them is not used after all."""
        super().__init__(make)
        self._release = release
        self._templates: dict[int, _Template] = {}

    def _renew(self, function: Any) -> Pickled:
        kind = type(function)
        split: Pickled | None = None
        if cloudpickle.list_registry_pickle_by_value():
            # What a module registered there has may be edited between two submits.
            pass
        elif kind is functools.partial:
            split = self._split_partial(function)
        elif kind is types.FunctionType:
            split = self._split_function(function)
        return super()._renew(function) if split is None else split

    # --- partials

    def _split_partial(self, function: functools.partial[Any]) -> Pickled | None:
        args, keywords, inner = function.args, function.keywords, function.func
        if not isinstance(inner, _CODE) or function.__dict__:
            return None
        if not all(map(is_tiny, args)) or not all(map(is_tiny, keywords.values())):
            return None
        if not self.remembers(inner) and look_at(inner)[1] is None:
            return None
        pickled = self.get(inner)
        if pickled.body.startswith(PER_CALL) or pickled.objects:
            self._release(pickled.objects)
            return None
        check = pickled.check
        return pickled._replace(
            pack=functools.partial(_pack_partial, pickled.pack, args, keywords),
            check=check and functools.partial(check, *args, **keywords),
        )

    # --- closures and defaults

    def _split_function(self, function: types.FunctionType) -> Pickled | None:
        code = function.__code__
        key = id(code)
        template = self._templates.get(key)
        if template is None or template.code() is not code:
            if len(self._templates) >= _TEMPLATES_MAX:
                self._templates.pop(next(iter(self._templates)), None)
            reference = weakref.ref(code, lambda _: self._templates.pop(key, None))
            self._templates[key] = _Template(reference, weakref.ref(function))
            return None
        if not template.is_tried:
            if template.first() is function:
                return None
            template = self._templates[key] = self._made(template, function)
        pickled = template.pickled
        if pickled is None or not _is_like(template, function):
            return None
        captured = _captured_by(function)
        if captured is None:
            return None
        for watch in template.watches:
            if not watch.holds():
                # Tried again with the next one: what it refers to has changed.
                self._templates[key] = _Template(template.code, weakref.ref(function))
                return None
        if captured == ((), None):
            return pickled
        return pickled._replace(pack=functools.partial(_pack_captured, pickled.pack, captured))

    def _made(self, template: _Template, function: types.FunctionType) -> _Template:
        """Return the template with what all functions like this one have in common, if that is code."""
        template = template._replace(is_tried=True)
        captured = _captured_by(function)
        if captured is None or function.__kwdefaults__ is not None or function.__dict__ or is_importable(function):
            return template
        whole = captured == ((), None)
        empty = function if whole else emptied(function)
        # What it refers to is read before it is pickled: a change between the two makes the template stale, not wrong.
        places = look_at(empty)[1]
        if places is None or not places.are_of_code():
            return template
        pickled = self._make(empty if whole else RefilledFunction(empty), b"")
        if pickled.objects:
            self._release(pickled.objects)
            return template
        qualname, module = function.__qualname__, function.__module__
        defaults = captured[1]
        return template._replace(
            pickled=pickled._replace(name=name_of(function), check=check_of(function)),
            names=_names_of(function),
            may_be_importable="<" not in qualname and module != "__main__",
            globals_id=id(function.__globals__),
            defaults_count=None if defaults is None else len(defaults),
            watches=tuple(places.watches),
        )


def _is_like(template: _Template, function: types.FunctionType) -> bool:
    """Whether a function of the template's code differs from its others in cells and defaults only."""
    defaults = function.__defaults__
    return (
        id(function.__globals__) == template.globals_id
        and function.__kwdefaults__ is None
        and not function.__dict__
        and (None if defaults is None else len(defaults)) == template.defaults_count
        and _names_of(function) == template.names
        and not (template.may_be_importable and is_importable(function))
    )


def _names_of(function: types.FunctionType) -> tuple[str | None, ...]:
    return function.__module__, function.__qualname__, function.__name__, function.__doc__


def _captured_by(function: types.FunctionType) -> CapturedValues | None:
    """Return what a function has in its cells and defaults; None where that is not tiny, or a cell is empty."""
    try:
        cells = tuple([cell.cell_contents for cell in function.__closure__ or ()])
    except ValueError:
        return None
    defaults = function.__defaults__
    return (cells, defaults) if all(map(is_tiny, cells)) and all(map(is_tiny, defaults or ())) else None


def _pack_partial(
    pack: Pack,
    first: tuple[Any, ...],
    named: dict[str, Any],
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    hidden: int = 0,
    /,
) -> Packed:
    return pack(function, (*first, *args), {**named, **kwargs}, hidden + len(first))


def _pack_captured(
    pack: Pack,
    captured: CapturedValues,
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    hidden: int = 0,
    /,
) -> Packed:
    return pack(function, (captured, *args), kwargs, hidden + 1)
