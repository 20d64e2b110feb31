"""What a value or an outcome is, as plain nested tuples: two are the same when their descriptions are equal.

A description says type and whether it is the very class of this process, content, flags of arrays, and what is shared:
an object met again is named by the order in which it was met first, so cycles end and lost sharing shows.
"""

from __future__ import annotations

import contextlib
import copyreg
import ctypes
import enum
import hashlib
import marshal
import re
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

Description = Any
"""Strings, integers, and tuples of them."""

_SHOWN_MAX = 200
_ATOMS = frozenset({bool, type(None), type(Ellipsis), type(NotImplemented)})
_EXCEPTION_FIELDS_LEFT_OUT = frozenset(
    {
        "args",
        "__cause__",
        "__context__",
        "__traceback__",
        "__suppress_context__",
        "__dict__",
        "__weakref__",
        "exceptions",
    }
)
_RECURSION_LIMIT = 40_000
_PADDED = "gGT"
"""Types of numpy whose bytes are not only the value: padding, and pointers."""

_MET, _MET_IN_PART = "met before", "met before in this part"
"""Say that an object is described already, by its number in the whole, or in a part that is numbered by itself."""

_ARRAY_TYPE: Any = type(ctypes.Array)

own_classes: list[type] = []
"""Classes of this process that no module has, which a value must come back as."""


def raw_field(error: BaseException, name: str) -> Any:
    """Return what Python itself keeps of an exception, whatever its class makes of the name."""
    descriptor: Any = vars(BaseException)[name]
    return descriptor.__get__(error)


