"""A program whose classes live in `__main__`: they travel with tasks and come back, and stay what they are.

Prints one line of JSON: names of what went wrong, with reasons.
"""

from __future__ import annotations

import abc
import contextlib
import ctypes
import dataclasses
import enum
import functools
import json
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, NewType, ParamSpec, Protocol, TypeVar, TypeVarTuple

from scaler import Client
from tests.integration.main_program import open_cluster

T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796
    BLUE = 2


class Access(enum.Flag):
    R = 1
    W = 2
    X = 4
    RW = R | W


class Mode(enum.IntFlag):
    R = 1
    W = 2
    RW = 3


class Planet(enum.Enum):
    EARTH = (5.97, 6.37)
    MARS = (0.64, 3.39)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass = mass
        self.radius = radius

    @property
    def gravity(self) -> float:
        return self.mass / self.radius**2


class Axis(bytes, enum.Enum):
    label: str

    def __new__(cls, number: int, label: str) -> Axis:
        made = bytes.__new__(cls, [number])
        made._value_ = number
        made.label = label
        return made

    X = (0, "x")
    Y = (1, "y")


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Name(enum.StrEnum):
    A = enum.auto()
    B = "b"


class Lists(enum.Enum):
    ONE = [1]
    TWO = {"a": 1}


class Greeting(enum.Enum):
    def hello(self) -> str:
        return f"hello {self.name}"


class Word(Greeting):
    WORLD = 9


class Slotted:
    __slots__ = ("a", "__private", "__weakref__")  # noqa: RUF023

    def __init__(self) -> None:
        self.a = 1
        self.__private = 2

    def both(self) -> tuple[int, int]:
        return self.a, self.__private


class MoreSlots(Slotted):
    __slots__ = "c"

    def __init__(self) -> None:
        super().__init__()
        self.c = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    y: list[int] = dataclasses.field(default_factory=list)


class Pair(NamedTuple):
    x: int
    y: str = "q"


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> int: ...


class Square(Shape):
    def area(self) -> int:
        return 4


Shape.register(Frozen)


class HasArea(Protocol):
    def area(self) -> int: ...


class Box(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item


class IntBox(Box[int]):
    pass


class Plugin:
    registry: dict[str, type] = {}

    def __init_subclass__(cls, *, tag: str, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        Plugin.registry[tag] = cls


class First(Plugin, tag="first"):
    pass


class Second(First, tag="second"):
    __slots__ = ()


class TaggedError(Exception):
    tag = ""

    def __init_subclass__(cls, *, tag: str) -> None:
        cls.tag = tag


class FourError(TaggedError, tag="four"):
    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number

    def __reduce__(self) -> Any:
        return FourError, (self.args[0], self.number)


class Strict(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], *, checked: bool) -> Strict:
        if "needed" not in space:
            raise TypeError(f"{name} has no 'needed'")
        return super().__new__(mcs, name, bases, space)

    def __init__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], *, checked: bool) -> None:
        super().__init__(name, bases, space)

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"{cls.__name__} cannot be changed")


class Checked(metaclass=Strict, checked=True):
    needed = 1


class Lazy:
    @functools.cached_property
    def once(self) -> int:
        return 42

    @functools.lru_cache(maxsize=7)  # noqa: B019
    def cached(self, x: int) -> int:
        return x + 1

    @staticmethod
    def static() -> int:
        return 1

    @classmethod
    def own(cls) -> type:
        return cls


class Record(typing.TypedDict):
    a: int


class Event:
    kinds: list[type] = []

    def __init_subclass__(cls) -> None:
        Event.kinds.append(cls)


class Started(Event):
    pass


class Stopped(Event):
    pass


class Size(ctypes.Structure):
    _fields_ = (("width", ctypes.c_int), ("height", ctypes.c_double))

    def area(self) -> float:
        return float(self.width * self.height)


