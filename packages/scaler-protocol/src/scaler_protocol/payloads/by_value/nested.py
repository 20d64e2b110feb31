"""What the classes and functions inside a function take from its globals, where cloudpickle does not see it.

The body of a class looks its names up with other instructions than a function does, because a name may be the class's own.
So cloudpickle finds neither the modules and globals that a class body names, nor the submodules that any nested code names.
"""

from __future__ import annotations

import dis
import inspect
import itertools
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

from cloudpickle import cloudpickle as tracking

_LOAD = frozenset(dis.opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") if name in dis.opmap)
_STORE = dis.opmap["STORE_NAME"]
_DELETE = dis.opmap["DELETE_NAME"]
_HANDLE = dis.opmap["PUSH_EXC_INFO"]
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
_ALWAYS_THERE = frozenset({"__name__"})
"""Every class body names it, and cloudpickle sends it with every function."""

_Found = tuple[tuple[str, ...], tuple[str, ...]]
_found: weakref.WeakKeyDictionary[types.CodeType, _Found] = weakref.WeakKeyDictionary()


def add_what_nested_code_names(function: types.FunctionType, state: dict[str, Any]) -> None:
    """Add to `state`, by which cloudpickle sets the attributes of a restored function, what it left out."""
    code = function.__code__
    captured = state["__globals__"]
    main = sys.modules.get("__main__")
    looks_into_main = "__main__" in code.co_names or (
        main is not None and any(value is main for value in captured.values())
    )
    if not looks_into_main and not any(type(constant) is types.CodeType for constant in code.co_consts):
        return
    loaded, all_names = _names_of(code)
    if looks_into_main and function.__globals__.get("__name__") == "__main__":
        # As `import __main__; __main__.helper(1)`: attributes are among the names of code.
        loaded = all_names
    captured.update((name, function.__globals__[name]) for name in loaded if name in function.__globals__)
    state["_cloudpickle_submodules"] = tracking._find_imported_submodules(
        types.SimpleNamespace(co_names=all_names), itertools.chain(captured.values(), _cell_values(function))
    )


def _names_of(code: types.CodeType) -> _Found:
    """Return the names that class bodies inside a function look up, and all names of the function, both in their order."""
    found = _found.get(code)
    if found is None:
        codes = list(_with_nested(code))
        loaded = dict.fromkeys(itertools.chain.from_iterable(_loaded_names(each) for each in codes))
        all_names = dict.fromkeys(itertools.chain.from_iterable(each.co_names for each in codes))
        found = _found[code] = tuple(loaded), tuple(all_names)
    return found


def _with_nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _with_nested(constant)


def _loaded_names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that this code may look up in the globals though it could have them itself.

    What a class body has certainly set before it reads it is left out: a property `data` that gets a setter must not take along
    a large global of that name.
    """
    if code.co_flags & inspect.CO_OPTIMIZED and not _LOADED_IN_FUNCTIONS:
        return
    own: set[str] = set()
    instructions = list(dis.get_instructions(code))
    has_handlers = any(instruction.opcode == _HANDLE for instruction in instructions)
    furthest = 0
    for instruction in instructions:
        opcode, name = instruction.opcode, instruction.argval
        if opcode in _JUMPS:
            furthest = max(furthest, name)
        elif opcode == _STORE and not has_handlers and instruction.offset >= furthest:
            # No jump leads around it.
            own.add(name)
        elif opcode == _DELETE:
            own.discard(name)
        elif opcode in _LOAD and name not in own and name not in _ALWAYS_THERE:
            yield name


_LOADED_IN_FUNCTIONS = "LOAD_FROM_DICT_OR_GLOBALS" in dis.opmap
"""From Python 3.12 on, the scope of type parameters is a function that looks names up as the class around it does."""


def _cell_values(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            # Not assigned yet.
            continue
