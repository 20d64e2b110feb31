"""Classes and functions as users write them. Imported, they live in a module; run as a script, in `__main__`.

As a script this file runs the conformance table on its own classes, so both homes see the very same code:

    python tests/conformance/user_code.py --output records.json
"""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import ctypes
import dataclasses
import enum
import functools
import operator
import os
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# --- functions of every form


def identity(value: Any) -> Any:
    return value


def plus_one(value: int) -> int:
    return value + 1


def with_default(value: int, step: int = 10) -> int:
    return value + step


def keyword_only(*, value: int, step: int = 10) -> tuple[int, int]:
    return value, step


def positional_only(value: int, /, step: int = 10) -> tuple[int, int]:
    return value, step


def any_arguments(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, tuple(kwargs.items())


def every_form(first: int, /, second: int, *rest: int, third: int, fourth: int = 4, **others: int) -> list[Any]:
    return [first, second, rest, third, fourth, others]


def factorial(value: int) -> int:
    return 1 if value < 2 else value * factorial(value - 1)


def is_even(value: int) -> bool:
    return value == 0 or is_odd(value - 1)


def is_odd(value: int) -> bool:
    return value != 0 and is_even(value - 1)


def mutable_default(value: int, kept: list[int] = []) -> list[int]:  # noqa: B006
    kept.append(value)
    return kept


def append_one(values: list[int]) -> list[int]:
    values.append(1)
    return values


def set_item(values: dict[str, int]) -> dict[str, int]:
    values["n"] = values.get("n", 0) + 1
    return values


def add_in_place(values: Any) -> Any:
    values += 1
    return values


def make_generator(count: int) -> Iterator[int]:
    yield from range(count)


def sum_of_generator(count: int) -> int:
    return sum(number * number for number in range(count))


async def coroutine(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


async def async_generator(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@functools.lru_cache(maxsize=8)
def cached(value: int) -> int:
    return value * 3


@functools.singledispatch
def dispatched(value: Any) -> str:
    return "anything"


@dispatched.register
def _(value: int) -> str:
    return "an integer"


def twice(function: Callable[[int], int]) -> Callable[[int], int]:
    @functools.wraps(function)
    def run_twice(value: int) -> int:
        return function(function(value))

    return run_twice


@twice
def decorated(value: int) -> int:
    return value + 5


@contextlib.contextmanager
def managed(value: int) -> Iterator[int]:
    yield value


def uses_managed(value: int) -> int:
    with managed(value) as managed_value:
        return managed_value


FACTOR = 7
SETTINGS = {"factor": 3}
HISTORY: list[int] = []
total = 0


def reads_global(value: int) -> int:
    return value * FACTOR


def reads_global_dictionary(value: int) -> int:
    return value * SETTINGS["factor"]


def make_adder(step: int) -> Callable[[int], int]:
    def add(value: int) -> int:
        return value + step

    return add


def make_remembering(start: list[int]) -> Callable[[int], list[int]]:
    def remember(value: int) -> list[int]:
        start.append(value)
        return start

    return remember


def make_counter() -> Callable[[], int]:
    count = 0

    def increment() -> int:
        nonlocal count
        count += 1
        return count

    return increment


def make_dictionary_counter() -> Callable[[], int]:
    counts = {"n": 0}

    def increment() -> int:
        counts["n"] += 1
        return counts["n"]

    return increment


def make_recursive_closure() -> Callable[[int], int]:
    def fibonacci(value: int) -> int:
        return value if value < 2 else fibonacci(value - 1) + fibonacci(value - 2)

    return fibonacci


def make_function_with_attributes() -> Callable[[], int]:
    def count_calls() -> int:
        count_calls.calls += 1  # type: ignore[attr-defined]
        return count_calls.calls  # type: ignore[attr-defined, no-any-return]

    count_calls.calls = 0  # type: ignore[attr-defined]
    return count_calls


def make_iterating() -> Callable[[], int]:
    numbers = iter([1, 2, 3, 4, 5])

    def following() -> int:
        return next(numbers)

    return following


def make_local_class() -> type:
    class Local:
        """A class no module has."""

        made = 0

        def __init__(self, value: int = 0) -> None:
            self.value = value
            type(self).made += 1

        def doubled(self) -> int:
            return self.value * 2

    return Local


def make_lambda() -> Callable[[int], int]:
    return lambda value: value * 2


# --- classes with and without state


class Counter:
    """What an estimator with `fit` is to the machinery: a method that changes its object."""

    kind = "counter"

    def __init__(self, start: int = 0) -> None:
        self.count = start
        self.history: list[int] = []

    def increment(self) -> int:
        self.count += 1
        self.history.append(self.count)
        return self.count

    def itself(self) -> Counter:
        self.count += 1
        return self

    def __call__(self, step: int = 1) -> int:
        self.count += step
        return self.count

    @classmethod
    def made(cls, start: int) -> int:
        return cls(start).count

    @staticmethod
    def doubled(value: int) -> int:
        return value * 2

    @property
    def negative(self) -> int:
        return -self.count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counter) and self.count == other.count

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right


class SlottedChild(Slotted):
    __slots__ = ("__dict__", "more")

    def __init__(self, left: Any, right: Any, more: Any) -> None:
        super().__init__(left, right)
        self.more = more
        self.free = "in the dictionary"


class PartlyFilled:
    __slots__ = ("never_set", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class FrozenPoint:
    x: float
    y: float = 0.0


@dataclasses.dataclass(slots=True)
class SlottedPoint:
    x: float
    y: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, order=True, kw_only=True)
class StrictPoint:
    x: float
    y: float = 0.0


Pair = collections.namedtuple("Pair", ["left", "right"])


class TypedPair(typing.NamedTuple):
    left: int
    right: str = "right"

    def joined(self) -> str:
        return f"{self.left}{self.right}"


class Record(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("share", ctypes.c_double))


class Header(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = (("kind", ctypes.c_uint8), ("length", ctypes.c_uint32))


def make_ctypes_array(*numbers: int) -> Any:
    return (ctypes.c_int * len(numbers))(*numbers)


def make_records(*numbers: int) -> Any:
    return (Record * len(numbers))(*(Record(number, 0.5) for number in numbers))


def make_pointer() -> Any:
    return ctypes.pointer(ctypes.c_int(3))


def version_of_python() -> Any:
    return sys.version_info


def type_of_iterator() -> Any:
    return type(iter([]))


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796
    GREEN = "green"
    BLUE = (0, 0, 255)

    def title(self) -> str:
        return self.name.title()


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Permission(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE
    NONE = 0


class Mode(enum.IntFlag):
    A = 1
    B = 2
    KEEP = 0x10


class Word(enum.StrEnum):
    ONE = enum.auto()
    TWO = enum.auto()


class Planet(enum.Enum):
    EARTH = (5.97, 6.37)
    MARS = (0.64, 3.39)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass = mass
        self.radius = radius

    @property
    def density(self) -> float:
        return self.mass / self.radius**3


class Operation(enum.Enum):
    ADD = enum.member(operator.add)
    MULTIPLY = enum.member(operator.mul)


class Tracing(type):
    """A metaclass that counts the classes it made."""

    made = 0

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        cls.made += 1
        return super().__new__(cls, name, bases, {**namespace, "traced": True})


class Traced(metaclass=Tracing):
    def __init__(self, value: Any) -> None:
        self.value = value


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    def __init__(self, side: float) -> None:
        self.side = side

    def area(self) -> float:
        return self.side**2


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content


class ListChild(list[Any]):
    name = "a list"


class DictChild(dict[Any, Any]):
    def __missing__(self, key: Any) -> str:
        return f"no {key}"


class SetChild(set[Any]):
    pass


class TupleChild(tuple[Any, ...]):
    __slots__ = ()


class StrChild(str):
    pass


class BytesChild(bytes):
    pass


class BytearrayChild(bytearray):
    pass


class IntChild(int):
    def next(self) -> IntChild:
        return IntChild(self + 1)


class FloatChild(float):
    pass


class Reduced:
    """Says itself how it is made."""

    def __init__(self, value: Any, *, checked: bool) -> None:
        self.value = value
        self.checked = checked

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_reduced, (self.value,)


def _restore_reduced(value: Any) -> Reduced:
    return Reduced(value, checked=True)


class Stateful:
    """Leaves something out of its state, and makes it again."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.cache: Callable[[], Any] = lambda: value

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.value}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.value = state["value"]
        self.cache = lambda: state["value"]


class NewArguments:
    def __new__(cls, value: Any) -> NewArguments:
        made = super().__new__(cls)
        made.value = value
        return made

    value: Any

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.value,)


class Shy:
    """Answers for attributes it does not have, as proxies do."""

    def __init__(self, value: Any) -> None:
        self.__dict__["value"] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"no {name}"


class Ambiguous:
    """As arrays are: has no truth value, and compares to something that has none either."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")

    def __eq__(self, other: object) -> Any:
        raise ValueError("cannot be compared")

    def __hash__(self) -> int:
        raise ValueError("cannot be hashed")

    def __len__(self) -> int:
        raise ValueError("has no length")


class Empty:
    """False, and of length 0."""

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class Unprintable:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        raise RuntimeError("cannot be shown")

    __str__ = __repr__


class Unpicklable:
    """Refuses to be sent."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("stays where it is")


class Unrestorable:
    """Can be sent and not be restored."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("refuses to be restored")


class Node:
    """Knows its parent: every tree of them is a cycle."""

    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.name = name
        self.parent = parent
        self.children: list[Node] = []
        if parent is not None:
            parent.children.append(self)


class Descriptor:
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return 0 if instance is None else instance.value * 2


class Described:
    doubled = Descriptor()

    def __init__(self, value: int) -> None:
        self.value = value

    def read(self) -> int:
        return int(self.doubled)


# --- exceptions


class PlainError(Exception):
    pass


class TwoArgumentsError(Exception):
    """`args` is not what the constructor takes, so pickle cannot make it."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class NoSuperError(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class KeywordError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class ReducedError(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.detail)


@dataclasses.dataclass
class DataError(Exception):
    code: int = 0
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int = 0


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be shown")

    __repr__ = __str__


class ExitingStrError(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)


class NoStringError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class UnreducibleError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("stays where it is")


class InterruptingReduceError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        raise KeyboardInterrupt


class UnrestorableError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


class OtherReduceError(Exception):
    """Its reduce makes something that is no exception."""

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ()


class UnsettableError(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError(f"{name} cannot be set")


class FalseError(Exception):
    def __bool__(self) -> bool:
        return False


class EmptyError(Exception):
    def __len__(self) -> int:
        return 0


class RaisingBoolError(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("the truth value is ambiguous")


class RaisingEqualError(Exception):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("cannot be compared")

    def __hash__(self) -> int:
        raise RuntimeError("cannot be hashed")


class UnhashableError(Exception):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


class PropertyError(Exception):
    """Its traceback is a property that fails, and so is a plain attribute."""

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("has no traceback")


class RaisingGetattrError(Exception):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"has no {name}")


class ManyBasesError(PlainError, KeyError, ValueError):
    pass


class CustomGroup(ExceptionGroup[Exception]):
    def derive(self, members: Any) -> CustomGroup:  # type: ignore[override]
        return CustomGroup(self.message, members)


class CodeGroup(ExceptionGroup[Exception]):
    """Its constructor takes another argument than its base's."""

    code: int

    def __new__(cls, message: str, members: Any, code: int) -> CodeGroup:
        made = super().__new__(cls, message, members)
        made.code = code
        return made


class PlainBaseError(BaseException):
    pass


class Problem(enum.Enum):
    FULL = "full"


def raise_made(kind: type[BaseException], *args: Any, **kwargs: Any) -> None:
    """Raise an exception made here, in the process of the task."""
    raise kind(*args, **kwargs)


def raise_keyword(code: int) -> None:
    raise KeywordError(code=code)


def raise_with(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any], notes: tuple[str, ...] = ()
) -> None:
    error = kind(*args)
    for name, value in attributes.items():
        setattr(error, name, value)
    for note in notes:
        error.add_note(note)
    raise error


def raise_or_return(number: int, task: tuple[Any, ...] | None) -> int:
    """An item of a map: the bad one has a task to run, the others give their number back."""
    if task is not None:
        function, args = task
        function(*args)
    return number


def raise_class() -> None:
    raise PlainError


def decode_badly() -> None:
    b"ab\xff".decode()


def encode_badly() -> None:
    "a\udcff".encode()


def parse_badly() -> None:
    compile("a = (\nb = 3 +* 2", "rules.txt", "exec")


def parse_xml_badly() -> None:
    from xml.etree import ElementTree

    ElementTree.fromstring("<a><b></a>")


def parse_json_badly() -> None:
    import json

    json.loads('{"a": }')


def axis_badly() -> None:
    import numpy as np

    np.zeros((2, 2)).sum(axis=5)


def reshape_badly() -> None:
    import numpy as np

    np.zeros(4).reshape(3, 3)


def linalg_badly() -> None:
    import numpy as np

    np.linalg.inv(np.zeros((2, 2)))


def divide_badly() -> float:
    return 1 / 0


def open_badly() -> None:
    with open("/nonexistent/file"):
        pass


def rename_badly() -> None:
    os.rename("/nonexistent/one", "/nonexistent/two")


def import_badly() -> None:
    import nonexistent_module  # type: ignore[import-not-found]  # noqa: F401


def import_name_badly() -> None:
    from os import nonexistent_name  # type: ignore[attr-defined]  # noqa: F401


def look_up_badly() -> Any:
    return {"a": 1}["b"]


def get_attribute_badly() -> Any:
    return (5).nonexistent  # type: ignore[attr-defined]


def get_name_badly() -> Any:
    return nonexistent_name  # type: ignore[name-defined]  # noqa: F821


def recurse_badly() -> None:
    recurse_badly()


def subprocess_badly() -> None:
    import subprocess

    subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)


def decimal_badly() -> None:
    import decimal

    decimal.Decimal("not a number")


def exit_with(status: Any) -> None:
    sys.exit(status)


def raise_stop_iteration() -> None:
    next(iter([]))


def raise_with_cause() -> None:
    try:
        look_up_badly()
    except KeyError as error:
        raise PlainError("because of a key") from error


def raise_with_context() -> None:
    try:
        divide_badly()
    except ZeroDivisionError:
        raise TwoArgumentsError(7, "while dividing")  # noqa: B904


def raise_from_nothing() -> None:
    try:
        divide_badly()
    except ZeroDivisionError:
        raise PlainError("context not shown") from None


def raise_chain(length: int) -> None:
    error = PlainError(0)
    for number in range(1, length):
        following = PlainError(number)
        following.__cause__ = error
        error = following
    raise error


def raise_cyclic_cause() -> None:
    first, second = PlainError("first"), PlainError("second")
    first.__cause__ = second
    second.__cause__ = first
    raise first


def raise_own_cause() -> None:
    error = PlainError("its own cause")
    error.__cause__ = error
    raise error


def raise_cyclic_attribute() -> None:
    error = PlainError("knows itself")
    error.itself = error  # type: ignore[attr-defined]
    raise error


def raise_cyclic_args() -> None:
    error = PlainError("holds itself")
    error.args = (error, 1)
    raise error


def raise_noted() -> None:
    error = ValueError("with notes")
    error.add_note("first note")
    error.add_note("second note")
    raise error


def raise_bad_notes() -> None:
    error = ValueError("with notes that are none")
    error.__notes__ = "a string"  # type: ignore[assignment]
    raise error


def raise_with_unpicklable_attribute() -> None:
    import threading

    error = PlainError("has a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def raise_with_unpicklable_cause() -> None:
    raise PlainError("the cause stays") from UnreducibleError("cannot leave")


def raise_with_unprintable_argument() -> None:
    raise PlainError(Unprintable(3))


def raise_with_unrestorable_argument() -> None:
    raise PlainError(Unrestorable())


def raise_group() -> None:
    raise ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError("k"), PlainError("p")])])


