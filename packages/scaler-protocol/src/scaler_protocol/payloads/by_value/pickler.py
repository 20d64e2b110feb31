"""The pickler, and which of a value's buffers go beside the pickle."""

from __future__ import annotations

import enum
import functools
import io
import pickle
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as tracking

from scaler_protocol.payloads.by_value.classes import find_class, reduce_class
from scaler_protocol.payloads.by_value.ctypes_types import reduce_ctypes_type
from scaler_protocol.payloads.by_value.enums import reduce_enum
from scaler_protocol.payloads.by_value.interpreter_types import (
    is_interpreter_type,
    reduce_interpreter_type,
    refuse_lone_value,
)
from scaler_protocol.payloads.by_value.nested import add_what_nested_code_names
from scaler_protocol.payloads.by_value.sources import reduce_code

PROTOCOL = 5

APART_BYTES_MIN = 16 * 1024
"""Smaller buffers stay inside the pickle, because a separate buffer costs more than copying it."""

APART_MAX = 1000
"""Most separate buffers of one value, because an object in storage cannot have many more."""

Dump = Callable[..., bytes]


def dumps(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """Return a pickle of `value`, with objects that the receiver cannot import by value. Raises any error of pickling."""
    with io.BytesIO() as file:
        Pickler(file, PROTOCOL, buffer_callback).dump(value)
        return file.getvalue()


def dumps_apart(value: Any, dump: Dump = dumps) -> tuple[bytes, list[memoryview]]:
    """Return a pickle of `value` and its large buffers, which are views of the value's own memory.

    `dump` pickles, with a `buffer_callback`. If there are too many large buffers, only the largest are separate.
    """
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < APART_BYTES_MIN:
            return True
        buffers.append(view)
        return False

    pickled = dump(value, buffer_callback=keep_inside)
    return (pickled, buffers) if len(buffers) <= APART_MAX else _dumps_largest_apart(value, dump, buffers)


def _dumps_largest_apart(value: Any, dump: Dump, all_buffers: list[memoryview]) -> tuple[bytes, list[memoryview]]:
    bytes_min = sorted((view.nbytes for view in all_buffers), reverse=True)[APART_MAX - 1]
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < bytes_min or len(buffers) == APART_MAX:
            return True
        buffers.append(view)
        return False

    return dump(value, buffer_callback=keep_inside), buffers


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, except for classes, code and the few types below."""

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduction of an object that pickle would write by its name, or cannot write."""
        kind = type(obj)
        if kind is types.FunctionType:
            return self._function_reduce(obj)
        if kind is types.CodeType:
            return reduce_code(obj, self.__dict__.setdefault("_written_lines", {}))
        try:
            is_class = issubclass(kind, type)
        except TypeError:
            return NotImplemented
        if not is_class:
            refuse_lone_value(obj)
            return _reduce_lru_cache(obj) if kind is _LRU_CACHE else NotImplemented
        reduced = _reduce_builtin_type(obj)
        if reduced is not None:
            return reduced
        if tracking._should_pickle_by_reference(obj):
            return NotImplemented
        if issubclass(kind, enum.EnumMeta):
            return reduce_enum(obj)
        if is_interpreter_type(obj):
            return reduce_interpreter_type(obj)
        return reduce_ctypes_type(obj) or reduce_class(obj)

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        attributes_and_parts = reduced[2]
        add_what_nested_code_names(func, attributes_and_parts[1])
        return reduced


def _reduce_builtin_type(cls: Any) -> Any:
    """Return the reduction of a type that is not in its module under its name; None for all others."""
    if cls in _SINGLETONS:
        return type, (_SINGLETONS[cls],)
    if cls in tracking._BUILTIN_TYPE_NAMES:
        return tracking._builtin_type, (tracking._BUILTIN_TYPE_NAMES[cls],)
    return None


_SINGLETONS: dict[type, Any] = {type(None): None, type(Ellipsis): Ellipsis, type(NotImplemented): NotImplemented}
_LRU_CACHE: type = functools._lru_cache_wrapper


# --- objects that cloudpickle cannot write, or restores differently -------------------------------------------------


def is_importable(value: Any, name: str) -> bool:
    """Whether the receiver finds this object by its module and name."""
    module = value.__module__
    found: Any = sys.modules.get(module) if isinstance(module, str) and module != "__main__" else None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _reduce_lru_cache(cached: Any) -> Any:
    """Return the reduction of a function with `functools.lru_cache`. The copy is empty, as in every new process."""
    if is_importable(cached, cached.__qualname__):
        return NotImplemented
    parameters = cached.cache_parameters()
    attributes = {
        name: value for name, value in vars(cached).items() if name not in ("__wrapped__", "cache_parameters")
    }
    return make_lru_cache, (parameters["maxsize"], parameters["typed"], cached.__wrapped__, attributes)


def make_lru_cache(maxsize: int | None, typed: bool, function: Any, attributes: dict[str, Any]) -> Any:
    """Return an empty `lru_cache` around `function` with the original's attributes."""
    cached = functools.lru_cache(maxsize, typed)(function)
    vars(cached).update(attributes)
    return cached


def _reduce_cached_property(value: Any) -> Any:
    # Before Python 3.12 it has a lock, which cannot be pickled.
    return make_cached_property, (value.func, value.attrname)


def make_cached_property(function: Any, name: str | None) -> Any:
    """Return a `cached_property` that knows its name, as one in a class body does."""
    value = functools.cached_property(function)
    value.attrname = name
    return value


def _reduce_type_parameter(value: Any) -> Any:
    """Return the reduction of a `ParamSpec`, `TypeVarTuple` or `NewType` without an importable name."""
    name = value.__name__
    if is_importable(value, name):
        return name
    keywords = {}
    if isinstance(value, typing.ParamSpec):
        keywords = {
            "covariant": value.__covariant__,
            "contravariant": value.__contravariant__,
            "bound": value.__bound__,
        }
    elif isinstance(value, typing.NewType):
        keywords = {"tp": value.__supertype__}
    return make_type_parameter, (
        tracking._get_or_create_tracker_id(value),
        type(value),
        name,
        value.__module__,
        keywords,
    )


def make_type_parameter(tracker_id: str, kind: Any, name: str, module: str, keywords: dict[str, Any]) -> Any:
    """Return the object with this identity. If it is not here, make it."""
    found: Any = find_class(tracker_id)
    if found is None:
        made = kind(name, **keywords)
        if kind is typing.NewType:
            made.__module__ = module
        found = tracking._lookup_class_or_track(tracker_id, made)
    return found


def _reduce_weak_keys(value: Any) -> Any:
    # `functools.singledispatch` has one.
    return weakref.WeakKeyDictionary, (), None, None, iter(list(value.items()))


def _reduce_memoryview(view: memoryview) -> Any:
    if view.format not in _NATIVE_FORMATS:
        raise TypeError(
            f"cannot pickle a memoryview whose format is {view.format!r}: only those of single native items are"
        )
    data = view.tobytes() if view.readonly else bytearray(view.tobytes())
    return make_memoryview, (data, view.format, view.shape)


_NATIVE_FORMATS = frozenset({mark + item for mark in ("", "@") for item in "cbB?hHiIlLqQnNefdP"})
"""What `memoryview.cast` makes."""


def make_memoryview(data: bytes | bytearray, view_format: str, shape: tuple[int, ...]) -> memoryview:
    """Return a memoryview of `data` with this format and shape."""
    view = memoryview(data)
    if view_format == "B" and len(shape) == 1:
        return view
    cast: Any = view.cast
    return cast(view_format) if len(shape) == 1 else cast(view_format, shape)  # type: ignore[no-any-return]


class _Reductions(dict[type, Callable[[Any], Any]]):
    """Ours, then those that programs have registered with cloudpickle and `copyreg`.

    Pickle asks for the type of nearly every object, and mostly finds none: a `ChainMap` takes a fifth of a pickle for that.
    """

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        reduce: Callable[[Any], Any] = _THEIRS[kind] if kind in _THEIRS else _EVERYBODYS[kind]
        return reduce


_THEIRS, _EVERYBODYS = cloudpickle.Pickler.dispatch_table.maps

Pickler.dispatch_table = _Reductions(
    {
        functools.cached_property: _reduce_cached_property,
        memoryview: _reduce_memoryview,
        typing.NewType: _reduce_type_parameter,
        typing.ParamSpec: _reduce_type_parameter,
        typing.TypeVarTuple: _reduce_type_parameter,
        weakref.WeakKeyDictionary: _reduce_weak_keys,
    }
)
