"""Which bytes stand for a function, computed again only when they may have changed.

A function that workers can import is named by module and qualified name: its bytes never change. A function pickled by
value (a lambda, a closure, anything in `__main__`) takes along what it captures: cells, defaults, the globals it names,
and those of functions it refers to. As long as all of this is immutable and the very same, the pickle made before still
says what a new one would; otherwise it is made anew, and found equal, or not, by content.

Not looked at: annotations, which the behaviour of a function does not depend on.

The same look tells whether a worker may keep what it restores: a function that captures nothing but immutable values, and
writes to none of the places it captures, is code. All else has state, and its body says so (`PER_CALL`).
"""

from __future__ import annotations

import functools
import operator
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle

from scaler.serialization.code_effects import changes_what_it_keeps, global_names
from scaler.serialization.edited_modules import EDITED_MODULES
from scaler.serialization.pickled import Pickled
from scaler_protocol.payloads.by_value import pickler
from scaler_protocol.payloads.framing import PER_CALL
from scaler_protocol.payloads.immutable import is_immutable

_MISSING: Any = object()
_FUNCTION_TYPES = (types.FunctionType, types.BuiltinFunctionType, type)
_OPERATORS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
_WATCHES_MAX = 256
"""A function that captures more is pickled every time: checking would cost as much."""

_ENTRIES_MAX = 2048
"""Functions remembered: as many as a large program uses in turn. A recursive closure is reachable from its own watches, so
forgetting needs a bound."""


class Watch(NamedTuple):
    """A place that must still hold the same thing: `read(owner, name)` is `expected`, or what a weak reference names."""

    read: Callable[[Any, Any], Any]
    owner: Any
    name: Any
    expected: Any
    weak: bool

    def holds(self) -> bool:
        """Whether the place still holds the same."""
        return bool(self.read(self.owner, self.name) is (self.expected() if self.weak else self.expected))


class _Parts(NamedTuple):
    """What a function consists of itself, looked at for every submit: so without the detour over watches."""

    code: types.CodeType
    closure: tuple[types.CellType, ...] | None
    defaults: tuple[Any, ...] | None
    keyword_defaults: dict[str, Any] | None
    attribute_count: int
    name: str
    qualname: str
    module: str | None
    doc: str | None

    @classmethod
    def of(cls, function: types.FunctionType) -> _Parts:
        return cls(
            function.__code__,
            function.__closure__,
            function.__defaults__,
            function.__kwdefaults__,
            len(function.__dict__),
            function.__name__,
            function.__qualname__,
            function.__module__,
            function.__doc__,
        )

    def are_those_of(self, function: Any) -> bool:
        code, closure, defaults, keyword_defaults, attribute_count, name, qualname, module, doc = self
        return (
            function.__code__ is code
            and function.__closure__ is closure
            and function.__defaults__ is defaults
            and function.__kwdefaults__ is keyword_defaults
            and len(function.__dict__) == attribute_count
            and function.__name__ is name
            and function.__qualname__ is qualname
            and function.__module__ is module
            and function.__doc__ is doc
        )


class Captured:
    """What a function takes along: places to watch, and the functions pickled by value that it consists of."""

    def __init__(self) -> None:
        self.watches: list[Watch] = []
        self.functions: dict[int, types.FunctionType] = {}
        self.refers_to_functions = False

    def watch(
        self, read: Callable[[Any, Any], Any], owner: Any, name: Any, expected: Any, *, weak: bool = False
    ) -> None:
        """Add a place; `weak` where the reference to what it holds is weak."""
        self.watches.append(Watch(read, owner, name, expected, weak))

    def are_of_code(self) -> bool:
        """Whether what takes all this along is code, and has no state: no call can leave anything in it."""
        return not changes_what_it_keeps(list(self.functions.values()), refer_to_functions=self.refers_to_functions)


class _Entry(NamedTuple):
    reference: weakref.ref[Any]
    parts: _Parts | None
    """Of a function that is pickled by value."""
    watches: tuple[Watch, ...]
    pickled: Pickled


class FunctionCache:
    """Functions by identity. `make` turns one into bytes; it is called when what was made before may be stale.

    It also gets what goes in front of the body: nothing, or `PER_CALL`. `shared` is another cache of what the same `make` makes.
    """

    def __init__(self, make: Callable[[Any, bytes], Pickled], shared: FunctionCache | None = None) -> None:
        self._make = make
        self._entries: dict[int, _Entry] = {} if shared is None else shared._entries

    def get(self, function: Any) -> Pickled:
        """Return the bytes that stand for `function` as it is now."""
        entry = self._entries.get(id(function))
        if (
            entry is not None
            and entry.reference() is function
            # A module registered to be pickled by value may be edited between two submits.
            and not cloudpickle.list_registry_pickle_by_value()
            and (entry.parts is None or entry.parts.are_those_of(function))
        ):
            for watch in entry.watches:
                current = watch.read(watch.owner, watch.name)
                if current is not (watch.expected() if watch.weak else watch.expected):
                    break
            else:
                return entry.pickled
        return self._renew(function)

    def remembers(self, function: Any) -> bool:
        """Whether there is something for this function; it may be stale."""
        entry = self._entries.get(id(function))
        return entry is not None and entry.reference() is function

    def _renew(self, function: Any) -> Pickled:
        entries, key = self._entries, id(function)
        # What it captures is read before it is pickled: a change between the two makes the entry stale, not wrong.
        parts, captured = look_at(function)
        EDITED_MODULES.note(function)
        pickled = self._make(function, b"" if _is_code(function, captured) else PER_CALL)
        # A body that names an object in storage lives only as long as its tasks.
        if captured is None or pickled.objects or cloudpickle.list_registry_pickle_by_value():
            entries.pop(key, None)
        else:
            if len(entries) >= _ENTRIES_MAX:
                entries.pop(next(iter(entries)), None)
            reference = weakref.ref(function, lambda _: entries.pop(key, None))
            entries[key] = _Entry(reference, parts, tuple(captured.watches), pickled)
        return pickled


