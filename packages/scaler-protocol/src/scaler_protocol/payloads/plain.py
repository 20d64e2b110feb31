"""Plain data: calls, results and errors as JSON, for clients that are not written in Python, and the functions they name.

    data                              JSON
    None, booleans, texts             null, true, false, strings
    integers up to ±(2**53 - 1)       numbers; larger ones {"$int": "12345678901234567890"}
    other finite numbers              numbers
    NaN and the infinities            {"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}
    bytes, bytearrays                 {"$bytes": "base64"}; they arrive as bytes
    datetimes with a time zone        {"$datetime": "2026-01-31T12:00:00.000001+00:00"}, ISO 8601
    lists, tuples                     arrays; they arrive as lists
    dictionaries with texts as keys   objects. The only key of one that begins with "$" is written with one more "$".

Instances of classes that derive from these are sent as what they derive from. Everything else is an error that says where in
the value it was found. A reader accepts {"$float": …} for any number that Python's `float` reads: `{"$float": "-0.0"}`.
In the arguments of a call, {"$input": n} stands for the result of the task's n-th graph predecessor, counted from 0.

This module and its imports need the standard library only, because it travels to hosts without Scaler (see `execution`).
"""

from __future__ import annotations

import base64
import importlib
import json
import math
import pickle
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from scaler_protocol.payloads.framing import PICKLED, PLAIN

INTEGER_MAX = 2**53 - 1
"""The largest integer that every reader of JSON keeps as it is, as many read all numbers as IEEE doubles."""

INPUT = "$input"
"""The only key of what stands for the result of a graph predecessor, in the arguments of a call."""

_UNCHANGED = frozenset((str, bool, type(None)))
_BASES = (str, int, float, bytes, bytearray, list, tuple, dict, datetime)


class NotPlainDataError(TypeError):
    """A value that is not plain data, or JSON that no plain data has."""


# --- functions -------------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Raise ValueError unless this looks like the name of a function, "package.module:function"."""
    module, colon, qualname = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *qualname.split("."))):
        raise ValueError(f"{name!r} does not name a function: write 'package.module:function'")


