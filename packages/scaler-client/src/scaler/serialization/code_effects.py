"""Whether functions can change what they capture, told from their code. In doubt: yes."""

from __future__ import annotations

import dis
import types
import weakref
from collections.abc import Iterable, Iterator, Sequence

_STORE_GLOBAL = frozenset(dis.opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL") if name in dis.opmap)
_STORE_CELL = frozenset(dis.opmap[name] for name in ("STORE_DEREF", "DELETE_DEREF") if name in dis.opmap)
_STORE_ATTRIBUTE = frozenset(dis.opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR") if name in dis.opmap)

_TO_NAMESPACE = frozenset({"globals", "vars", "exec", "eval", "__globals__", "f_globals", "_getframe", "currentframe"})
_TO_FUNCTION = frozenset(
    {
        "setattr",
        "delattr",
        "__setattr__",
        "__delattr__",
        "__dict__",
        "__kwdefaults__",
        "__annotations__",
        "update_wrapper",
        "wraps",
    }
)
"""Names of roads to a function's globals, and to what a function has, that no instruction tells."""

_walked: weakref.WeakKeyDictionary[types.CodeType, tuple[frozenset[int], frozenset[str]]] = weakref.WeakKeyDictionary()


def changes_what_it_keeps(functions: Sequence[types.FunctionType], *, refer_to_functions: bool) -> bool:
    """Whether one of these functions may leave something behind for its next call.

    They are all that a function consists of; `refer_to_functions` says whether they can reach themselves or one another,
    and so each other's attributes and defaults.
    """
    for function in functions:
        code = function.__code__
        opcodes, names = _instructions_and_names(code)
        if opcodes & _STORE_GLOBAL or names & _TO_NAMESPACE:
            return True
        if code.co_freevars and opcodes & _STORE_CELL and _stores_cell(code, frozenset(code.co_freevars)):
            return True
        if refer_to_functions and (opcodes & _STORE_ATTRIBUTE or names & _TO_FUNCTION):
            return True
    return False


def _instructions_and_names(code: types.CodeType) -> tuple[frozenset[int], frozenset[str]]:
    found = _walked.get(code)
    if found is None:
        codes = list(nested_code(code))
        # Every other byte is an instruction; what it says beside is not looked at.
        opcodes = frozenset().union(*(each.co_code[::2] for each in codes))
        names: frozenset[str] = frozenset().union(*(each.co_names for each in codes))
        found = _walked[code] = opcodes, names
    return found


def nested_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and those of all functions and classes inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested_code(constant)


def global_names(code: types.CodeType) -> set[str]:
    """Return the names a function may look up in its globals, those of the functions inside it included.

    Names of attributes are among them; that makes checks stricter, never weaker.
    """
    return {name for each in nested_code(code) for name in each.co_names}


def _stores_cell(code: types.CodeType, captured: Iterable[str]) -> bool:
    return any(
        instruction.opcode in _STORE_CELL and instruction.argval in captured
        for each in nested_code(code)
        for instruction in dis.get_instructions(each)
    )
