"""Classes by value: how a class is taken apart, and how the receiver makes it again, or finds it.

A class that travels by value has an identity, the id that cloudpickle uses, which travels with it. So a process that gets
its own class back finds the same object, and all copies in one process are one class.

If the receiver has the class already, these rules hold. A class that was *defined* in this process is never changed, because
a result would set it back to its state when the task was submitted. A class that was *restored* here is set to the state in
the pickle once in each *scope*. An application has one scope, so the first definition stays. In a worker every call is a
scope: its code sees the class as it was submitted with the call, whatever earlier tasks did to it.
"""

from __future__ import annotations

import abc
import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from cloudpickle import cloudpickle as tracking

_DESCRIPTORS_OF_LAYOUT = (types.MemberDescriptorType, types.GetSetDescriptorType)
_REMADE = frozenset(
    {"__annotate_func__", "_abc_impl", "_abc_cache", "_abc_negative_cache", "_abc_negative_cache_version"}
)
"""Attributes that the interpreter makes for every new class."""

_NOTES = frozenset({"__slotnames__"})
"""Attributes that `copyreg` adds to a class when one of its objects is pickled."""

Reduced = tuple[Any, ...]


class _Restored:
    """The record of a class that was restored from a pickle here."""

    __slots__ = ("names", "reference", "scope")

    def __init__(self, reference: weakref.ref[type]) -> None:
        self.reference = reference
        self.scope: Hashable = _NO_SCOPE
        self.names: frozenset[str] = frozenset()
        """The attributes it had when it was complete for the first time."""


_NO_SCOPE = object()
_restored: dict[str, _Restored] = {}
_scope_of_process: Callable[[], Hashable] = bool
"""Returns a value that identifies the present scope. With `bool` there is one scope for ever."""


def set_scope(scope: Callable[[], Hashable]) -> None:
    """Set the function that identifies the present scope. In each scope, restored classes are set to a pickle's state once."""
    global _scope_of_process
    _scope_of_process = scope


# --- taking apart ----------------------------------------------------------------------------------------------------


def reduce_class(cls: type) -> Reduced:
    """Return the reduction with which `pickle` writes a class by value."""
    tracker_id = tracking._get_or_create_tracker_id(cls)
    attributes = own_attributes(cls)
    namespace: dict[str, Any] = {}
    for name in ("__module__", "__orig_bases__"):
        if name in attributes:
            # `Generic` reads the second one while the class is made.
            namespace[name] = attributes[name]
    if "__slots__" in attributes:
        namespace["__slots__"] = _slot_names(cls)
        if not isinstance(attributes["__slots__"], str | tuple | list | dict):
            # An iterator, which may be exhausted.
            attributes["__slots__"] = namespace["__slots__"]
    if isinstance(cls.__dict__.get("__dict__"), property):
        namespace["__dict__"] = attributes.pop("__dict__")
    arguments = (tracker_id, type(cls), cls.__name__, cls.__qualname__, cls.__bases__, namespace)
    return make_class, arguments, (tracker_id, attributes, registered_with(cls)), None, None, set_class_state


def own_attributes(cls: type) -> dict[str, Any]:
    """Return the class's own attributes, except those that making a class sets."""
    return {
        name: value
        for name, value in cls.__dict__.items()
        if name not in _REMADE | _NOTES and not (type(value) in _DESCRIPTORS_OF_LAYOUT and value.__objclass__ is cls)
    }


def registered_with(cls: type) -> list[type]:
    """Return the classes that were registered as virtual subclasses of an abstract base class."""
    if not isinstance(cls, abc.ABCMeta):
        return []
    # The values that `ABCMeta._dump_registry` prints.
    references = abc._get_dump(cls)[0]  # type: ignore[attr-defined]
    return [subclass for subclass in (reference() for reference in references) if subclass is not None]


def _slot_names(cls: type) -> tuple[str, ...]:
    """Return slots from their descriptors, which is right for every form of `__slots__` and for private names."""
    return tuple(
        name
        for name, value in cls.__dict__.items()
        if type(value) in _DESCRIPTORS_OF_LAYOUT and value.__objclass__ is cls
    )


# --- making ----------------------------------------------------------------------------------------------------------


def find_class(tracker_id: str) -> type | None:
    """Return the class with this identity, if this process has it."""
    with tracking._DYNAMIC_CLASS_TRACKER_LOCK:
        found: type | None = tracking._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
    return found


