"""What an exception is, read without running its class's code.

Exceptions are arbitrary objects: `__class__`, `__traceback__`, `__cause__`, `args` or `__dict__` may be properties that
raise, and `__setattr__` may refuse. So everything here reads the fields that the interpreter itself uses. Only texts need
the class's code: `text_of` runs its `__str__` behind a guard and limits the length of the result.
"""

from __future__ import annotations

import builtins
import functools
import reprlib
from collections.abc import Callable
from types import MemberDescriptorType, TracebackType, WrapperDescriptorType
from typing import Any

TEXT_MAX = 16_000
"""Most characters of an exception's text that travel with the exception."""

BRIEF_MAX = 1_000
"""Most characters of an argument of an exception that is `is_simple`."""

_WEIGHT_MAX = 100_000
_LOOKED_THROUGH_MAX = 200
_NOTES_MAX = 50
_FIELDS_KEPT_MAX = 256
_HEAP_TYPE_FLAG = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: set for classes made by a class statement."""

_ATOMS = (int, float, bool, complex, type(None), str, bytes)

BUILT_IN = frozenset(
    kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, BaseException) and not issubclass(kind, BaseExceptionGroup)
)
"""The interpreter's own exceptions, without groups."""

_SIMPLE = frozenset(
    kind for kind in BUILT_IN if kind.__str__ is BaseException.__str__ or kind.__str__ is KeyError.__str__
)
"""Those whose text depends on their arguments alone."""

_own = BaseException.__dict__
_get_args = _own["args"].__get__
_get_attributes = _own["__dict__"].__get__
_get_traceback = _own["__traceback__"].__get__
_get_cause = _own["__cause__"].__get__
_get_context = _own["__context__"].__get__
_get_suppresses = _own["__suppress_context__"].__get__

Run = Callable[..., Any]
"""Calls its first argument with the others. That may run a user's code, which the function may stop."""


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """The `Run` without a time limit."""
    return function(*arguments)


def args_of(error: BaseException) -> tuple[Any, ...]:
    """Return `error.args`."""
    args: tuple[Any, ...] = _get_args(error)
    return args


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the instance dictionary. `__notes__` is in it."""
    attributes: dict[str, Any] = _get_attributes(error)
    return attributes


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return `error.__traceback__`."""
    frames: TracebackType | None = _get_traceback(error)
    return frames


def cause_of(error: BaseException) -> BaseException | None:
    """Return `error.__cause__`."""
    cause: BaseException | None = _get_cause(error)
    return cause


def context_of(error: BaseException) -> BaseException | None:
    """Return `error.__context__`."""
    context: BaseException | None = _get_context(error)
    return context


def suppresses_context(error: BaseException) -> bool:
    """Return `error.__suppress_context__`."""
    return bool(_get_suppresses(error))


def members_of_group(error: BaseException) -> tuple[BaseException, ...] | None:
    """Return the exceptions of a group; None for any other exception."""
    if not issubclass(type(error), BaseExceptionGroup):
        return None
    members: tuple[BaseException, ...] = BaseExceptionGroup.__dict__["exceptions"].__get__(error)
    return members


def notes_of(error: BaseException) -> list[str]:
    """Return the texts of an exception's notes, cut to a reasonable length."""
    notes = attributes_of(error).get("__notes__")
    if type(notes) is not list and type(notes) is not tuple:
        return []
    return [_cut(str.__str__(note)) for note in notes[:_NOTES_MAX] if issubclass(type(note), str)]


def type_name_of(kind: type) -> str:
    """Return the name of an exception's class as tracebacks show it: with its module, unless that is built in."""
    name: str = type.__dict__["__qualname__"].__get__(kind)
    try:
        module = type.__dict__["__module__"].__get__(kind)
    except AttributeError:
        return name
    return name if type(module) is not str or module in ("builtins", "__main__") else f"{module}.{name}"


def full_names_of(kind: type) -> list[str]:
    """Return the full names of a class and of all its bases. Runs nobody's code."""
    names = []
    for one in type.__dict__["__mro__"].__get__(kind):
        try:
            module = type.__dict__["__module__"].__get__(one)
        except AttributeError:
            module = None
        if type(module) is str:
            names.append(f"{module}.{type.__dict__['__qualname__'].__get__(one)}")
    return names