def is_importable(value: Any) -> bool:
    """Whether a worker finds this function, class or built-in by module and name, so that pickles only name it."""
    module_name = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str):
        return False
    # A module that is not of a file, or that a program has made itself, is known to this process only.
    is_of_import = getattr(sys.modules.get(module_name), "__spec__", None) is not None
    return is_of_import and pickler.is_importable(value, name)


def is_code(function: Any) -> bool:
    """Whether a worker may restore `function` once for all calls: no call can leave anything in it for the next one.

    What an importable function leaves behind, it leaves in its module, in any process.
    """
    return _is_code(function, look_at(function)[1])


def _is_code(function: Any, captured: Captured | None) -> bool:
    if captured is not None:
        return captured.are_of_code()
    if type(function) is functools.partial:
        return (
            not function.__dict__
            and is_immutable(function.args)
            and all(map(is_immutable, function.keywords.values()))
            and is_code(function.func)
        )
    if type(function) in _OPERATORS:
        reduced = function.__reduce__()
        return reduced[0] is type(function) and is_immutable(reduced[1])
    return False


def look_at(function: Any) -> tuple[_Parts | None, Captured | None]:
    """Return what must stay as it is for the pickle of `function` to stay right; None when that cannot be watched."""
    if isinstance(function, _FUNCTION_TYPES) and is_importable(function):
        return None, None if _is_registered_by_value(function) else Captured()
    if type(function) is not types.FunctionType:
        return None, None
    parts = _Parts.of(function)
    captured = Captured()
    return (parts, captured) if _collect(function, captured) else (None, None)


def _is_registered_by_value(value: Any) -> bool:
    parents = value.__module__.split(".")
    registered = cloudpickle.list_registry_pickle_by_value()
    return any(".".join(parents[:count]) in registered for count in range(1, len(parents) + 1))


def _collect_referred(function: types.FunctionType, captured: Captured) -> bool:
    """Collect all places of a function that another one refers to; False when one holds something that may change."""
    captured.refers_to_functions = True
    if id(function) in captured.functions:
        return True
    reference = weakref.ref(function)
    for name in ("__code__", "__closure__", "__defaults__", "__kwdefaults__"):
        captured.watch(_read_attribute, reference, name, getattr(function, name))
    captured.watch(_read_length, function.__dict__, None, len(function.__dict__))
    return _collect(function, captured)


def _collect(function: types.FunctionType, captured: Captured) -> bool:
    """Collect all places `function` takes values from, but for its parts; False when one may change inside."""
    captured.functions[id(function)] = function
    code = function.__code__
    if function.__defaults__ is not None and not is_immutable(function.__defaults__):
        return False
    for cell in function.__closure__ or ():
        if not _capture(_read_cell, cell, None, captured):
            return False
    for name in global_names(code):
        if not _capture(_read_item, function.__globals__, name, captured):
            return False
    keyword_defaults = function.__kwdefaults__ or {}
    if keyword_defaults:
        captured.watch(_read_length, keyword_defaults, None, len(keyword_defaults))
    for mapping in (keyword_defaults, function.__dict__):
        for name in mapping:
            if not _capture(_read_item, mapping, name, captured):
                return False
    return len(captured.watches) <= _WATCHES_MAX


def _capture(read: Callable[[Any, Any], Any], owner: Any, name: Any, captured: Captured) -> bool:
    """Watch one place; False when what it holds may change inside."""
    value = read(owner, name)
    if value is _MISSING or is_immutable(value):
        captured.watch(read, owner, name, value)
        return True
    if isinstance(value, types.ModuleType):
        captured.watch(read, owner, name, value)
        return sys.modules.get(value.__name__) is value and getattr(value, "__spec__", None) is not None
    if isinstance(value, _FUNCTION_TYPES) and is_importable(value):
        captured.watch(read, owner, name, weakref.ref(value), weak=True)
        return not _is_registered_by_value(value)
    if type(value) is types.FunctionType:
        captured.watch(read, owner, name, weakref.ref(value), weak=True)
        return _collect_referred(value, captured)
    return False


def _read_attribute(reference: weakref.ref[Any], name: str) -> Any:
    return getattr(reference(), name, _MISSING)


def _read_cell(cell: types.CellType, _: None) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _read_item(mapping: dict[str, Any], name: str) -> Any:
    return mapping.get(name, _MISSING)


def _read_length(mapping: dict[str, Any], _: None) -> int:
    return len(mapping)
