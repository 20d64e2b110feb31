"""Exceptions to bytes and back, so that the exception that arrives is the one that was raised.

Pickle omits traceback, cause and context, calls classes with wrong arguments, and runs code of the exception. So there are
two ways for each exception. FIELDS: its fields are read and written as the interpreter keeps them, and no code of its class
runs on either side. OWN: as its class defines (`__reduce__`, `__setstate__`). Classes that define this go the OWN way first,
all others FIELDS. The sender restores the result once and compares it with the original. If they differ, or if something
cannot be pickled, it tries the other way. If neither works, a `StandIn` describes the exception in words. Its causes, and the
exceptions that it caused, still arrive as themselves.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any, NamedTuple

from scaler_protocol.failures.facts import (
    Run,
    args_of,
    arguments_text_of,
    attributes_of,
    cause_of,
    context_of,
    has_own_reduction,
    members_of_group,
    notes_of,
    read_fields,
    run,
    suppresses_context,
    text_of,
    traceback_of,
    type_name_of,
    write_fields_by_name,
)
from scaler_protocol.failures.simple import SIMPLE, dump_simple, load_simple, new_exception
from scaler_protocol.failures.texts import full_text
from scaler_protocol.failures.tracebacks import (
    Stack,
    frames_of,
    load_traceback,
    make_traceback,
    places_of,
    stack_of,
)

EXCEPTIONS_MAX = 200
"""Most causes, contexts and members of groups that travel as exceptions. Further ones are only in the text."""

_ROUNDS_MAX = 4
_PROTOCOL = 5
_FIELDS, _OWN, _STAND_IN = "fields", "own", "stand-in"
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b")


class StandIn(NamedTuple):
    """The description of an exception that cannot be restored. The receiver makes an exception from it."""

    type_name: str
    text: str
    traceback_text: str
    arguments_text: str
    reason: str
    notes: tuple[str, ...]


class UnrestoredError(Exception):
    """A `StandIn` as an exception, unless the receiver chooses another class."""

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(*stand_in)
        self.stand_in = stand_in


class _Limits(NamedTuple):
    run: Run
    is_own_code: Callable[[CodeType], bool]


_classes: dict[Any, Any] = {}
"""Picklers and unpicklers for exceptions, by their base class."""


def dump_exception(
    error: BaseException,
    text: str,
    run: Run = run,
    is_own_code: Callable[[CodeType], bool] = lambda _: False,
    stack: Stack | None = None,
) -> bytes:
    """Return the bytes from which `load_exception` makes `error` again, as far as possible. Never raises.

    `text` comes from `text_of`. `run` calls functions that may be a user's code. Leading frames with `is_own_code` true are
    left out; `stack` has the others, where they are known.
    """
    # Most exceptions: nothing can go wrong, so nothing must be tried.
    simple = dump_simple(error, run, is_own_code, stack)
    if simple is not None:
        return simple
    return _Dump(error, text, _Limits(run, is_own_code)).to_bytes()


def load_exception(
    data: bytes | memoryview,
    make_stand_in: Callable[[StandIn], BaseException] = UnrestoredError,
    unpickler: Any = pickle.Unpickler,
) -> BaseException:
    """Return the exception from the bytes of `dump_exception`. Raises any error of unpickling."""
    if data[:1] == SIMPLE:
        return load_simple(data, lambda pickled: unpickler(io.BytesIO(pickled)).load())
    restored = _unpickler_class(unpickler)(io.BytesIO(data), make_stand_in).load()
    if not issubclass(type(restored), BaseException):
        raise pickle.UnpicklingError(f"an exception was restored as {type_name_of(type(restored))}")
    return restored  # type: ignore[no-any-return]


def same_text(one: str, other: str) -> bool:
    """Whether two texts of exceptions are equal, except for addresses and the order of sets, which differ between processes."""
    if one == other:
        return True
    one, other = _ADDRESS.sub("0x", one), _ADDRESS.sub("0x", other)
    return one == other or sorted(one) == sorted(other)


class _Dump:
    """Makes the bytes of one exception with its causes, contexts and members."""

    def __init__(self, error: BaseException, text: str, limits: _Limits) -> None:
        self._error = error
        self._text = text
        self._limits = limits
        self._parts = _parts_of(error)
        self._travels = {id(part) for part in self._parts}
        self._ways: dict[int, list[str]] = {}
        """By exception: the ways that have not failed, the present one first."""
        self._reasons: dict[int, str] = {}
        self._alone: int | None = None
        """The only exception that is pickled in this attempt; the others are replaced."""

    def to_bytes(self) -> bytes:
        for _ in range(_ROUNDS_MAX):
            try:
                data: bytes = self._limits.run(self._dumps, self._error)
                copy = self._limits.run(load_exception, data)
            except BaseException as problem:
                self._blame(problem)
                continue
            differing = self._differences(copy)
            if not differing:
                return data
            for part, reason in differing:
                self._give_up_way(part, reason)
        # The exceptions may fail only in combination, or differ in each attempt: describe all of them.
        self._ways = {id(part): [_STAND_IN] for part in self._parts}
        try:
            return self._dumps(self._error)
        except BaseException:
            return b""

    # --- which way each takes

    def _way_of(self, error: BaseException) -> str:
        ways = self._ways.get(id(error))
        if ways is None:
            own_first = has_own_reduction(type(error))
            ways = self._ways[id(error)] = [_OWN, _FIELDS, _STAND_IN] if own_first else [_FIELDS, _OWN, _STAND_IN]
        return ways[0]

    def _give_up_way(self, error: BaseException, reason: str) -> None:
        if self._way_of(error) != _STAND_IN:
            self._ways[id(error)].pop(0)
        # Keep the first reason: it is about the way that the class intends.
        self._reasons.setdefault(id(error), reason)

    def _blame(self, problem: BaseException) -> None:
        """Find the exceptions that make the whole fail, and try another way for them."""
        if len(self._parts) == 1:
            self._give_up_way(self._error, _reason(problem))
            return
        for part in self._parts:
            if self._way_of(part) == _STAND_IN:
                continue
            self._alone = id(part)
            try:
                data = self._limits.run(self._dumps, part)
                self._limits.run(load_exception, data)
            except BaseException as own_problem:
                self._give_up_way(part, _reason(own_problem))
            finally:
                self._alone = None

    # --- bytes

    def _dumps(self, error: BaseException) -> bytes:
        stream = io.BytesIO()
        try:
            _pickler_class(pickle.Pickler)(stream, self._reduce).dump(error)
        except (pickle.PicklingError, AttributeError, TypeError):
            # Local classes, and classes of __main__, travel by value.
            from scaler_protocol.payloads import by_value

            stream = io.BytesIO()
            _pickler_class(by_value.Pickler)(stream, self._reduce).dump(error)
        return stream.getvalue()

    def _reduce(self, error: BaseException) -> Any:
        """Return how to pickle one exception: one of the chain, or one in an attribute of another."""
        if self._alone is not None and id(error) != self._alone and id(error) in self._travels:
            return Exception, ()
        way = self._way_of(error)
        links = self._links(error)
        if way == _STAND_IN:
            return make_stand_in, tuple(self._stand_in(error)), ((), {}, {}, *links), None, None, write_fields
        if way == _OWN:
            reduced = error.__reduce_ex__(_PROTOCOL)
            if type(reduced) is not tuple or len(reduced) < 2:
                return reduced
            function, args, own_state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
            return function, args, (own_state, setter, *links), items, pairs, write_own_state
        members = members_of_group(error)
        made_from = () if members is None else (BaseExceptionGroup.__dict__["message"].__get__(error), list(members))
        state = (args_of(error), attributes_of(error), read_fields(error), *links)
        return new_exception, (type(error), made_from), state, None, None, write_fields

    def _links(self, error: BaseException) -> tuple[Any, ...]:
        cause, context = cause_of(error), context_of(error)
        return (
            cause if id(cause) in self._travels else None,
            context if id(context) in self._travels else None,
            suppresses_context(error),
            _places_of(error, self._limits.is_own_code),
        )

    def _stand_in(self, error: BaseException) -> StandIn:
        run = self._limits.run
        text = self._text if error is self._error else text_of(error, run)
        return StandIn(
            type_name_of(type(error)),
            text,
            full_text(error, text, run, self._limits.is_own_code),
            arguments_text_of(error, run),
            self._reasons.get(id(error), "it cannot be pickled together with its causes"),
            tuple(notes_of(error)),
        )

    # --- the proof

    def _differences(self, copy: BaseException) -> list[tuple[BaseException, str]]:
        """Return the exceptions that are restored differently, each with the difference."""
        copies = _parts_of(copy)
        if len(copies) != len(self._parts):
            return [(self._error, "its causes, contexts or members would not be the same")]
        differing = []
        for part, one in zip(self._parts, copies, strict=True):
            if self._way_of(part) != _STAND_IN:
                text = self._text if part is self._error else text_of(part, self._limits.run)
                reason = _difference(part, one, text, self._limits.run)
                if reason:
                    differing.append((part, reason))
        return differing


# --- what pickles name -----------------------------------------------------------------------------------------------


def write_fields(error: BaseException, state: tuple[Any, ...]) -> None:
    """Give an exception the fields of another one. No code of its class runs."""
    args, attributes, fields, *links = state
    if args:
        BaseException.__dict__["args"].__set__(error, args)
    if attributes:
        attributes_of(error).update(attributes)
    if fields:
        write_fields_by_name(error, fields)
    _write_links(error, *links)


def write_own_state(error: Any, state: tuple[Any, ...]) -> None:
    """Set the state that an exception's class returned, as pickle does, and the fields that pickle omits."""
    own_state, setter, *links = state
    if setter is not None:
        setter(error, own_state)
    elif own_state is not None:
        set_state = getattr(error, "__setstate__", None)
        if set_state is not None:
            set_state(own_state)
        else:
            attributes, slots = own_state if type(own_state) is tuple and len(own_state) == 2 else (own_state, None)
            attributes_of(error).update(attributes or {})
            for name, value in (slots or {}).items():
                setattr(error, name, value)
    if issubclass(type(error), BaseException):
        _write_links(error, *links)


