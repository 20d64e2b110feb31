"""Whether a function that must be restored for each call is still what was restored: then it is as good as a new one.

This is for functions that use classes of `__main__`: to restore a class takes a hundred times as long as to see that nobody
has changed it. All places a function takes values from are looked at; each must hold the same immutable value, or something
that is looked at in turn.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any

from scaler_protocol.payloads.by_value.classes import restored_class, set_already
from scaler_protocol.payloads.by_value.pickler import is_importable
from scaler_protocol.payloads.immutable import is_immutable
from scaler_protocol.payloads.main_module import lending

_PLACES_MAX = 64

_OF_INTERPRETER = frozenset(
    {
        "__abstractmethods__",
        "__annotations__",
        "__builtins__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__match_args__",
        "__orig_bases__",
        "__parameters__",
        "__slotnames__",
        "__slots__",
        "_abc_impl",
    }
)
"""What Python's own tools keep in a class or namespace; to change what is in there is not done."""

_OF_ENUM = frozenset({"_member_map_", "_member_names_", "_unhashable_values_", "_value2member_map_"})

_DESCRIPTORS = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_CONTAINERS = (list, dict, set)
_NAMED = (types.FunctionType, types.BuiltinFunctionType, type)


class _UnwatchableError(Exception):
    pass


class Unchanged:
    """The places of one function, and what they hold. Raises an exception where one cannot be watched."""

    def __init__(self, function: Any) -> None:
        self._mappings: list[tuple[Mapping[str, Any], list[str], list[Any]]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._functions: list[tuple[types.FunctionType, types.CodeType, Any, Any]] = []
        self._classes: list[Any] = []
        self._empty: list[Any] = []
        """Containers with nothing in them, as `reprlib.recursive_repr` has one in every dataclass."""
        self._seen: set[int] = set()
        self._value(function)

    def holds(self) -> bool:
        """Whether all places hold the very same; if so, the classes count as set by this call."""
        for mapping, names, values in self._mappings:
            if [*mapping] != names or not all(map(is_, mapping.values(), values)):
                return False
        for cell, value in self._cells:
            if _content_of(cell) is not value:
                return False
        for function, code, defaults, keyword_defaults in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not keyword_defaults
            ):
                return False
        if any(self._empty):
            return False
        for restored in self._classes:
            set_already(restored)
        return True

    def _value(self, value: Any) -> None:
        if id(value) in self._seen or is_immutable(value) or _is_named(value) or type(value) in _DESCRIPTORS:
            return
        kind = type(value)
        if kind is types.FunctionType:
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif kind is staticmethod or kind is classmethod:
            self._value(value.__func__)
        elif kind is property:
            for part in (value.fget, value.fset, value.fdel):
                self._value(part)
        elif kind in _CONTAINERS and not value:
            self._empty.append(value)
        else:
            raise _UnwatchableError

    def _mapping(self, mapping: Mapping[str, Any], opaque: frozenset[str] = _OF_INTERPRETER) -> None:
        if id(mapping) in self._seen:
            return
        self._seen.add(id(mapping))
        self._mappings.append((mapping, list(mapping), list(mapping.values())))
        if len(self._mappings) > _PLACES_MAX:
            raise _UnwatchableError
        for name, value in list(mapping.items()):
            if name not in opaque:
                self._value(value)

    def _function(self, function: types.FunctionType) -> None:
        self._seen.add(id(function))
        self._functions.append((function, function.__code__, function.__defaults__, function.__kwdefaults__))
        self._value(function.__defaults__)
        self._mapping(function.__globals__)
        self._mapping(function.__dict__)
        if function.__kwdefaults__ is not None:
            self._mapping(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            content = _content_of(cell)
            self._cells.append((cell, content))
            if content is not _EMPTY:
                self._value(content)

    def _class(self, cls: type) -> None:
        restored = restored_class(cls)
        if restored is None:
            raise _UnwatchableError
        self._seen.add(id(cls))
        self._classes.append(restored)
        self._value(type(cls))
        for base in cls.__bases__:
            self._value(base)
        opaque = _OF_INTERPRETER
        if isinstance(cls, enum.EnumMeta):
            opaque |= _OF_ENUM | cls.__members__.keys()
            member: Any
            for member in cls.__members__.values():
                self._mapping(vars(member), frozenset({"__objclass__"}))
                self._seen.add(id(member))
        # A class's dictionary is a new view each time; this one is kept.
        self._mapping(cls.__dict__, opaque)


def _is_named(value: Any) -> bool:
    """Whether a pickle only names it: there is one in the process, and no call gets its own."""
    if isinstance(value, types.ModuleType):
        return sys.modules.get(value.__name__) is value
    if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, type):
        # `object.__new__`, for instance.
        value = value.__self__
    return isinstance(value, _NAMED) and is_importable(value, value.__qualname__)


_EMPTY: Any = object()


def _content_of(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


_MISSES_MAX = 8
"""A function that was changed by so many calls is not looked at any more."""


class Restoring:
    """Calls a function that carries state, restored for each call or found to be as it was restored."""

    def __init__(self, load: Callable[[], Callable[..., Any]]) -> None:
        self._load = load
        self._kept: tuple[Callable[..., Any], Unchanged] | None = None
        self._misses = 0

    def function(self) -> Callable[..., Any]:
        """Return the function for one call. Raises whatever `load` raises."""
        kept = self._kept
        if kept is not None and kept[1].holds():
            return kept[0]
        self._kept = None
        function = self._load()
        lent = lending(function)
        if self._misses < _MISSES_MAX:
            self._misses += 1
            try:
                self._kept = lent, Unchanged(function)
            except Exception:
                # Something in it cannot be watched, or objects to being looked at.
                self._misses = _MISSES_MAX
        return lent
