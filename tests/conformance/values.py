"""The values of the table: each a name and a function that makes it anew."""

from __future__ import annotations

import array
import collections
import ctypes
import datetime
import decimal
import fractions
import functools
import io
import ipaddress
import itertools
import math
import operator
import os
import pathlib
import random
import re
import string
import sys
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy as np

KIB = 1024
LIMITS = {
    "just under 16 KiB": 16 * KIB - 200,
    "16 KiB": 16 * KIB,
    "just under 48 KiB": 48 * KIB - 200,
    "48 KiB": 48 * KIB,
    "just over 48 KiB": 48 * KIB + 1,
    "56 KiB": 56 * KIB,
    "64 KiB": 64 * KIB,
    "just under 256 KiB": 256 * KIB - 200,
    "256 KiB": 256 * KIB,
    "300 KiB": 300 * KIB,
    "1 MiB": 1024 * KIB,
}
"""Sizes around what the machinery decides by: buffers beside the pickle, values inline, objects, segments."""

Maker = Callable[[], Any]


def values(user: Any) -> dict[str, Maker]:
    """Return all values; `user` is the module that has the user's classes.

    In `__main__` only what is made of the user's classes, for nothing else depends on where they live.
    """
    made: dict[str, Maker] = {}
    if user.__name__ != "__main__":
        for group in (_builtins, _sizes, _arrays, _standard_library, _code, _refused):
            _add(made, group())
    for users in (_users, _enums, _exceptions, _users_code):
        _add(made, users(user))
    _add(made, _structures(user))
    return made


def _add(made: dict[str, Maker], more: dict[str, Maker]) -> None:
    doubled = made.keys() & more.keys()
    assert not doubled, f"two values are called {sorted(doubled)}"
    made.update(more)


def _builtins() -> dict[str, Maker]:
    return {
        "None": lambda: None,
        "True": lambda: True,
        "Ellipsis": lambda: ...,
        "NotImplemented": lambda: NotImplemented,
        "zero": lambda: 0,
        "negative": lambda: -1,
        "int over 64 bits": lambda: 2**70,
        "negative int over 64 bits": lambda: -(2**63) - 1,
        "int of 20,000 digits": lambda: 10**20_000 + 7,
        "float": lambda: 0.1,
        "negative zero": lambda: -0.0,
        "NaN": lambda: math.nan,
        "infinity": lambda: -math.inf,
        "complex": lambda: complex(1.5, -0.0),
        "empty str": lambda: "",
        "str": lambda: "text",
        "str beyond ASCII": lambda: "ä€😀\x00\n",
        "str with a surrogate": lambda: "a\udcff",
        "str of surrogates alone": lambda: "\ud800" * 300,
        "empty bytes": lambda: b"",
        "bytes": lambda: bytes(range(256)),
        "empty bytearray": lambda: bytearray(),
        "bytearray": lambda: bytearray(b"abc"),
        "empty list": list,
        "list": lambda: [1, "two", 3.0, None],
        "list of 40": lambda: list(range(40)),
        "empty tuple": lambda: (),
        "tuple": lambda: (1, (2, (3,))),
        "empty dict": dict,
        "dict": lambda: {"a": 1, 2: "b", None: [3], (4, 5): {6: 7}},
        "dict in an order of its own": lambda: dict.fromkeys("zyxabc"),
        "empty set": lambda: set(),
        "set": lambda: {1, "two", (3, 4)},
        "empty frozenset": lambda: frozenset(),
        "frozenset": lambda: frozenset({1, frozenset({2})}),
        "set of frozensets": lambda: {frozenset({1, 2}), frozenset({3})},
        "range": lambda: range(3, 30, 4),
        "slice": lambda: slice(1, None, 2),
        "dict of lists of dicts": lambda: {"a": [{"b": [{"c": (1, [2])}]}]},
        "one-letter strings": lambda: ["a", "b", ["a"], {"a": "b"}],
        "-1": lambda: [-1, (-1,), {"k": -1}],
        "iterator of a list": lambda: iter([1, 2, 3]),
        "advanced iterator": lambda: _advanced(iter([1, 2, 3])),
        "enumerate": lambda: enumerate("ab"),
        "zip": lambda: zip("ab", [1, 2], strict=False),
        "reversed": lambda: reversed([1, 2, 3]),
        "map object": lambda: map(abs, [-1, 2]),
        "object": lambda: object(),
    }