def raise_group_with_chains() -> None:
    members: list[Exception] = []
    for function in (raise_with_cause, raise_noted, raise_with_context):
        try:
            function()
        except Exception as error:
            members.append(error)
    raise ExceptionGroup("chained", members) from members[0]


def raise_custom_group() -> None:
    raise CustomGroup("custom", [ValueError(1), FrozenError(2)])


def raise_code_group() -> None:
    raise CodeGroup("with a code", [ValueError(1)], 5)


def raise_base_group() -> None:
    raise BaseExceptionGroup("base", [KeyboardInterrupt(), SystemExit(3), ValueError("v")])


def raise_from_task_group() -> None:
    async def fail(number: int) -> None:
        raise ValueError(number)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(1))

    asyncio.run(run())


def raise_local_class() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("of a class that only the task has", 3)


def raise_large(size: int) -> None:
    raise PlainError("x" * size)


def raise_large_attribute(size: int) -> None:
    error = PlainError("with data")
    error.data = bytes(size)  # type: ignore[attr-defined]
    raise error


def raise_changed_args() -> None:
    error = ValueError("before")
    error.args = ("after", 2)
    raise error


def raise_instance(error: BaseException) -> None:
    raise error


def raise_deep(depth: int) -> None:
    if depth:
        raise_deep(depth - 1)
    raise PlainError("deep in the stack")


if __name__ == "__main__":
    from tests.conformance.program import main

    sys.exit(main(sys.modules["__main__"], sys.argv[1:]))
