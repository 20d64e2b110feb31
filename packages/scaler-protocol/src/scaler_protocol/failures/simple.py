"""Exceptions that need no proof: what they consist of is plain, and no code runs when they are made again.

This is so for the interpreter's own, and for classes that derive from these and define neither how they are pickled nor
what their text is. Their causes and contexts must be of this kind too. For all others `transport` tries what it sends.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import CodeType
from typing import Any

from scaler_protocol.failures.facts import (
    BUILT_IN,
    Run,
    args_of,
    attributes_of,
    cause_of,
    context_of,
    fields_of_class,
    has_own_reduction,
    is_built_in,
    is_plain,
    read_fields,
    suppresses_context,
    traceback_of,
    type_name_of,
    write_fields_by_name,
)
from scaler_protocol.failures.tracebacks import Stack, load_traceback, stack_of

SIMPLE = b"="
"""What the bytes of a simple exception begin with; those of others begin as pickles do."""

CHAIN_MAX = 8
"""Longer chains of causes and contexts are not simple."""

_NOTES_MAX = 50
_WITH_FIELDS = frozenset(kind for kind in BUILT_IN if fields_of_class(kind))
_BY_NAME = {kind.__name__: kind for kind in BUILT_IN}
_TEXTS = frozenset(kind.__str__ for kind in BUILT_IN)
"""The methods that make the text of what args and fields have, and of nothing else."""


def dump_simple(
    error: BaseException, run: Run, is_own_code: Callable[[CodeType], bool], stack: Stack | None
) -> bytes | None:
    """Return the bytes of a simple exception, without any doubt about what `load_simple` makes of them; None for others."""
    seen: list[BaseException] = []
    parts = _parts_of(error, is_own_code, stack, seen)
    if parts is None:
        return None
    if all(type(one) in BUILT_IN for one in seen):
        return SIMPLE + pickle.dumps(parts, 5)
    try:
        # A class is looked up by its name, which may run code of its module.
        pickled: bytes = run(pickle.dumps, parts, 5)
    except BaseException:
        # A local class, or one of `__main__`: it travels by value.
        return None
    return SIMPLE + pickled


def load_simple(data: bytes | memoryview, unpickle: Callable[[bytes | memoryview], Any]) -> BaseException:
    """Return the exception from the bytes of `dump_simple`. Raises any error of unpickling."""
    return _make(unpickle(data[len(SIMPLE) :]))


def _parts_of(
    error: BaseException, is_own_code: Callable[[CodeType], bool], stack: Stack | None, seen: list[BaseException]
) -> tuple[Any, ...] | None:
    """Return (class or its name, args, fields, whether its context is suppressed, places), and what few have besides:
    attributes, cause, and context (True: it is the cause)."""
    kind = type(error)
    if type(kind) is not type or len(seen) >= CHAIN_MAX or any(error is other for other in seen):
        return None
    args = args_of(error)
    if not is_plain(args):
        return None
    seen.append(error)
    named: Any
    if kind in BUILT_IN:
        named = kind.__name__
        fields = read_fields(error) if kind in _WITH_FIELDS else {}
    elif _is_plain_class(kind):
        named = kind
        fields = read_fields(error)
    else:
        return None
    # An OSError distinguishes fields that are None from unset ones, so it must be tried.
    if (fields and not all(map(is_plain, fields.values()))) or (None in args and issubclass(kind, OSError)):
        return None
    stack = stack or stack_of(traceback_of(error), is_own_code)
    parts = (named, args, fields, suppresses_context(error), stack.places)
    attributes, cause, context = attributes_of(error), cause_of(error), context_of(error)
    if not attributes and cause is None and context is None:
        return parts
    if not all(type(name) is str and (is_plain(value) or _are_notes(value)) for name, value in attributes.items()):
        return None
    of_cause = of_context = None
    if cause is not None:
        of_cause = _parts_of(cause, is_own_code, None, seen)
        if of_cause is None:
            return None
    if context is not None:
        of_context = True if context is cause else _parts_of(context, is_own_code, None, seen)
        if of_context is None:
            return None
    return (*parts, attributes, of_cause, of_context)


def _is_plain_class(kind: type) -> bool:
    first = next(base for base in type.__dict__["__mro__"].__get__(kind) if is_built_in(base))
    return first in BUILT_IN and type.__getattribute__(kind, "__str__") in _TEXTS and not has_own_reduction(kind)


def _are_notes(value: Any) -> bool:
    return type(value) is list and len(value) <= _NOTES_MAX and all(type(note) is str for note in value)


def _make(parts: tuple[Any, ...]) -> BaseException:
    named, args, fields, suppress, places, *others = parts
    kind = _BY_NAME[named] if type(named) is str else named
    if not issubclass(kind, BaseException):
        raise pickle.UnpicklingError(f"an exception was restored as {type_name_of(kind)}")
    error = new_exception(kind, ()) if kind is named else kind.__new__(kind)
    own = BaseException.__dict__
    if args:
        own["args"].__set__(error, args)
    if fields:
        write_fields_by_name(error, fields)
    if others:
        attributes, cause, context = others
        attributes_of(error).update(attributes)
        cause = None if cause is None else _make(cause)
        if cause is not None:
            own["__cause__"].__set__(error, cause)
        if context is not None:
            own["__context__"].__set__(error, cause if context is True else _make(context))
    if suppress or others:
        # Setting a cause sets this too, so it follows.
        own["__suppress_context__"].__set__(error, suppress)
    if places:
        own["__traceback__"].__set__(error, load_traceback(places))
    return error


def new_exception(kind: type[BaseException], made_from: tuple[Any, ...]) -> BaseException:
    """Return a new exception without fields; `made_from` has message and members of a group. No code of its class runs."""
    built_in = next(base for base in type.__dict__["__mro__"].__get__(kind) if is_built_in(base))
    error: BaseException = built_in.__new__(kind, *made_from)
    return error