class _Deep:
    """Descriptions of deep values are deep. Not for what runs code under test, which has the usual limit.

    Threads of a cluster in this process may describe values at the same time, and the limit is the process's: the last one that
    ends puts the usual one back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._usual = 0

    def __enter__(self) -> None:
        with self._lock:
            self._entered += 1
            if self._entered == 1:
                self._usual = sys.getrecursionlimit()
                sys.setrecursionlimit(_RECURSION_LIMIT)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                sys.setrecursionlimit(self._usual)


deep_recursion = _Deep()


def describe(value: Any) -> Description:
    """Return the description of `value`. Never raises because of the value."""
    with deep_recursion:
        return _Describer().value(value)


def first_difference(left: Description, right: Description) -> str:
    """Return where two descriptions differ and how, for people; empty where they are equal."""
    with deep_recursion:
        # At once for most: walking through long equal ones takes seconds in all. The bytes also tell 1 from True.
        with contextlib.suppress(ValueError):
            # Version 2 writes alike what is equal, whatever is shared. It refuses what is nested very deeply.
            if marshal.dumps(left, 2) == marshal.dumps(right, 2):
                return ""
        return _difference(left, right, "")


def renumbered(part: Description, less: int) -> Description:
    """Return the description of a part as that of a whole: `less` objects were met before it.

    What is numbered by itself, as members of sets are, keeps its numbers.
    """
    with deep_recursion:
        return _renumbered(part, less)


def _renumbered(part: Description, less: int) -> Description:
    if type(part) is not tuple:
        return part
    if len(part) == 2 and part[0] == _MET:
        return _MET, part[1] - less
    # A list: deep levels of generators are levels of C too, which have a limit of their own.
    return tuple([_renumbered(item, less) for item in part])


def _difference(left: Description, right: Description, path: str) -> str:
    if type(left) is tuple and type(right) is tuple:
        name = left[0] if left and type(left[0]) is str else ""
        for position, (one, other) in enumerate(zip(left, right, strict=False)):
            found = _difference(one, other, f"{path}/{name}[{position}]")
            if found:
                return found
        if len(left) != len(right):
            return f"{path}: {len(left)} parts against {len(right)}: {_short(left)} against {_short(right)}"
        return ""
    return "" if left == right and type(left) is type(right) else f"{path}: {_short(left)} against {_short(right)}"


def _short(part: Description) -> str:
    text = repr(part)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


class _Describer:
    def __init__(self, word: str = _MET) -> None:
        self._met: dict[int, int] = {}
        self._word = word
        self._kept: list[Any] = []
        """Objects made on the way stay alive, so that no id is used twice."""

    def value(self, value: Any) -> Description:
        kind = type(value)
        if kind in _ATOMS:
            return kind.__name__, repr(value)
        if kind is int:
            return "int", _cut_text(hex(value))
        if kind is float:
            return "float", _float(value)
        if kind is complex:
            return "complex", _float(value.real), _float(value.imag)
        if kind is str:
            return "str", _cut_text(value)
        if kind is bytes:
            return "bytes", _cut_bytes(value)
        if isinstance(value, type):
            return self._class(value)
        if kind is types.ModuleType:
            return "module", value.__name__, sys.modules.get(value.__name__) is value
        if isinstance(value, enum.Enum):
            return self._member(value)
        if kind in (tuple, frozenset) and not value:
            return (kind.__name__,)
        met = self._met.get(id(value))
        if met is not None:
            return self._word, met
        self._met[id(value)] = len(self._met)
        self._kept.append(value)
        return self._object(value, kind)

    def _object(self, value: Any, kind: type) -> Description:
        if kind is list or kind is tuple:
            return (kind.__name__, *map(self.value, value))
        if kind is dict:
            return ("dict", *((self.value(key), self.value(item)) for key, item in value.items()))
        if kind is set or kind is frozenset:
            return (kind.__name__, *sorted((_Describer(_MET_IN_PART).value(item) for item in value), key=repr))
        if kind is bytearray:
            return "bytearray", _cut_bytes(bytes(value))
        if kind is memoryview:
            return self._memoryview(value)
        if isinstance(value, BaseException):
            return self._exception(value)
        if isinstance(value, np.ma.core.MaskedConstant):
            return "masked", value is np.ma.masked
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            content = repr(value) if value.dtype.char in _PADDED else value.tobytes().hex()
            return "scalar", self._class(kind), str(value.dtype), content
        if isinstance(value, np.dtype):
            return "dtype", repr(value), value.isalignedstruct
        if isinstance(value, np.ufunc):
            return "ufunc", value.__name__, getattr(np, value.__name__, None) is value
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.MethodType:
            return "method", value.__name__, self.value(value.__self__)
        if kind is types.BuiltinFunctionType:
            return "builtin", value.__name__, self.value(value.__self__)
        return self._reduced(value, kind)

    def _class(self, value: type) -> Description:
        array: Any = value
        if isinstance(array, _ARRAY_TYPE) and array._type_ * array._length_ is array:
            # Its module is that of whoever made it first.
            return "array type", self._class(array._type_), array._length_
        return "class", value.__module__, value.__qualname__, _is_own(value)

    def _member(self, value: enum.Enum) -> Description:
        try:
            itself = type(value)(value.value) is value
        except Exception as error:
            return "member", self._class(type(value)), repr(value.name), f"not found: {type(error).__name__}"
        return "member", self._class(type(value)), repr(value.name), self.value(value.value), itself

    def _array(self, value: Any) -> Description:
        plain = np.asarray(value)
        content: Description
        if value.dtype.hasobject:
            content = tuple(self.value(item) for item in plain.ravel(order="K").tolist())
        elif value.dtype.char in _PADDED:
            content = repr(plain)
        else:
            content = _cut_bytes(plain.tobytes())
        flags = value.flags
        described: Description = (
            "array",
            self._class(type(value)),
            repr(value.dtype),
            value.shape,
            ("C" if flags.c_contiguous else "") + ("F" if flags.f_contiguous else ""),
            "writable" if flags.writeable else "read-only",
            content,
        )
        if isinstance(value, np.ma.MaskedArray):
            mask = np.ma.getmask(value)
            shown = "nomask" if mask is np.ma.nomask else _cut_bytes(np.asarray(mask).tobytes())
            described += (shown, repr(value.fill_value))
        return described

    def _memoryview(self, value: memoryview) -> Description:
        try:
            content = value.tobytes()
        except ValueError:
            return ("released memoryview",)
        return "memoryview", value.format, value.shape, value.readonly, _cut_bytes(content)

    def _function(self, value: types.FunctionType) -> Description:
        if _is_own(value):
            return "function", value.__module__, value.__qualname__, True
        cells = []
        for cell in value.__closure__ or ():
            try:
                cells.append(self.value(cell.cell_contents))
            except ValueError:
                cells.append("empty cell")
        return (
            "function by value",
            value.__qualname__,
            _code(value.__code__),
            tuple(cells),
            self.value(value.__defaults__),
            self.value(value.__kwdefaults__),
            self.value(value.__dict__),
            self.value(value.__doc__),
        )

    def _exception(self, error: BaseException) -> Description:
        fields = []
        for kind in type(error).__mro__:
            for name, descriptor in vars(kind).items():
                if name in _EXCEPTION_FIELDS_LEFT_OUT:
                    continue
                if isinstance(descriptor, types.MemberDescriptorType | types.GetSetDescriptorType):
                    try:
                        fields.append((name, self.value(descriptor.__get__(error))))
                    except AttributeError:
                        fields.append((name, "not set"))
        attributes = dict(object.__getattribute__(error, "__dict__"))
        notes = attributes.pop("__notes__", None)
        members = ()
        if isinstance(error, BaseExceptionGroup):
            members = tuple(self.value(member) for member in error.exceptions)
        return (
            "exception",
            self._class(type(error)),
            ("text", _text(error)),
            ("args", self.value(raw_field(error, "args"))),
            ("fields", tuple(fields)),
            ("attributes", self.value(attributes)),
            ("notes", self.value(notes)),
            ("members", members),
            ("cause", self.value(raw_field(error, "__cause__"))),
            ("context", self.value(raw_field(error, "__context__"))),
            ("suppressed", raw_field(error, "__suppress_context__")),
        )

    def _reduced(self, value: Any, kind: type) -> Description:
        reduce = copyreg.dispatch_table.get(kind)
        try:
            reduced = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception as error:
            return "cannot be reduced", self._class(kind), type(error).__name__
        if isinstance(reduced, str):
            return "global", kind.__module__, reduced
        parts = [list(part) if isinstance(part, Iterator) else part for part in reduced]
        # A callable that is a closure or a method describes as one.
        return ("object", self._class(kind), *map(self.value, parts))


def _is_own(value: Any) -> bool:
    """Whether this very class or function is found by its name in this process."""
    if any(value is own for own in own_classes):
        return True
    found: Any = sys.modules.get(value.__module__ or "")
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _code(code: types.CodeType) -> Description:
    constants = tuple(
        _code(constant) if isinstance(constant, types.CodeType) else _Describer(_MET_IN_PART).value(constant)
        for constant in code.co_consts
    )
    return code.co_name, code.co_code.hex(), code.co_names, code.co_varnames, constants


def _text(error: BaseException) -> Description:
    try:
        return _cut_text(str(error))
    except BaseException as failure:
        # An address differs between two processes.
        return "str raises", type(failure).__name__, re.sub(r"0x[0-9a-f]+", "0x…", str(failure))


def _float(value: float) -> str:
    return "nan" if value != value else value.hex()


def _cut_text(text: str) -> Description:
    if len(text) <= _SHOWN_MAX:
        return text
    return len(text), hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), text[:20]


def _cut_bytes(content: bytes) -> Description:
    return content.hex() if len(content) <= _SHOWN_MAX else (len(content), hashlib.sha256(content).hexdigest())