def _advanced(iterator: Any) -> Any:
    next(iterator)
    return iterator


def _sizes() -> dict[str, Maker]:
    made: dict[str, Maker] = {}
    for name, size in LIMITS.items():
        made[f"bytes of {name}"] = functools.partial(_pattern, size)
        made[f"bytearray of {name}"] = functools.partial(bytearray, size)
        made[f"str of {name}"] = functools.partial("é".ljust, size, "a")
        made[f"array of {name}"] = functools.partial(np.arange, size // 8, dtype=np.float64)
        made[f"list of an array of {name}"] = functools.partial(_list_of_array, size)
    made["list of ints of 48 KiB"] = lambda: list(range(100_000, 100_000 + 48 * KIB // 5))
    made["tuple of large bytes and their shared list"] = lambda: _shared_large(bytes(300 * KIB))
    made["1,100 small arrays"] = lambda: [np.full(3, number) for number in range(1100)]
    made["1,100 arrays of 1 KiB"] = lambda: [np.full(128, number, dtype=np.float64) for number in range(1100)]
    made["70 arrays of 17 KiB"] = lambda: [np.full(17 * 128, number, dtype=np.float64) for number in range(70)]
    made["5,000 strings"] = lambda: [f"string {number}" for number in range(5_000)]
    made["dict of 2,000"] = lambda: {f"key {number}": number for number in range(2_000)}
    return made


def _pattern(size: int) -> bytes:
    return bytes(itertools.islice(itertools.cycle(range(251)), size))


def _list_of_array(size: int) -> list[Any]:
    return [np.arange(size // 8, dtype=np.float64)]


def _shared_large(content: bytes) -> Any:
    shared = ["shared"]
    return (content, shared, [shared])


def _arrays() -> dict[str, Maker]:
    made: dict[str, Maker] = {}
    for name in ("?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", "g", "F", "D", "G"):
        made[f"array of dtype {name}"] = functools.partial(np.arange(6).astype, name)
        made[f"scalar of dtype {name}"] = functools.partial(_scalar, name)
    made |= {
        "array of dtype U": lambda: np.array(["a", "bc", ""]),
        "array of dtype S": lambda: np.array([b"a", b"bc", b""]),
        "array of dtype V": lambda: np.zeros(3, dtype="V5"),
        "array of dtype M": lambda: np.array(["2026-01-01", "NaT"], dtype="M8[ns]"),
        "array of dtype m": lambda: np.array([1, 2], dtype="m8[s]"),
        "scalar of dtype M": lambda: np.datetime64("2026-01-01T00:00", "m"),
        "scalar of dtype m": lambda: np.timedelta64("NaT"),
        "scalar of dtype U": lambda: np.str_("text"),
        "scalar of dtype S": lambda: np.bytes_(b"text"),
        "array, big endian": lambda: np.arange(5, dtype=">i4"),
        "array of StringDType": lambda: np.array(
            ["a", "longer than inline strings are"], dtype=np.dtypes.StringDType()
        ),
        "array of no dimensions": lambda: np.array(5),
        "empty array": lambda: np.array([]),
        "array of shape (0, 3)": lambda: np.zeros((0, 3), dtype=np.int16),
        "array of 3 dimensions": lambda: np.arange(24).reshape(2, 3, 4),
        "array in Fortran order": lambda: np.asfortranarray(np.arange(12).reshape(3, 4)),
        "large array in Fortran order": lambda: np.asfortranarray(np.arange(40_000.0).reshape(100, 400)),
        "strided array": lambda: np.arange(20)[::2],
        "large strided array": lambda: np.arange(100_000)[::2],
        "reversed array": lambda: np.arange(20)[::-1],
        "transposed array": lambda: np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        "large transposed array": lambda: np.arange(60_000.0).reshape(100, 600).T,
        "broadcast array": lambda: np.broadcast_to(np.arange(3), (4, 3)),
        "read-only array": lambda: _read_only(np.arange(5)),
        "large read-only array": lambda: _read_only(np.arange(50_000)),
        "unaligned array": lambda: np.frombuffer(bytes(41), dtype=np.uint8)[1:].view(np.float64),
        "structured array": lambda: np.array(
            [(1, 2.0, "a"), (3, 4.0, "b")], dtype=[("i", "i4"), ("f", "f8"), ("s", "U3")]
        ),
        "aligned structured array": lambda: np.zeros(3, dtype=np.dtype([("b", "i1"), ("f", "f8")], align=True)),
        "nested structured array": lambda: np.zeros(2, dtype=[("p", [("x", "f4"), ("y", "f4")]), ("m", "i2", (2, 2))]),
        "large structured array": lambda: np.zeros(5_000, dtype=[("i", "i4"), ("f", "f8")]),
        "scalar of a structured array": lambda: np.zeros(3, dtype=[("i", "i4"), ("f", "f8")])[1],
        "record array": lambda: np.rec.array([(1, 2.0)], dtype=[("i", "i4"), ("f", "f8")]),
        "array of objects": lambda: np.array([1, "two", None, [3], {4: 5}], dtype=object),
        "large array of objects": lambda: np.array([f"text {number}" for number in range(4_000)], dtype=object),
        "array of arrays": lambda: _array_of_arrays(),
        "masked array": lambda: np.ma.masked_array([1, 2, 3], mask=[False, True, False], fill_value=99),
        "masked array without a mask": lambda: np.ma.array([1, 2, 3]),
        "large masked array": lambda: np.ma.masked_greater(np.arange(20_000.0), 100),
        "matrix": lambda: np.asmatrix(np.arange(4).reshape(2, 2)),
        "list of one array twice": lambda: [values := np.arange(4), values],
        "list of one large array twice": lambda: [values := np.arange(40_000), values],
        "dict of arrays": lambda: {"a": np.zeros(3), "b": np.ones((2, 2), dtype=np.float32)},
        "dtype": lambda: np.dtype([("a", "i4"), ("b", "f8", (2,))]),
        "dtype of float": lambda: np.dtype(float),
        "random generator": lambda: np.random.default_rng(5),
        "polynomial": lambda: np.polynomial.Polynomial([1.0, 2.0, 3.0]),
        "NaN array": lambda: np.array([np.nan, -np.nan, np.inf, -0.0]),
    }
    return made


def _scalar(dtype: str) -> Any:
    return np.arange(6).astype(dtype)[3]


def _read_only(values: Any) -> Any:
    values.flags.writeable = False
    return values


def _array_of_arrays() -> Any:
    made = np.empty(2, dtype=object)
    made[0], made[1] = np.arange(3), np.arange(40_000)
    return made


def _standard_library() -> dict[str, Maker]:
    utc = datetime.UTC
    return {
        "datetime": lambda: datetime.datetime(2026, 11, 27, 3, 4, 5, 678),
        "aware datetime": lambda: datetime.datetime(2026, 11, 27, tzinfo=utc),
        "folded datetime in a zone": lambda: datetime.datetime(
            2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("UTC")
        ),
        "date": lambda: datetime.date(2026, 11, 27),
        "time": lambda: datetime.time(1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "two")),
        "timedelta": lambda: datetime.timedelta(days=-1, microseconds=5),
        "Decimal": lambda: decimal.Decimal("1.10"),
        "Decimal sNaN": lambda: decimal.Decimal("sNaN123"),
        "Fraction": lambda: fractions.Fraction(3, 7),
        "UUID": lambda: uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "Path": lambda: pathlib.Path("/a/b") / "c",
        "PurePosixPath": lambda: pathlib.PurePosixPath("a/b"),
        "PureWindowsPath": lambda: pathlib.PureWindowsPath("C:/a"),
        "IPv4Address": lambda: ipaddress.ip_address("127.0.0.1"),
        "IPv6Network": lambda: ipaddress.ip_network("fe80::/64"),
        "compiled pattern": lambda: re.compile(r"a(b)+", re.IGNORECASE),
        "deque": lambda: collections.deque([1, 2, 3], maxlen=5),
        "OrderedDict": lambda: collections.OrderedDict([("b", 1), ("a", 2)]),
        "Counter": lambda: collections.Counter("hello"),
        "defaultdict": lambda: collections.defaultdict(list, {"a": [1]}),
        "ChainMap": lambda: collections.ChainMap({"a": 1}, {"b": 2}),
        "UserDict": lambda: collections.UserDict(a=1),
        "array.array": lambda: array.array("d", [1.0, 2.0]),
        "large array.array": lambda: array.array("q", range(20_000)),
        "SimpleNamespace": lambda: types.SimpleNamespace(a=1, b=[2]),
        "StringIO": lambda: _at_position(io.StringIO("some text"), 4),
        "BytesIO": lambda: _at_position(io.BytesIO(b"some bytes"), 4),
        "random.Random": lambda: random.Random(3),
        "itertools.count": lambda: itertools.count(5, 2),
        "operator.itemgetter": lambda: operator.itemgetter(1, 2),
        "operator.attrgetter": lambda: operator.attrgetter("a.b"),
        "operator.methodcaller": lambda: operator.methodcaller("split", ","),
        "partial": lambda: functools.partial(int, base=2),
        "string.Template": lambda: string.Template("$a"),
        "stat_result": lambda: os.stat_result(range(10)),
    }


def _at_position(stream: Any, position: int) -> Any:
    stream.seek(position)
    return stream


def _code() -> dict[str, Maker]:
    return {
        "builtin type": lambda: int,
        "type of the standard library": lambda: collections.OrderedDict,
        "type of None": lambda: type(None),
        "generic alias": lambda: list[int],
        "union of types": lambda: int | None,
        "type variable of a module": lambda: Maker,
        "builtin function": lambda: len,
        "bound builtin method": lambda: [1, 2].append,
        "function of a module": lambda: os.path.join,
        "unbound method": lambda: str.upper,
        "ufunc": lambda: np.add,
        "exception type": lambda: KeyError,
        "list of types": lambda: [int, str, collections.Counter, np.ndarray],
    }


def _refused() -> dict[str, Maker]:
    """Values pickle refuses."""
    return {
        "module": lambda: math,
        "own module": lambda: pathlib,
        "mappingproxy": lambda: types.MappingProxyType({"a": 1}),
        "memoryview": lambda: memoryview(b"abc"),
        "lock": lambda: threading.Lock(),
        "generator": lambda: (number for number in range(3)),
        "open file": lambda: open(os.devnull),
        "list with a lock": lambda: [1, {"deep": threading.Lock()}],
        "dict_keys": lambda: {"a": 1}.keys(),
        "type of dict_keys": lambda: type({}.keys()),
        "type of a lock": lambda: type(threading.Lock()),
        "sys.float_info": lambda: sys.float_info,
        "sys.version_info": lambda: sys.version_info,
        "ctypes array": lambda: (ctypes.c_int * 3)(1, 2, 3),
        "ctypes array of arrays": lambda: _ctypes_rows(),
        "ctypes array of 300 KiB": lambda: (ctypes.c_double * (300 * KIB // 8))(*range(100)),
        "ctypes string buffer": lambda: ctypes.create_string_buffer(b"text", 9),
        "ctypes array type": lambda: ctypes.c_int * 3,
        "ctypes pointer": lambda: ctypes.pointer(ctypes.c_int(3)),
        "frame": lambda: _frame(),
        "lambda": lambda: lambda value: value + 1,
    }


def _ctypes_rows() -> Any:
    row = ctypes.c_double * 2
    return [(row * 2)(row(0.5, 1.5), row(2.5, 3.5))]


def _frame() -> Any:
    return sys._getframe()


def _users(user: Any) -> dict[str, Maker]:
    return {
        "dataclass": lambda: user.Point(1.0, tags=["a"]),
        "frozen dataclass": lambda: user.FrozenPoint(1.0),
        "slotted dataclass": lambda: user.SlottedPoint(1.0, 2.0),
        "frozen slotted dataclass": lambda: user.StrictPoint(x=1.0),
        "slots": lambda: user.Slotted([1], {"b": 2}),
        "slots and dictionary": lambda: user.SlottedChild(1, 2, [3]),
        "slots not all filled": lambda: user.PartlyFilled(1),
        "ctypes number": lambda: user.Pair(ctypes.c_int(3), ctypes.c_char(b"a")),
        "namedtuple": lambda: user.Pair(1, [2]),
        "typed namedtuple": lambda: user.TypedPair(1),
        "list subclass": lambda: _with_attribute(user.ListChild([1, 2])),
        "dict subclass": lambda: _with_attribute(user.DictChild(a=1)),
        "set subclass": lambda: _with_attribute(user.SetChild({1, 2})),
        "tuple subclass": lambda: user.TupleChild((1, 2)),
        "str subclass": lambda: _with_attribute(user.StrChild("text")),
        "large str subclass": lambda: user.StrChild("t" * 60 * KIB),
        "bytes subclass": lambda: _with_attribute(user.BytesChild(b"text")),
        "large bytes subclass": lambda: user.BytesChild(bytes(60 * KIB)),
        "bytearray subclass": lambda: _with_attribute(user.BytearrayChild(b"text")),
        "large bytearray subclass": lambda: user.BytearrayChild(bytes(300 * KIB)),
        "int subclass": lambda: _with_attribute(user.IntChild(5)),
        "float subclass": lambda: user.FloatChild(0.5),
        "object with reduce": lambda: user.Reduced([1], checked=False),
        "object with state of its own": lambda: user.Stateful([1]),
        "object with new arguments": lambda: user.NewArguments((1, 2)),
        "object with a metaclass": lambda: user.Traced(3),
        "object of an abstract class": lambda: user.Square(2.0),
        "generic object": lambda: user.Box[int](3),
        "object that answers for everything": lambda: user.Shy(3),
        "object without truth value, equality and hash": lambda: user.Ambiguous(3),
        "list of objects without truth value": lambda: [user.Ambiguous(1), user.Ambiguous(2)],
        "false and empty object": lambda: user.Empty(),
        "object that cannot be shown": lambda: user.Unprintable(3),
        "object with descriptors": lambda: user.Described(3),
        "counter": lambda: user.Counter(3),
        "ctypes structure": lambda: user.Record(3, 0.5),
        "big-endian structure": lambda: [user.Header(3, 500)],
        "ctypes array of structures": lambda: (user.Record * 2)(user.Record(1, 0.5), user.Record(2, 1.5)),
        "object that refuses to be sent": lambda: user.Unpicklable(),
        "object that refuses to be restored": lambda: user.Unrestorable(),
        "large dataclass": lambda: user.Point(1.0, tags=["t" * 70 * KIB]),
        "dataclass of arrays": lambda: user.Point(np.arange(3), np.arange(50_000.0)),
    }


def _with_attribute(value: Any) -> Any:
    value.attribute = ["kept"]
    return value


def _enums(user: Any) -> dict[str, Maker]:
    return {
        "enum member": lambda: user.Color.GREEN,
        "enum alias": lambda: user.Color.CRIMSON,
        "enum of tuples": lambda: user.Color.BLUE,
        "IntEnum": lambda: user.Level.HIGH,
        "StrEnum": lambda: user.Word.TWO,
        "Flag": lambda: user.Permission.READ,
        "named composite Flag": lambda: user.Permission.BOTH,
        "composite Flag": lambda: user.Permission.READ | user.Permission.WRITE,
        "empty Flag": lambda: user.Permission(0),
        "IntFlag": lambda: user.Mode.A | user.Mode.B,
        "IntFlag beyond its members": lambda: user.Mode(0x40 | 1),
        "enum with constructor": lambda: user.Planet.EARTH,
        "enum of functions": lambda: user.Operation.ADD,
        "enum members in containers": lambda: {user.Color.RED: [user.Level.LOW], "w": (user.Word.ONE,)},
        "enum type": lambda: user.Color,
        "Flag type": lambda: user.Permission,
        "re flags": lambda: re.IGNORECASE | re.MULTILINE,
    }


def _exceptions(user: Any) -> dict[str, Maker]:
    return {
        "exception": lambda: ValueError("as a value", 3),
        "user's exception": lambda: user.PlainError("as a value"),
        "exception with odd constructor": lambda: user.ReducedError(3, "as a value"),
        "exception with attributes": lambda: _with_attribute(user.PlainError("as a value")),
        "exception with notes": lambda: _noted(ValueError("noted")),
        "OSError": lambda: OSError(2, "No such file", "name"),
        "exception group": lambda: ExceptionGroup("several", [ValueError(1), user.PlainError(2)]),
        "list of exceptions": lambda: [KeyError("a"), SystemExit(3), KeyboardInterrupt()],
        "frozen exception": lambda: user.FrozenError(3),
    }


def _noted(error: BaseException) -> BaseException:
    error.add_note("a note")
    return error


def _users_code(user: Any) -> dict[str, Maker]:
    return {
        "user's class": lambda: user.Counter,
        "user's dataclass": lambda: user.Point,
        "user's class with a metaclass": lambda: user.Traced,
        "user's abstract class": lambda: user.Shape,
        "user's exception class": lambda: user.TwoArgumentsError,
        "user's function": lambda: user.plus_one,
        "user's decorated function": lambda: user.decorated,
        "user's coroutine function": lambda: user.coroutine,
        "bound method": lambda: user.Counter(3).increment,
        "class method": lambda: user.Counter.made,
        "closure": lambda: user.make_adder(3),
        "recursive closure": lambda: user.make_recursive_closure(),
        "closure over a list": lambda: user.make_remembering([1]),
        "local class": lambda: user.make_local_class(),
        "object of a local class": lambda: user.make_local_class()(3),
        "partial of a user's function": lambda: functools.partial(user.with_default, step=3),
        "user's type alias": lambda: user.Box[int],
    }


def _structures(user: Any) -> dict[str, Maker]:
    return {
        "cyclic list": lambda: _cyclic_list(),
        "cyclic dict": lambda: _cyclic_dict(),
        "cycle through a tuple": lambda: _cyclic_tuple(),
        "cyclic object": lambda: _cyclic_object(user),
        "tree that knows its parents": lambda: _tree(user),
        "shared list": lambda: [shared := [1], shared, {"again": shared}],
        "shared object": lambda: [shared := user.Point(1.0), (shared, shared)],
        "equal lists, not shared": lambda: [[1], [1]],
        "list nested 80 deep": lambda: _nested(80),
        "list nested 400 deep": lambda: _nested(400),
        "dict nested 400 deep": lambda: _nested_dict(400),
        "tuple nested 400 deep": lambda: _nested_tuple(400),
        "linked list of 60": lambda: _linked(user, 60),
        "tuple that begins with a callable": lambda: (abs, -3),
        "list with a tuple that begins with a callable": lambda: [1, (max, 2, 3)],
        "dict with a tuple that begins with a type": lambda: {"a": (int, "3")},
    }


def _cyclic_list() -> Any:
    made: list[Any] = [1]
    made.append(made)
    return made


def _cyclic_dict() -> Any:
    made: dict[str, Any] = {"a": 1}
    made["itself"] = made
    return made


def _cyclic_tuple() -> Any:
    inner: list[Any] = []
    made = (inner, 1)
    inner.append(made)
    return made


def _cyclic_object(user: Any) -> Any:
    made = user.Point(1.0)
    made.tags.append(made)
    return made


def _tree(user: Any) -> Any:
    root = user.Node("root")
    user.Node("leaf", user.Node("branch", root))
    return root


def _nested(depth: int) -> Any:
    made: list[Any] = ["core"]
    for _ in range(depth):
        made = [made]
    return made


def _nested_dict(depth: int) -> Any:
    made: dict[str, Any] = {"core": 1}
    for _ in range(depth):
        made = {"in": made}
    return made


def _nested_tuple(depth: int) -> Any:
    made: tuple[Any, ...] = ("core",)
    for _ in range(depth):
        made = (made,)
    return made


def _linked(user: Any, length: int) -> Any:
    made: Any = None
    for number in range(length):
        made = user.Slotted(number, made)
    return made