def make_stand_in(*fields: Any) -> BaseException:
    """Pickles call this for an exception that cannot be restored. `load_exception` replaces the result."""
    return UnrestoredError(StandIn(*fields))


def _write_links(
    error: BaseException,
    cause: BaseException | None,
    context: BaseException | None,
    suppress: bool,
    places: bytes,
) -> None:
    own = BaseException.__dict__
    if cause is not None:
        own["__cause__"].__set__(error, cause)
    if context is not None:
        own["__context__"].__set__(error, context)
    # Setting a cause sets this too, so it follows.
    own["__suppress_context__"].__set__(error, suppress)
    if places:
        own["__traceback__"].__set__(error, load_traceback(places))


# --- inside ----------------------------------------------------------------------------------------------------------


def _pickler_class(base: Any) -> Any:
    return _classes.get(base) or _classes.setdefault(base, _make_pickler_class(base))


def _unpickler_class(base: Any) -> Any:
    return _classes.get(base) or _classes.setdefault(base, _make_unpickler_class(base))


def _make_pickler_class(base: Any) -> Any:
    class ExceptionPickler(base):  # type: ignore[misc]
        def __init__(self, stream: io.BytesIO, reduce: Callable[[BaseException], Any]) -> None:
            super().__init__(stream, _PROTOCOL)
            self._reduce = reduce

        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            if issubclass(kind, BaseException):
                return self._reduce(value)
            if kind is TracebackType:
                return make_traceback, (places_of(frames_of(value)),)
            return super().reducer_override(value) if base is not pickle.Pickler else NotImplemented

    return ExceptionPickler