class Packet(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = (("kind", ctypes.c_uint8), ("size", ctypes.c_uint32))


class Node(ctypes.Structure):
    def last(self) -> Any:
        return self.after.contents.last() if self.after else self


# A type that names itself: only now it can.
Node._fields_ = [("number", ctypes.c_int), ("after", ctypes.POINTER(Node))]


def last_number(number: int) -> Any:
    return Node(1, ctypes.pointer(Node(number))).last().number


P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
Number = NewType("Number", int)


class Callback(Generic[P]):
    pass


class Row(Generic[*Ts]):
    number: Number


@functools.singledispatch
def name_kind(_: Any) -> str:
    return "any"


@name_kind.register
def _(_: int) -> str:
    return "int"


class Namer:
    @functools.singledispatchmethod
    def kind(self, _: Any) -> str:
        return "any"

    @kind.register
    def _(self, _: int) -> str:
        return "int"

    five = functools.partialmethod(lambda self, number: number, 5)


class Outer:
    class Inner(enum.Enum):
        Q = 1


class Ring:
    other: type


Ring.other = Ring


@functools.lru_cache(maxsize=3)
def double(x: int) -> int:
    return x * 2


def check_color(value: Any) -> bool:
    return value.CRIMSON is value.RED and list(value.__members__) == ["RED", "CRIMSON", "BLUE"] and len(value) == 2


def check_access(value: Any) -> bool:
    kind = type(value)
    return value is kind.RW and kind.R | kind.W is value and value.name == "RW" and kind.X not in value


def check_slots(value: Any) -> bool:
    return value.both() == (1, 2) and not hasattr(value, "__dict__")


def check_frozen(value: Any) -> bool:
    with contextlib.suppress(dataclasses.FrozenInstanceError):
        value.x = 2
        return False
    return value == type(value)(1) and not hasattr(value, "__dict__") and not hasattr(type(value), "area")


def check_lazy(value: Any) -> bool:
    return (value.once, value.cached(1), value.static(), value.own()) == (42, 2, 1, type(value))


def check_plugin(value: Any) -> bool:
    registry = type(value).registry
    return list(registry) == ["first", "second"] and registry["first"] in type(value).__mro__


VALUES: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "alias": (Color, check_color),
    "member": (Color.CRIMSON, lambda v: v is type(v).RED and v.name == "RED"),
    "flag": (Access.RW, check_access),
    "flags": (Access.R | Access.X, lambda v: type(v).X in v and type(v).W not in v and v.value == 5),
    "int flag": (Mode.RW, lambda v: v == 3 and type(v).R in v),
    "member with attributes": (Planet.EARTH, lambda v: v.gravity > 0.14 and type(v)((0.64, 3.39)) is type(v).MARS),
    "member with __new__": (Axis.Y, lambda v: (v, v.value, v.label, type(v)(0).label) == (b"\1", 1, "y", "x")),
    "int enum": (Level.HIGH, lambda v: v + 1 == 3 and v.name == "HIGH"),
    "str enum": (Name.A, lambda v: v == "a" and f"{v}" == "a"),
    "unhashable enum": (Lists.TWO, lambda v: v.value == {"a": 1} and type(v)([1]) is type(v).ONE),
    "enum with a base": (Word.WORLD, lambda v: v.hello() == "hello WORLD"),
    "slots": (Slotted(), check_slots),
    "more slots": (MoreSlots(), lambda v: check_slots(v) and v.c == 3),
    "frozen dataclass": (Frozen(1), check_frozen),
    "named tuple": (Pair(1), lambda v: v == (1, "q") and v._replace(x=2).x == 2 and v._fields == ("x", "y")),
    "abstract": (Square(), lambda v: v.area() == 4 and bool(vars(type(v).__mro__[1])["__abstractmethods__"])),
    "protocol": (HasArea, lambda v: v._is_protocol),
    "generic": (Box(1), lambda v: v.item == 1 and bool(type(v)[int])),
    "generic of int": (IntBox(1), lambda v: v.item == 1 and type(v).__orig_bases__[0].__args__ == (int,)),
    "class keyword": (First(), check_plugin),
    "class keyword and slots": (Second(), check_plugin),
    "error with class keyword": (FourError("t", 4), lambda v: (v.tag, v.args, v.number) == ("four", ("t",), 4)),
    "metaclass": (Checked(), lambda v: v.needed == 1 and type(type(v)).__name__ == "Strict"),
    "cached property": (Lazy(), check_lazy),
    "typed dict": (Record, lambda v: v(a=1) == {"a": 1}),
    "subclasses that register": (Started(), lambda v: [kind.__name__ for kind in v.kinds] == ["Started", "Stopped"]),
    "parameters": (Callback(), lambda v: type(v).__parameters__[0].__name__ == "P"),
    "type variables": (Row(), lambda v: type(v).__parameters__[0].__name__ == "Ts"),
    "new type": (Number, lambda v: v(3) == 3 and v.__supertype__ is int),
    "dispatch": (name_kind, lambda v: (v(1), v("")) == ("int", "any")),
    "dispatch of methods": (Namer(), lambda v: (v.kind(1), v.kind(""), v.five()) == ("int", "any", 5)),
    "nested class": (Outer.Inner.Q, lambda v: type(v).__qualname__ == "Outer.Inner"),
    "cached function": (double, lambda v: v(2) == 4 and v.cache_info().maxsize == 3),
    "ctypes array": ((ctypes.c_int * 3)(1, 2, 3), lambda v: list(v) == [1, 2, 3]),
    "ctypes structure": (Size(2, 1.5), lambda v: v.area() == 3),
    "ctypes structures": ((Size * 2)(Size(2, 1.5), Size(4, 0.5)), lambda v: [each.area() for each in v] == [3, 2]),
    "ctypes, big endian": (Packet(1, 2), lambda v: bytes(v) == bytes([1, 0, 0, 0, 2])),
    "ctypes structure with a pointer": (last_number, lambda v: v(7) == 7),
    "type of C code": (type({}.keys()), lambda v: isinstance({}.keys(), v) and not isinstance({}.values(), v)),
    "numbers of the interpreter": (sys.float_info, lambda v: v.max > 1e300 and v.radix == 2),
    "class that names itself": (Ring(), lambda v: v.other is type(v)),
}