def is_simple(error: BaseException) -> bool:
    """Whether an exception is one of the interpreter's own whose text is that of a few short arguments.

    Then `str(error)` runs nobody's code, takes no time and is not long. This alone says nothing of what else the exception has.
    """
    kind = type(error)
    # A class may have a metaclass, which says what is equal to it.
    if type(kind) is not type or kind not in _SIMPLE:
        return False
    args = args_of(error)
    if len(args) > 8:
        return False
    for value in args:
        one = type(value)
        if one is str:
            if len(value) > BRIEF_MAX:
                return False
        elif one is int:
            if value.bit_length() > BRIEF_MAX:
                return False
        elif one is not float and one is not bool and value is not None:
            return False
    return True


def stands_alone(error: BaseException) -> bool:
    """Whether an exception has neither attributes nor notes, nor a cause, nor a context."""
    return not _get_attributes(error) and _get_cause(error) is None and _get_context(error) is None


def text_of(error: BaseException, run: Run = run, interrupts: bool = False) -> str:
    """Return `str(error)`, shortened if it is very long; never raises. `run` calls functions that may be a user's code.

    With `interrupts` a Ctrl-C raises KeyboardInterrupt here. A `__str__` that raises it itself does so again at a second try.
    """
    if is_simple(error):
        return str(error)
    if interrupts:
        try:
            return _text_of(error, run, KeyboardInterrupt)
        except KeyboardInterrupt as interrupt:
            try:
                _text_of(error, run, KeyboardInterrupt)
            except KeyboardInterrupt:
                # The exception's own code raises it. The text below describes that.
                pass
            else:
                raise interrupt from None
    return _text_of(error, run, ())


def _text_of(error: BaseException, run: Run, passed_on: type[BaseException] | tuple[()]) -> str:
    try:
        args = args_of(error)
        if _weight(args, 0) > _WEIGHT_MAX and _is_text_of_arguments(type(error)):
            # The text of a large argument would take longest of all, so only parts of it are used.
            return _cut(_short(args[0] if len(args) == 1 else args))
        kind = type(error)
        # The interpreter makes most texts from plain values. Such code need not be stopped.
        plain = is_plain(args) and type(type.__getattribute__(kind, "__str__")) is WrapperDescriptorType
        return _cut(str.__str__(str(error) if plain else run(str, error)))
    except BaseException as problem:
        if isinstance(problem, passed_on):
            raise
        return _unprintable(type(error), "str", problem)


def arguments_text_of(error: BaseException, run: Run = run) -> str:
    """Return `repr(error.args)`, shortened if it is very long; never raises."""
    parts = []
    for argument in args_of(error)[:_LOOKED_THROUGH_MAX]:
        try:
            parts.append(_short(argument) if _weight(argument, 0) > _WEIGHT_MAX else str.__str__(run(repr, argument)))
        except BaseException as problem:
            parts.append(_unprintable(type(argument), "repr", problem))
    return _cut("(" + ", ".join(parts) + (",)" if len(parts) == 1 else ")"))


def is_plain(value: Any) -> bool:
    """Whether a value is a number, text, bytes or None, or a short tuple of these, which pickle certainly restores."""
    kind = type(value)
    if kind is tuple:
        return len(value) <= 8 and all(type(item) in _ATOMS for item in value)
    return kind in _ATOMS


def is_built_in(kind: type) -> bool:
    """Whether a class is written in C, as the interpreter's own classes are."""
    return not type.__dict__["__flags__"].__get__(kind) & _HEAP_TYPE_FLAG


def fields_of_class(kind: type) -> list[tuple[str, Any, bool]]:
    """Return (name, descriptor, whether None means unset) of all fields that instances keep outside their dictionary.

    These are slots, and the fields of exceptions written in C: `errno`, `encoding`, `lineno`, `code`.
    """
    fields: list[tuple[str, Any, bool]] = []
    for base in type.__dict__["__mro__"].__get__(kind):
        fields += _fields_of_built_in(base) if is_built_in(base) else _fields_of(base, built_in=False)
    return fields


