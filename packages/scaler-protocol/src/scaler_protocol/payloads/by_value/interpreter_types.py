"""Types of C code that are not in their module under their name: `type({}.keys())`, metaclasses of `ctypes`.

`pickle` refuses them, and they cannot be taken apart as a class of Python code can. But the receiver has the same type: it is
among the subclasses of the same base, once its module is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import types
from typing import Any

_HEAP_TYPE = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: without it a type is a constant of C code."""

_NO_INSTANCES = 1 << 7
"""`Py_TPFLAGS_DISALLOW_INSTANTIATION`."""

_of_type: Any = type.__dict__
_flags_of, _attributes_of = _of_type["__flags__"].__get__, _of_type["__dict__"].__get__
_module_of, _qualified_name_of = _of_type["__module__"].__get__, _of_type["__qualname__"].__get__
"""Reads an attribute of a type without calling a user's metaclass."""

_METHODS_IN_C = (types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType)


def is_interpreter_type(cls: type) -> bool:
    """Whether a type is written in C. A class that Python code defined has no C method of its own."""
    if not _flags_of(cls) & _HEAP_TYPE:
        return True
    return any(type(value) in _METHODS_IN_C and value.__objclass__ is cls for value in _attributes_of(cls).values())


def reduce_interpreter_type(cls: type) -> tuple[Any, ...]:
    """Return the reduction of a type that no module has by its name. Raises PicklingError if nobody could find it."""
    base = cls.__base__
    place = (base, cls.__module__, cls.__qualname__)
    if base is None or _found(*place) != [cls]:
        raise pickle.PicklingError(f"Can't pickle {cls!r}: it is written in C, and no module has it by its name")
    return find_interpreter_type, place


def find_interpreter_type(base: type, module: str, qualified_name: str) -> type:
    """Return the type of C code with this name. Raises PicklingError if it is not here."""
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
    found = _found(base, module, qualified_name)
    if len(found) != 1:
        raise pickle.UnpicklingError(f"this Python has no type {module}.{qualified_name} that is written in C")
    return found[0]


def _found(base: Any, module: str, qualified_name: str) -> list[type]:
    return [
        each
        for each in type.__subclasses__(base)
        if is_interpreter_type(each) and (_module_of(each), _qualified_name_of(each)) == (module, qualified_name)
    ]


def refuse_lone_value(value: Any) -> None:
    """Raise TypeError for the only object of a type: `sys.flags`, `sys.version_info`.

    They have a reduction, but their types refuse to make further objects.
    """
    kind = type(value)
    if _flags_of(kind) & _NO_INSTANCES and issubclass(kind, tuple):
        raise TypeError(f"cannot pickle {kind.__module__}.{kind.__qualname__}, of which each process has its own")