class CarrierError(Exception):
    def __init__(self, value: Any) -> None:
        super().__init__("carried")
        self.value = value


def give_back(value: Any) -> Any:
    return value


def give_back_many(value: Any, _: int) -> list[Any]:
    return [value, b"x" * 100_000]


def fail_with(value: Any) -> None:
    raise value if isinstance(value, Exception) else CarrierError(value)


def raised_by(future: Any) -> Any:
    error = future.exception()
    return error.value if isinstance(error, CarrierError) else error


def roads(client: Client, value: Any, check: Callable[[Any], bool]) -> Iterator[tuple[str, Callable[[], Any], bool]]:
    """Yield (road, call, whether the call gives the value back, instead of what the check says of it)."""
    yield "argument", lambda: client.submit(check, value).result(), False
    yield "captured", lambda: client.submit(lambda: check(value)).result(), False
    yield "object", lambda: client.submit(check, client.send_object(value)).result(), False
    yield "map", lambda: client.map(check, [value, value])[1], False
    yield "starmap", lambda: client.starmap(check, [(value,), (value,)])[1], False
    yield (
        "graph",
        lambda: client.get({"node 1": (give_back, value), "node 2": (check, "node 1")}, ["node 2"])["node 2"],
        False,
    )
    yield "result", lambda: client.submit(give_back, value).result(), True
    yield "large result", lambda: client.submit(give_back_many, value, 1).result()[0], True
    yield "map result", lambda: client.map(give_back, [value, value])[1], True
    yield "exception", lambda: raised_by(client.submit(fail_with, value)), True


def own_classes() -> dict[str, dict[str, Any]]:
    """Return all that the classes of this program have, but for what they note of themselves."""
    notes = {"_abc_impl", "_value2member_map_", "__slotnames__", "__annotations__"}
    return {
        name: {key: value for key, value in vars(kind).items() if key not in notes}
        for name, kind in globals().items()
        if isinstance(kind, type) and kind.__module__ == "__main__"
    }