def _fields_of(base: type, *, built_in: bool = True) -> list[tuple[str, Any, bool]]:
    return [
        (name, descriptor, built_in)
        for name, descriptor in type.__dict__["__dict__"].__get__(base).items()
        if (type(descriptor) is MemberDescriptorType or (built_in and name == "characters_written"))
        and name not in _NOT_COPIED
    ]


_fields_of_built_in = functools.lru_cache(_FIELDS_KEPT_MAX)(_fields_of)


def read_fields(error: BaseException) -> dict[str, Any]:
    """Return the fields of an exception that are set, by name, without those of its dictionary."""
    fields: dict[str, Any] = {}
    for name, descriptor, none_is_unset in fields_of_class(type(error)):
        if name not in fields:
            try:
                value = descriptor.__get__(error)
            except AttributeError:
                continue
            if value is not None or not none_is_unset:
                fields[name] = value
    return fields


def write_fields_by_name(error: BaseException, fields: dict[str, Any]) -> None:
    """Set what `read_fields` has read of another exception."""
    descriptors = {name: descriptor for name, descriptor, _ in reversed(fields_of_class(type(error)))}
    for name, value in fields.items():
        descriptors[name].__set__(error, value)


_NOT_COPIED = frozenset({"__suppress_context__", "message", "exceptions", "obj", "__weakref__"})
"""Fields that other code sets, that cannot be set, or that may be any object (`AttributeError.obj`, which pickle omits too)."""


def has_own_reduction(kind: type) -> bool:
    """Whether a class defines how its instances are pickled."""
    if type.__getattribute__(kind, "__reduce_ex__") is not object.__reduce_ex__:
        return True
    for base in type.__dict__["__mro__"].__get__(kind):
        own = type.__dict__["__dict__"].__get__(base)
        if not is_built_in(base) and any(
            name in own for name in ("__reduce__", "__getstate__", "__setstate__", "__getnewargs__")
        ):
            return True
    return False


def _unprintable(kind: type, function: str, problem: BaseException) -> str:
    return f"<{type_name_of(kind)} that cannot be printed: {function}() raised {type_name_of(type(problem))}>"


def _is_text_of_arguments(kind: type) -> bool:
    method = type.__getattribute__(kind, "__str__")
    return method is BaseException.__str__ or method is KeyError.__str__


def _cut(text: str) -> str:
    if len(text) <= TEXT_MAX:
        return text
    return f"{text[: TEXT_MAX * 3 // 4]} … [{len(text):,} characters, cut] … {text[-TEXT_MAX // 4 :]}"


def _weight(value: Any, depth: int) -> int:
    """Return about how many characters a built-in value's text has; 0 if unknown."""
    kind = type(value)
    if kind is str or kind is bytes or kind is bytearray:
        return len(value)
    if kind is int:
        return int(value.bit_length()) // 3
    if depth < 3:
        if kind is list or kind is tuple:
            return len(value) + sum(_weight(item, depth + 1) for item in value[:_LOOKED_THROUGH_MAX])
        if kind is dict:
            items = list(value.items())[:_LOOKED_THROUGH_MAX] if len(value) <= _WEIGHT_MAX else []
            return len(value) + sum(_weight(item, depth + 1) for pair in items for item in pair)
        if kind is set or kind is frozenset:
            return len(value)
    return 0


class _Short(reprlib.Repr):
    """Texts of large values, made from only some of their parts."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 20
        self.maxstring = self.maxother = 1_000

    def repr_bytes(self, value: bytes, _level: int) -> str:
        return repr(value) if len(value) <= 1_000 else f"{value[:500]!r}...{value[-500:]!r}"

    def repr_bytearray(self, value: bytearray, level: int) -> str:
        return f"bytearray({self.repr_bytes(bytes(value[:1_001]), level)})"


def _short(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _cut(value)
    if kind is int:
        return hex(value)[:1_000] + "…"
    return _Short().repr(value)
