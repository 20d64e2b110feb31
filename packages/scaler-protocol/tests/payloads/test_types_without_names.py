"""Types that no module has by their name: those of C code, and those `ctypes` makes."""

from __future__ import annotations

import collections
import ctypes
import pickle
import re
import subprocess
import sys
import threading
from typing import Any

import pytest

from scaler_protocol.payloads import by_value

_TYPES_OF_C: dict[str, type] = {
    "list_iterator": type(iter([])),
    "dict_keys": type({}.keys()),
    "odict_keys": type(collections.OrderedDict().keys()),
    "lock": type(threading.Lock()),
    "SRE_Scanner": type(getattr(re.compile(""), "scanner")("")),  # noqa: B009 - stubs do not know it
    "metaclass of ctypes arrays": type(ctypes.Array),
    "metaclass of ctypes structures": type(ctypes.Structure),
    "type of sys.flags": type(sys.flags),
}


def _elsewhere(program: str, pickled: bytes) -> str:
    """Return what a new Python prints that runs `program` with `value` restored."""
    whole = f"import pickle, sys\nvalue = pickle.loads(sys.stdin.buffer.read())\n{program}"
    ran = subprocess.run([sys.executable, "-c", whole], input=pickled, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode().strip()


@pytest.mark.parametrize("name", _TYPES_OF_C)
def test_a_type_of_c_code_is_the_receivers_own(name: str) -> None:
    cls = _TYPES_OF_C[name]
    pickled = by_value.dumps(cls)

    assert pickle.loads(pickled) is cls
    assert _elsewhere("print(value.__module__, value.__qualname__)", pickled) == f"{cls.__module__} {cls.__qualname__}"


@pytest.mark.parametrize("name", ["flags", "version_info"])
def test_what_exists_once_in_each_process_is_refused_where_it_is_written(name: str) -> None:
    with pytest.raises(TypeError, match=rf"cannot pickle sys\.{name}, of which each process has its own"):
        by_value.dumps([getattr(sys, name)])


def test_what_the_interpreter_says_of_its_numbers_comes_back() -> None:
    assert pickle.loads(by_value.dumps((sys.float_info, sys.hash_info))) == (sys.float_info, sys.hash_info)


def test_metaclasses_of_users_are_not_asked() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RuntimeError(name)

    class Silent(metaclass=Meta):
        pass

    assert pickle.loads(by_value.dumps([type(iter([])), type(ctypes.Array)])) == [type(iter([])), type(ctypes.Array)]
    del Silent


def test_a_type_of_c_code_that_the_receiver_lacks_is_named() -> None:
    pickled = by_value.dumps(type(iter([]))).replace(b"list_iterator", b"lost_iterator")

    with pytest.raises(pickle.UnpicklingError, match=r"no type builtins\.lost_iterator"):
        pickle.loads(pickled)


def _arrays() -> dict[str, tuple[Any, str]]:
    numbers = (ctypes.c_int * 3)(1, 2, 3)
    row = ctypes.c_double * 2
    nested = (row * 2)(row(0.5, 1.5), row(2.5, 3.5))
    return {
        "numbers": (numbers, "list(value) == [1, 2, 3] and type(value) is __import__('ctypes').c_int * 3"),
        "nested": (nested, "[list(row) for row in value] == [[0.5, 1.5], [2.5, 3.5]]"),
        "text": (ctypes.create_string_buffer(b"ab", 5), "value.raw == b'ab' + bytes(3)"),
        "wide text": (ctypes.create_unicode_buffer("äb", 4), "value.value == 'äb'"),
        "none": ((ctypes.c_int * 0)(), "len(value) == 0"),
        "swapped": ((ctypes.c_uint16.__ctype_be__ * 2)(1, 2), "bytes(value) == bytes([0, 1, 0, 2])"),
    }


@pytest.mark.parametrize("name", _arrays())
def test_ctypes_arrays(name: str) -> None:
    value, check = _arrays()[name]
    pickled = by_value.dumps(value)

    assert type(pickle.loads(pickled)) is type(value)
    assert _elsewhere(f"print({check})", pickled) == "True"


_STRUCTURES = """
import ctypes, sys
from scaler_protocol.payloads import by_value

class Size(ctypes.Structure):
    _fields_ = [("width", ctypes.c_int), ("height", ctypes.c_double)]
    unit = "cm"
    def area(self): return self.width * self.height
    def larger(self): return Tall(1, 2.0, 3)

class Tall(Size):
    _fields_ = [("depth", ctypes.c_int)]

class Network(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = [("kind", ctypes.c_uint8), ("length", ctypes.c_uint32)]

class Inner(ctypes.Union):
    _fields_ = [("whole", ctypes.c_uint16), ("parts", ctypes.c_uint8 * 2)]

class Outer(ctypes.Structure):
    _anonymous_ = ["inner"]
    _fields_ = [("inner", Inner), ("bits", ctypes.c_uint, 3), ("sizes", Size * 2)]

class Node(ctypes.Structure):
    def next(self): return self.after.contents if self.after else None
Node._fields_ = [("number", ctypes.c_int), ("after", ctypes.POINTER(Node))]

class Number(ctypes.c_int):
    def doubled(self): return self.value * 2

class Row(ctypes.Array):
    _type_ = ctypes.c_int
    _length_ = 2

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)

def chain():
    second = Node(2)
    first = Node(1, ctypes.pointer(second))
    called = CALLBACK(lambda value: value + 1)
    return first.next().number, first.next().next(), called(4)

outer = Outer(bits=5)
outer.whole = 0x0102
outer.sizes[1].width = 7
"""

_STRUCTURED = {
    "a structure": ("Size(2, 1.5)", "value.area() == 3.0 and value.unit == 'cm' and value.larger().depth == 3"),
    "one that has a base": ("Tall(1, 2.0, 3)", "(value.width, value.height, value.depth) == (1, 2.0, 3)"),
    "an array of structures": ("(Size * 2)(Size(1, 2.0), Size(3, 4.0))", "[size.width for size in value] == [1, 3]"),
    "packed, in network order": ("Network(1, 2)", "bytes(value) == bytes([1, 0, 0, 0, 2])"),
    "a union, bits, anonymous": (
        "outer",
        "value.whole == 0x0102 and value.bits == 5 and sum(value.parts) == 3 and value.sizes[1].width == 7",
    ),
    "a number of one's own": ("Number(4)", "value.doubled() == 8"),
    "an array of one's own": ("Row(1, 2)", "list(value) == [1, 2]"),
    "a structure with a pointer to itself, and a callback": ("chain", "value() == (2, None, 5)"),
    "types": (
        "[CALLBACK, ctypes.POINTER(ctypes.c_int)]",
        "value[0] is __import__('ctypes').CFUNCTYPE(*[__import__('ctypes').c_int] * 2)",
    ),
}


@pytest.mark.parametrize("name", _STRUCTURED)
def test_ctypes_types_of_main(name: str) -> None:
    made, check = _STRUCTURED[name]
    program = f"{_STRUCTURES}\nsys.stdout.buffer.write(by_value.dumps({made}))"
    pickled = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout

    assert _elsewhere(f"print({check})", pickled) == "True"


def test_a_structure_comes_back_as_the_very_class_it_was() -> None:
    class Local(ctypes.Structure):
        _fields_ = (("number", ctypes.c_int),)

    value = pickle.loads(by_value.dumps(Local(3)))

    assert type(value) is Local
    assert value.number == 3


def test_pointers_are_refused() -> None:
    with pytest.raises(ValueError, match="ctypes objects containing pointers cannot be pickled"):
        by_value.dumps(ctypes.pointer(ctypes.c_int(1)))
