"""Classes of plain values, made cheaply: a process of a cluster makes a hundred of them while it starts.

`dataclasses` writes and compiles source text for each method of each class. Only `__init__` needs that, because it must be
fast, and it is compiled with its first call. Comparing and showing are for tests and logs, so all classes share one method for
each. Values are compared by type and fields, and cannot be hashed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, dataclass_transform

T = TypeVar("T")

new_tuple: Final = tuple.__new__
"""`new_tuple(Kind, (one, other))` makes a named tuple without calling its constructor, which is slower."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(value_type: type[T]) -> type[T]:
    """As `dataclass(slots=True, frozen=True)`, except that only the type checker prevents assignments."""
    return _make(value_type)


@dataclass_transform(field_specifiers=(field,))
def record(record_type: type[T]) -> type[T]:
    """As `dataclass(slots=True)`."""
    return _make(record_type)


def _make(made: type[T]) -> type[T]:
    # Without a docstring, `dataclass` would compute a signature for it.
    made.__doc__ = made.__doc__ or made.__name__
    made.__eq__ = _equal  # type: ignore[method-assign]
    made.__hash__ = None  # type: ignore[method-assign,assignment]
    made.__repr__ = _show  # type: ignore[method-assign]
    declared = {name: each for name, each in vars(made).items() if name not in _OF_EACH_CLASS}
    with_slots = dataclass(slots=True, eq=False, repr=False, init=False)(made)
    setattr(with_slots, "__init__", _init_when_called(with_slots, declared))  # noqa: B010 - types forbid the assignment
    return with_slots


_OF_EACH_CLASS = ("__dict__", "__weakref__")


def _init_when_called(made: type[Any], declared: dict[str, Any]) -> Callable[..., None]:
    """Return what is replaced by the constructor of a dataclass with the first call.

    Compiling that takes most of the time that `dataclass` takes, and a process makes values of a few of its classes only.
    """

    def first(self: Any, /, *args: Any, **kwargs: Any) -> None:
        twin: type[Any] = dataclass(eq=False, repr=False)(type(made.__name__, made.__bases__, declared))
        made.__init__ = twin.__init__
        twin.__init__(self, *args, **kwargs)

    return first


def _equal(one: Any, other: Any) -> Any:
    if type(one) is not type(other):
        return NotImplemented
    return all(getattr(one, name) == getattr(other, name) for name in one.__dataclass_fields__)


def _show(one: Any) -> str:
    return f"{type(one).__name__}({', '.join(f'{name}={getattr(one, name)!r}' for name in one.__dataclass_fields__)})"