def make_class(
    tracker_id: str, metaclass: type, name: str, qualified_name: str, bases: tuple[type, ...], namespace: dict[str, Any]
) -> type:
    """Return the class with this identity. If it is not here, make it without attributes, which come with its state."""
    found = find_class(tracker_id)
    if found is not None:
        return found
    try:
        made = types.new_class(name, bases, {"metaclass": metaclass}, lambda space: space.update(namespace))
    except Exception:
        # A metaclass or an `__init_subclass__` needs attributes or class keywords.
        made = _make_plainly(metaclass, name, bases, namespace)
    _plain_metaclass(made).__setattr__(made, "__qualname__", qualified_name)
    return keep_restored(tracker_id, made)


def keep_restored(tracker_id: str, made: type) -> type:
    """Record a class as restored; return it, or the one that another thread has recorded first."""
    kept: type = tracking._lookup_class_or_track(tracker_id, made)
    if kept is made:
        _restored[tracker_id] = _Restored(weakref.ref(made, lambda _: _restored.pop(tracker_id, None)))
    return kept


class _Shield:
    """Placed before other bases, so that their `__init_subclass__` is not called."""

    __slots__ = ()

    def __init_subclass__(cls, **_: Any) -> None:
        pass


class _ShieldWithAttributes:
    """The same for classes whose objects have a dictionary: the layout must be that of the bases."""

    def __init_subclass__(cls, **_: Any) -> None:
        pass


def _make_plainly(metaclass: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """Make a class without running code of its metaclass or bases. That ran when the class was defined."""
    new: Any = abc.ABCMeta.__new__ if issubclass(metaclass, abc.ABCMeta) else type.__new__
    try:
        return new(metaclass, name, bases, dict(namespace))  # type: ignore[no-any-return]
    except Exception:
        for shield in (_Shield, _ShieldWithAttributes):
            made = new(metaclass, name, (shield, *bases), dict(namespace))
            try:
                type.__setattr__(made, "__bases__", bases)
            except TypeError:
                continue
            return made  # type: ignore[no-any-return]
        raise


# --- setting ---------------------------------------------------------------------------------------------------------


def set_class_state(cls: type, state: tuple[str, dict[str, Any], list[type]]) -> None:
    """Set a restored class to the attributes in a pickle, once in a scope."""
    tracker_id, attributes, registered = state
    restored = begin_setting(tracker_id)
    if restored is None:
        return
    set_attributes(cls, attributes, restored)
    for subclass in registered:
        abc.ABCMeta.register(cls, subclass)  # type: ignore[arg-type]
    end_setting(cls, restored)


def begin_setting(tracker_id: str) -> _Restored | None:
    """Return the record of a class that must be set now; None for one that stays as it is."""
    restored = _restored.get(tracker_id)
    if restored is None:
        # The class was defined here.
        return None
    return None if restored.scope == _scope_of_process() else restored


def restored_class(cls: type) -> _Restored | None:
    """Return the record of a class that was restored here; None for any other class."""
    restored = _restored.get(tracking._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls))
    return restored if restored is not None and restored.reference() is cls else None


def set_already(restored: _Restored) -> None:
    """Record that a class has its state of the present scope."""
    restored.scope = _scope_of_process()


def end_setting(cls: type, restored: _Restored) -> None:
    """Record that a class is complete in this scope. If setting it fails, the next pickle sets it."""
    restored.scope = _scope_of_process()
    if not restored.names:
        restored.names = frozenset(cls.__dict__)


def set_attributes(cls: type, attributes: dict[str, Any], restored: _Restored) -> None:
    """Set the attributes of a class, and remove those that tasks have added since."""
    plain = _plain_metaclass(cls)
    if restored.names:
        known = restored.names | attributes.keys() | _NOTES
        for name in [name for name in cls.__dict__ if name not in known]:
            plain.__delattr__(cls, name)
    # Not through a user's metaclass, which may refuse an attribute or change it.
    for name, value in attributes.items():
        plain.__setattr__(cls, name, value)
    if "__firstlineno__" in attributes:
        # Python 3.13 deletes it when anything else is set.
        plain.__setattr__(cls, "__firstlineno__", attributes["__firstlineno__"])


def _plain_metaclass(cls: type) -> Any:
    """Return the type whose methods set attributes without users' code: `type`; for classes of `ctypes`, its own."""
    kind: Any = type(cls)
    for metaclass in kind.__mro__:
        if isinstance(metaclass.__dict__.get("__setattr__"), types.WrapperDescriptorType):
            return metaclass
    return type
