"""Types of `ctypes` by value: arrays, pointers and prototypes, which no module has by name, and structures.

`ctypes` makes the first three on demand and keeps them, so the receiver gets them from its own `ctypes`. A structure is an
ordinary class, but its layout is set once, and before anything else is made from it.
"""

from __future__ import annotations

import operator
import sys
from typing import Any

from scaler_protocol.payloads.by_value.classes import (
    Reduced,
    begin_setting,
    end_setting,
    make_class,
    reduce_class,
    set_attributes,
)

_LAYOUT = ("_pack_", "_align_", "_layout_", "_anonymous_", "_fields_")
"""The attributes with the layout of a structure, in the order in which they must be set."""

_MAKING = frozenset({"_type_", "_length_", "_flags_", "_restype_", "_argtypes_"})
"""The attributes that the other types of `ctypes` need while they are made."""

_NATIVE, _SWAPPED = ("__ctype_le__", "__ctype_be__") if sys.byteorder == "little" else ("__ctype_be__", "__ctype_le__")
"""Attributes of each number type: itself, and the same with its bytes in the other order, which `ctypes` makes for it."""


def reduce_ctypes_type(cls: Any) -> Reduced | None:
    """Return the reduction of a class of `ctypes` without an importable name; None for any other class."""
    ctypes: Any = sys.modules.get("ctypes")
    if ctypes is None:
        # `ctypes` was not imported, so this is none of its classes.
        return None
    if issubclass(cls, ctypes.Structure | ctypes.Union):
        return _reduce_structure(cls)
    if not issubclass(cls, ctypes.Array | ctypes._Pointer | ctypes._CFuncPtr | ctypes._SimpleCData):
        return None
    return _reduce_made_on_demand(ctypes, cls) or _reduce_defined(cls)


def _reduce_made_on_demand(ctypes: Any, cls: Any) -> Reduced | None:
    attributes = vars(cls)
    if issubclass(cls, ctypes.Array):
        if cls._type_ * cls._length_ is cls:
            return operator.mul, (cls._type_, cls._length_)
    elif issubclass(cls, ctypes._Pointer):
        if isinstance(attributes.get("_type_"), type) and ctypes.POINTER(cls._type_) is cls:
            return ctypes.POINTER, (cls._type_,)
    elif issubclass(cls, ctypes._CFuncPtr):
        key = (attributes.get("_restype_"), attributes.get("_argtypes_"), attributes.get("_flags_"))
        if None not in key[1:] and ctypes._c_functype_cache.get(key) is cls:
            return make_prototype, key
    else:
        native = attributes.get(_NATIVE)
        if native is not None and native is not cls and getattr(native, _SWAPPED, None) is cls:
            return getattr, (native, _SWAPPED)
    return None


def make_prototype(result: Any, arguments: tuple[Any, ...], flags: int) -> Any:
    """Return the `CFUNCTYPE` of a function with this result and these arguments."""
    import _ctypes
    import ctypes

    use_errno, use_last_error = bool(flags & _ctypes.FUNCFLAG_USE_ERRNO), bool(flags & _ctypes.FUNCFLAG_USE_LASTERROR)
    return ctypes.CFUNCTYPE(result, *arguments, use_errno=use_errno, use_last_error=use_last_error)


def _reduce_defined(cls: type) -> Reduced:
    """Return the reduction of a user's subclass of an array, a pointer, a prototype or a number."""
    function, (*names, namespace), (tracker_id, attributes, registered), *rest = reduce_class(cls)
    needed = {name: attributes.pop(name) for name in _MAKING & attributes.keys()}
    for name in attributes.keys() & {_NATIVE, _SWAPPED}:
        del attributes[name]
    return function, (*names, {**namespace, **needed}), (tracker_id, attributes, registered), *rest


# --- structures and unions -------------------------------------------------------------------------------------------


def _reduce_structure(cls: Any) -> Reduced:
    _, arguments, (tracker_id, attributes, _), *_ = reduce_class(cls)
    attributes = {name: value for name, value in attributes.items() if type(value).__name__ != "CField"}
    layout = {name: attributes.pop(name) for name in _LAYOUT if name in attributes}
    later: dict[str, Any] = {}
    if _mentions(layout.get("_fields_", ()), cls):
        # The structure contains a pointer to itself, so the class must exist first.
        layout, later = later, layout
    state = (tracker_id, attributes, later)
    return make_structure, (arguments, layout), state, None, None, set_structure_state


def _mentions(fields: Any, cls: type) -> bool:
    """Whether a structure's fields lead to the structure itself."""
    seen: set[int] = set()
    waiting: list[Any] = [field[1] for field in fields]
    while waiting:
        kind = waiting.pop()
        if kind is cls:
            return True
        if isinstance(kind, type) and id(kind) not in seen:
            seen.add(id(kind))
            waiting += (field[1] for field in getattr(kind, "_fields_", ()))
            waiting += (getattr(kind, "_type_", None), getattr(kind, "_restype_", None))
            waiting += getattr(kind, "_argtypes_", ())
    return False


def make_structure(arguments: tuple[Any, ...], layout: dict[str, Any]) -> Any:
    """Return the structure with this identity. If it is not here, make it, with its layout if that is given."""
    made = make_class(*arguments)
    _set_layout(made, layout)
    return made


def set_structure_state(cls: type, state: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    """As `set_class_state`. The layout is set once, and never again."""
    tracker_id, attributes, layout = state
    restored = begin_setting(tracker_id)
    if restored is None:
        return
    _set_layout(cls, layout)
    set_attributes(cls, attributes, restored)
    end_setting(cls, restored)


def _set_layout(cls: type, layout: dict[str, Any]) -> None:
    if "_fields_" not in cls.__dict__:
        for name, value in layout.items():
            # Through the metaclass, because that makes the fields.
            setattr(cls, name, value)
