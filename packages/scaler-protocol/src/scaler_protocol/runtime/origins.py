"""Where modules, functions and classes are from, told without running code of theirs: values may answer in ways of their own."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec

# By name: tasks can replace what modules have.
from os import stat
from types import FunctionType, ModuleType
from typing import Any

Stamp = tuple[int, int]
"""What changes when a file is written."""

_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_LIBRARY = os.path.dirname(os.__file__) + os.sep

_module_of_class: Any = vars(type)["__module__"]


def origin_of(value: Any) -> str:
    """Return the name of a module, or of the module that a function or class is of; empty where there is none."""
    kind = type(value)
    if kind is ModuleType:
        found = vars(value).get("__name__")
    elif kind is FunctionType:
        found = value.__module__
    elif issubclass(kind, type):
        found = origin_of_class(value)
    else:
        return ""
    return found if type(found) is str else ""


def origin_of_class(kind: type) -> str:
    """Return the name of the module that a class is of; empty where there is none."""
    try:
        found = _module_of_class.__get__(kind)
    except AttributeError:
        return ""
    return found if type(found) is str else ""


def source_of(name: str) -> str:
    """Return where an imported module was loaded from; empty where that is not known, or it is no ordinary module."""
    module = sys.modules.get(name)
    if type(module) is not ModuleType:
        return ""
    spec = vars(module).get("__spec__")
    origin = spec.origin if type(spec) is ModuleSpec else None
    return origin if type(origin) is str else ""


def is_users_source(path: str) -> bool:
    """Whether this is a file of Python code that may be edited: neither the library's nor installed."""
    return path.endswith(".py") and not path.startswith(_LIBRARY) and not any(part in path for part in _INSTALLED)


def stamp_of(path: str) -> Stamp | None:
    """Return what changes when a file is written; None where there is none."""
    try:
        found = stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