def _make_unpickler_class(base: Any) -> Any:
    class ExceptionUnpickler(base):  # type: ignore[misc]
        def __init__(self, stream: io.BytesIO, make: Callable[[StandIn], BaseException]) -> None:
            super().__init__(stream)
            self._make = make

        def find_class(self, module_name: str, global_name: str) -> Any:
            if global_name == "make_stand_in" and module_name == __name__:
                return lambda *fields: self._make(StandIn(*fields))
            return super().find_class(module_name, global_name)

    return ExceptionUnpickler


def _parts_of(error: BaseException) -> list[BaseException]:
    """Return `error` and all exceptions it refers to as cause, context or member of a group, in a certain order."""
    parts = [error]
    seen = {id(error)}
    for part in parts:
        for other in (cause_of(part), context_of(part), *(members_of_group(part) or ())):
            if other is not None and id(other) not in seen and len(parts) < EXCEPTIONS_MAX:
                seen.add(id(other))
                parts.append(other)
    return parts


def _places_of(error: BaseException, is_own_code: Callable[[CodeType], bool]) -> bytes:
    return stack_of(traceback_of(error), is_own_code).places


def _difference(error: BaseException, copy: BaseException, text: str, run: Run) -> str:
    """Return how `copy` differs from `error`, whose text is `text`; empty if it does not."""
    if type(copy) is not type(error):
        return f"it would be restored as {type_name_of(type(copy))}"
    if not _alike(args_of(error), args_of(copy)):
        return "its args would not be the same"
    if not _alike(attributes_of(error), attributes_of(copy)):
        return "its attributes would not be the same"
    if not _alike(read_fields(error), read_fields(copy)):
        return "its fields would not be the same"
    # A text that changes each time proves nothing.
    if not same_text(text, text_of(copy, run)) and same_text(text, text_of(error, run)):
        return "its text would not be the same"
    return ""


def _alike(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two values are equal, as far as this can be determined without running their code."""
    kind = type(one)
    if type(other) is UnrestoredError:
        # One member of a group that must be described does not affect the others.
        return issubclass(kind, BaseException)
    if kind is not type(other):
        # Classes that travel by value may be new objects.
        return type_name_of(kind) == type_name_of(type(other))
    if kind in (int, str, bytes, bool, type(None)):
        return bool(one == other)
    if kind is tuple or kind is list:
        return len(one) == len(other) and (
            depth > 3 or all(_alike(*pair, depth + 1) for pair in zip(one[:100], other[:100], strict=True))
        )
    if kind is dict:
        if len(one) != len(other):
            return False
        pairs = list(zip(one.items(), other.items(), strict=True))[:100] if depth <= 3 else []
        return all(_alike(*pair, depth + 1) for pair in pairs)
    return True


def _reason(problem: BaseException) -> str:
    return f"{type_name_of(type(problem))}: {text_of(problem)}"[:1_000]