def try_values(client: Client, problems: dict[str, str]) -> None:
    for name, (value, check) in VALUES.items():
        if not check(value):
            problems[f"{name}, here"] = "the check is wrong"
        before = own_classes()
        for road, call, is_value in roads(client, value, check):
            try:
                answer = call()
                if is_value and type(answer) is not type(value):
                    problems[f"{name}, {road}"] = f"is of another type: {type(answer)}"
                elif not (check(answer) if is_value else answer):
                    problems[f"{name}, {road}"] = f"is not what was sent: {answer!r}"
            except Exception as error:
                problems[f"{name}, {road}"] = f"{type(error).__name__}: {str(error)[:200]}"
            after = own_classes()
            if any(
                vars_after[key] is not before[kind].get(key) for kind, vars_after in after.items() for key in vars_after
            ):
                problems[f"{name}, {road}, own classes"] = "were changed"
                before = after


class Model:
    version = 1

    def __init__(self, size: int = 0) -> None:
        self.data = b"x" * size

    def describe(self) -> str:
        return f"one {self.version}"


def make_model(_: Any = None) -> Model:
    return Model()


def version_here(_: Any = None) -> int:
    return Model.version


def agree(model: Any) -> tuple[bool, int, int]:
    return type(model) is Model and isinstance(model, Model), Model.version, model.version


def count_up(_: Any) -> int:
    Model.version += 1
    return Model.version


def keep(model: Any) -> None:
    sys.kept = model  # type: ignore[attr-defined]


def is_kept() -> bool:
    return isinstance(sys.kept, Model)  # type: ignore[attr-defined]


def in_a_nested_client(_: Any) -> tuple[bool, int]:
    Model.version = 7
    with Client() as client:
        found = client.submit(make_model).result()
    return type(found) is Model, Model.version


def try_versions(client: Client, problems: dict[str, str], where: str) -> None:
    """What was submitted is what runs, and what comes back changes nothing."""

    def expect(name: str, found: Any, expected: Any) -> None:
        if found != expected:
            problems[name] = f"{found!r}, not {expected!r}"

    first = client.submit(make_model)
    first.result()
    reference = client.send_object(Model())
    stored = client.send_object(Model(300_000))
    waiting = client.submit(version_here)
    waiting.result()
    again = client.submit(make_model)

    Model.version = 2
    Model.describe = lambda self: "two"  # type: ignore[method-assign]
    expect("a result asked for later", again.result().version, 2)
    expect("an attribute of the client's", Model.version, 2)
    expect("a method of the client's", Model().describe(), "two")
    expect("its type", type(client.submit(make_model).result()) is Model, True)
    expect("the worker's", client.submit(version_here).result(), 2)
    expect("the worker's, in a map", client.map(version_here, range(3)), [2, 2, 2])
    expect("an object sent before", client.submit(agree, reference).result(), (True, 2, 2))
    expect("a large object sent before", client.submit(agree, stored).result(), (True, 2, 2))
    expect("an argument", client.submit(agree, Model()).result(), (True, 2, 2))
    expect("a graph", client.get({"a": (make_model,), "b": (agree, "a")}, ["b"])["b"], (True, 2, 2))
    if where != "in process":
        # There, tasks and client share one class.
        expect("calls one after another", [client.submit(count_up, 1).result() for _ in range(3)], [3, 3, 3])
        expect("items one after another", client.map(count_up, range(3)), [3, 3, 3])
        if where == "cluster":
            # It has one processor.
            client.submit(keep, Model()).result()
            expect("what a task has kept", client.submit(is_kept).result(), True)
        expect("in a nested client", client.submit(in_a_nested_client, 1).result(), (True, 7))
    seen: list[Any] = []
    future = client.submit(make_model)
    future.add_done_callback(lambda done: seen.append(done.result()))
    future.result()
    expect("after a callback", (Model.version, Model().describe()), (2, "two"))


def main() -> None:
    problems: dict[str, str] = {}
    where = sys.argv[1]
    with open_cluster(where) as address, Client(address) as client:
        try_values(client, problems)
        try_versions(client, problems, where)
    print(json.dumps(problems))


if __name__ == "__main__":
    main()
