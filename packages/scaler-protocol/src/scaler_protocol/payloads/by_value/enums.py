"""Enumerations by value. Their members are made with the class, and may be aliases, flags, or have attributes.

The `enum` module makes the class from names and values, with a `__new__` that makes each member from its plain data. The
attributes that the original's `__new__` and `__init__` have set are in the pickle, so neither is called again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from cloudpickle import cloudpickle as tracking

from scaler_protocol.payloads.by_value.classes import (
    Reduced,
    begin_setting,
    end_setting,
    find_class,
    keep_restored,
    own_attributes,
    registered_with,
    set_attributes,
)

_OF_ENUM = frozenset(
    {"_member_names_", "_member_map_", "_value2member_map_", "_unhashable_values_", "_hashable_values_"}
)
_OF_ENUM_VALUES = frozenset({"_unhashable_values_map_"})
"""Class attributes about the members, which `enum` fills."""

_OF_MEMBER = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"})


def reduce_enum(cls: enum.EnumMeta) -> Reduced:
    """Return the reduction with which `pickle` writes an enumeration by value."""
    tracker_id = tracking._get_or_create_tracker_id(cls)
    named: dict[str, Any] = dict(cls.__members__)
    made_anew = _OF_ENUM | _OF_ENUM_VALUES | named.keys()
    attributes = {name: value for name, value in own_attributes(cls).items() if name not in made_anew}
    # `_value_`, because a subclass may define another `value`.
    members = [(name, member._value_, _data_of(cls, member)) for name, member in named.items()]
    states = {
        name: {key: value for key, value in vars(member).items() if key not in _OF_MEMBER}
        for name, member in named.items()
        if member._name_ == name and hasattr(member, "__dict__")
    }
    keywords = {"boundary": vars(cls)["_boundary_"]} if issubclass(cls, enum.Flag) else {}
    arguments = (
        tracker_id, type(cls), cls.__name__, cls.__qualname__, cls.__module__, cls.__bases__, members, keywords,
    )  # fmt: skip
    return make_enum, arguments, (tracker_id, attributes, registered_with(cls), states), None, None, set_enum_state


def make_enum(
    tracker_id: str,
    metaclass: Any,
    name: str,
    qualified_name: str,
    module: str,
    bases: tuple[Any, ...],
    members: list[tuple[str, Any, tuple[Any, ...]]],
    keywords: dict[str, Any],
) -> type:
    """Return the enumeration with this identity. If it is not here, make it with its members."""
    found = find_class(tracker_id)
    if found is not None:
        return found
    remaining = iter(members)

    def make_member(cls: Any, *arguments: Any) -> Any:
        _, value, data = next(remaining)
        kind = cls._member_type_
        member = object.__new__(cls) if kind is object else kind.__new__(cls, *data)
        member._value_ = value
        return member

    space = metaclass.__prepare__(name, bases, **keywords)
    space["__module__"] = module
    space["__qualname__"] = qualified_name
    space["__new__"] = make_member
    space["__init__"] = _leave
    for member_name, value, _ in members:
        space[member_name] = enum.member(value) if _is_descriptor(value) else value
    made: Any = enum.EnumMeta.__new__(metaclass, name, bases, space, **keywords)
    for helper in ("__new_member__", "__init__"):
        if helper in made.__dict__:
            type.__delattr__(made, helper)
    return keep_restored(tracker_id, made)


def set_enum_state(cls: Any, state: tuple[str, dict[str, Any], list[type], dict[str, dict[str, Any]]]) -> None:
    """As `set_class_state`, and for the attributes of the members."""
    tracker_id, attributes, _, states = state
    restored = begin_setting(tracker_id)
    if restored is None:
        return
    set_attributes(cls, attributes, restored)
    for name, values in states.items():
        own = vars(cls._member_map_[name])
        for key in [key for key in own if key not in values and key not in _OF_MEMBER]:
            del own[key]
        own.update(values)
    end_setting(cls, restored)


def _data_of(cls: Any, member: Any) -> tuple[Any, ...]:
    """Return the arguments that `__new__` of the mixed-in data type, `int` for instance, makes this member from."""
    kind = cls._member_type_
    if kind is object or kind.__new__ is object.__new__:
        return ()
    get_arguments: Callable[[Any], tuple[Any, ...]] | None = getattr(kind, "__getnewargs__", None)
    if get_arguments is not None:
        return get_arguments(member)
    if kind.__reduce__ is not object.__reduce__:
        reduced = kind.__reduce__(member)
        if isinstance(reduced, tuple) and reduced[0] is type(member):
            return tuple(reduced[1])
    return member._value_ if isinstance(member._value_, tuple) else (member._value_,)


def _is_descriptor(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("__get__", "__set__", "__delete__"))


def _leave(*arguments: Any) -> None:
    """Initialize nothing."""