def named_function(name: str) -> Callable[..., Any]:
    """Import the function "package.module:function" or "package.module:Class.method".

    Raises ValueError for a name of another form, what the import raises, AttributeError if the module has nothing of this
    name, and TypeError if that cannot be called.
    """
    check_name(name)
    module_name, _, qualname = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AttributeError(f"module {module_name!r} has no {qualname!r}") from None
    if not callable(found):
        raise TypeError(f"{name!r} is no function: its type is {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def call_named(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call the function of this name: what `scaler.by_name` submits. Every worker can import it."""
    return named_function(name)(*args, **kwargs)


# --- values ----------------------------------------------------------------------------------------------------------


def dump_plain(value: Any) -> bytes:
    """Return the JSON of a value. Raises NotPlainDataError."""
    return json.dumps(_written(value), separators=(",", ":"), allow_nan=False).encode()


def load_plain(data: bytes, load_input: Callable[[int], Any] | None = None) -> Any:
    """Return the value of this JSON. Raises NotPlainDataError.

    With `load_input`, there may be marks of inputs in it, which are replaced by what it returns for their numbers.
    """
    try:
        hook = None
        if b'"$' in data:
            hook = _read if load_input is None else _reader_of_inputs(load_input)
        return json.loads(data, object_hook=hook, parse_constant=_refuse_constant)
    except RecursionError:
        raise NotPlainDataError("the JSON is nested too deeply") from None
    except NotPlainDataError:
        raise
    except ValueError as error:
        raise NotPlainDataError(f"not JSON: {error}") from None


def load_plain_call(data: bytes, load_input: Callable[[int], Any] | None = None) -> tuple[list[Any], dict[str, Any]]:
    """Return (args, kwargs) of the arguments of a call. `load_input` and errors: see `load_plain`."""
    call = load_plain(data, load_input)
    if type(call) is list and len(call) == 2 and type(call[0]) is list and type(call[1]) is dict:
        return call[0], call[1]
    raise NotPlainDataError("the arguments of a call are an array of two: [positional, {name: value}]")


def dump_plain_result(value: Any) -> bytes:
    """Return the payload of a task's result. Raises NotPlainDataError, with a text for the caller."""
    try:
        return PLAIN + dump_plain(value)
    except NotPlainDataError as error:
        text = f"the task's result is not plain data, which its client asks for: {error}"
    raise NotPlainDataError(text)


def plain_failure(payload: bytes) -> bytes:
    """Return a failure payload of this process as plain data: {"type", "text", "traceback"}."""
    _, type_name, text, lines = pickle.loads(payload[len(PICKLED) :])
    return PLAIN + dump_plain({"type": type_name, "text": text, "traceback": lines})


def load_plain_failure(payload: bytes) -> tuple[str, str, str]:
    """Return (type, text, traceback) of what `plain_failure` made. Raises NotPlainDataError."""
    fields = load_plain(payload[len(PLAIN) :])
    if type(fields) is not dict:
        raise NotPlainDataError("a failure is an object")
    return str(fields.get("type", "")), str(fields.get("text", "")), str(fields.get("traceback", ""))


# --- inside ----------------------------------------------------------------------------------------------------------


class _NotPlain(Exception):
    """Something in a value is not plain data; `place` grows as the exception leaves the containers around it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.place = ""

    def inside(self, key: str | int) -> _NotPlain:
        """Say in which element of a container it was."""
        self.place = f"[{key!r}]{self.place}"
        return self


def _written(value: Any) -> Any:
    try:
        return _write(value)
    except RecursionError:
        raise NotPlainDataError("it is nested too deeply, or contains itself") from None
    except _NotPlain as error:
        text = f"value{error.place} {error.what}" if error.place else f"it {error.what}"
    raise NotPlainDataError(text)


def _write(value: Any) -> Any:
    """Return what `json` writes for a value. Raises _NotPlain."""
    kind = type(value)
    if kind in _UNCHANGED:
        return value
    if kind is int:
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else {"$int": _digits(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list or kind is tuple:
        return _write_items(value)
    if kind is dict:
        return _write_dictionary(value)
    if kind is bytes or kind is bytearray:
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if kind is datetime:
        if value.tzinfo is None:
            raise _NotPlain("is a datetime without a time zone, which is not plain data")
        return {"$datetime": value.isoformat()}
    for base in _BASES:
        if issubclass(kind, base):
            return _write(_as_base(value, base))
    raise _NotPlain(f"is of type {_type_name(kind)}, which is not plain data{_hint(value)}")


def _write_items(items: list[Any] | tuple[Any, ...]) -> Any:
    kinds = set(map(type, items))
    # Long lists of numbers and texts are common, and looked at without a step of Python for each element.
    if kinds <= _UNCHANGED:
        return items
    if kinds == {float} and all(map(math.isfinite, items)):
        return items
    if kinds == {int} and max(items) <= INTEGER_MAX and min(items) >= -INTEGER_MAX:
        return items
    written = []
    for index, item in enumerate(items):
        try:
            written.append(_write(item))
        except _NotPlain as error:
            raise error.inside(index) from None
    return written


def _write_dictionary(value: dict[Any, Any]) -> dict[str, Any]:
    written = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _NotPlain(f"has a key of type {_type_name(type(key))}: keys are texts in plain data")
        try:
            written[str.__str__(key)] = _write(item)
        except _NotPlain as error:
            raise error.inside(str.__str__(key)) from None
    if len(written) == 1:
        (only,) = written
        if only.startswith("$"):
            return {f"${only}": written[only]}
    return written


def _as_base(value: Any, base: type) -> Any:
    """Return a value of a derived class as its base; no code of the class runs."""
    if base is str:
        return str.__str__(value)
    if base is int:
        return int.__index__(value)
    if base is float:
        return float.__float__(value)
    if base is bytes or base is bytearray:
        return base.__getitem__(value, slice(None))
    if base is datetime:
        return datetime.combine(datetime.date(value), datetime.timetz(value))
    if base is dict:
        return dict(dict.items(value))
    return list(base.__iter__(value))  # type: ignore[attr-defined]


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise _NotPlain("is an integer of more digits than Python writes") from None


def _type_name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _hint(value: Any) -> str:
    kind = type(value)
    if kind in (set, frozenset):
        return "; make a list of it"
    if hasattr(kind, "tolist"):
        return "; its method tolist() makes plain data"
    if hasattr(kind, "__dataclass_fields__"):
        return "; dataclasses.asdict() makes plain data"
    return "; its method isoformat() makes a text" if hasattr(kind, "isoformat") else ""


def _read(found: dict[str, Any]) -> Any:
    """Return what an object of JSON stands for. What it contains was read before."""
    if len(found) != 1:
        return found
    ((key, value),) = found.items()
    if not key.startswith("$"):
        return found
    if key.startswith("$$"):
        return {key[1:]: value}
    read = _TAGS.get(key)
    if read is None or type(value) is not str:
        raise NotPlainDataError(f"{{{key!r}: …}} is no plain data: write a key of your own as {'$' + key!r}")
    try:
        return read(value)
    except ValueError as error:
        raise NotPlainDataError(f"not the text of {key!r}: {error}") from None


def _reader_of_inputs(load_input: Callable[[int], Any]) -> Callable[[dict[str, Any]], Any]:
    def read(found: dict[str, Any]) -> Any:
        if len(found) == 1 and type(found.get(INPUT)) is int:
            return load_input(found[INPUT])
        return _read(found)

    return read


def _read_datetime(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise NotPlainDataError(f'not JSON: {name}; write {{"$float": "nan"}}, "inf" or "-inf"')


_TAGS: dict[str, Callable[[str], Any]] = {
    "$int": int,
    "$float": float,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$datetime": _read_datetime,
}
