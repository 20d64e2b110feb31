"""Functions that raise all kinds of exceptions: ordinary ones, those of libraries, and those that misbehave.

Imported by tests here and, by path, by those that raise them in real workers.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import decimal
import enum
import json
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
import zipfile
from collections.abc import Callable
from typing import Any, NoReturn


class Plain(Exception):
    pass


class RequiredArguments(Exception):
    """As most libraries write them: what the constructor wants is not what `args` says."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class OneArgumentChanged(Exception):
    """Made again from its `args`, it would say "failed: failed: x"."""

    def __init__(self, what: str) -> None:
        super().__init__(f"failed: {what}")


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"slot {self.code}"


class WithNew(Exception):
    def __new__(cls, code: int, text: str) -> WithNew:
        error = super().__new__(cls, code, text)
        error.made_by_new = True
        return error

    made_by_new: bool


class OwnReduce(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self) -> Any:
        return OwnReduce, (self.code,)


class OwnReduceThatForgets(Exception):
    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.extra = "kept"

    def __reduce__(self) -> Any:
        return Plain, ("something else",)


class OwnState(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        self.lock = threading.Lock()

    def __str__(self) -> str:
        return f"state {self.code}"

    def __getstate__(self) -> Any:
        return {"code": self.code}

    def __reduce__(self) -> Any:
        return OwnState, (self.code,), {"code": self.code}


class SystemError2(OSError):
    def __init__(self, number: int, text: str, extra: str) -> None:
        super().__init__(number, text)
        self.extra = extra


class Group(ExceptionGroup[Exception]):
    def __new__(cls, message: str, members: list[Exception], code: int) -> Group:
        group = super().__new__(cls, message, members)
        group.code = code
        return group

    code: int

    def derive(self, members: Any) -> Group:  # type: ignore[override]  # as narrow as its constructor
        return Group(self.message, members, self.code)


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int = 0


@dataclasses.dataclass
class Data(Exception):
    code: int
    names: list[str]


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


class Empty(Exception):
    def __len__(self) -> int:
        return 0


# --- those that misbehave


class RaisesInStr(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class ExitsInStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(7)


class RaisesInReduce(Exception):
    def __reduce__(self) -> NoReturn:
        raise ValueError("not me")


class ReducesToNonsense(Exception):
    def __reduce__(self) -> Any:
        return 5


class ReducesToWhatRaises(Exception):
    def __reduce__(self) -> Any:
        return int, ("not a number",)


class ReducesToExit(Exception):
    def __reduce__(self) -> Any:
        return sys.exit, (9,)


class RefusesAttributes(Exception):
    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("read only")


class RefusesEverything(Exception):
    """Each name looked up on it raises."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError(f"no {name}")


def _raising_property(name: str) -> Any:
    def get(_: object) -> NoReturn:
        raise RuntimeError(f"no {name}")

    return property(get)


class RaisingProperties(Exception):
    __class__ = _raising_property("__class__")
    __traceback__ = _raising_property("__traceback__")
    __cause__ = _raising_property("__cause__")
    __context__ = _raising_property("__context__")
    __notes__ = _raising_property("__notes__")
    __suppress_context__ = _raising_property("__suppress_context__")
    __dict__ = _raising_property("__dict__")
    args = _raising_property("args")


class Lies(Exception):
    __class__ = KeyboardInterrupt  # type: ignore[assignment]
    __traceback__ = "not a traceback"  # type: ignore[assignment]
    __cause__ = 5  # type: ignore[assignment]
    __notes__ = 7  # type: ignore[assignment]


class RaisesInComparison(Exception):
    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("no comparison")

    def __hash__(self) -> NoReturn:
        raise RuntimeError("no hash")

    def __bool__(self) -> NoReturn:
        raise RuntimeError("no truth")

    def __len__(self) -> NoReturn:
        raise RuntimeError("no length")


class RecursesInStr(Exception):
    def __str__(self) -> str:
        return str(self)


class StrSubclass(Exception):
    def __str__(self) -> str:
        return _Text("a text of its own kind")


class _Text(str):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no")


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(f"no {name} of the class")

    def __hash__(cls) -> NoReturn:
        raise RuntimeError("no hash of the class")

    def __eq__(cls, other: object) -> NoReturn:
        raise RuntimeError("no comparison of the class")


class HostileClass(Exception, metaclass=_Meta):
    pass


class SleepsInStr(Exception):
    def __str__(self) -> str:
        time.sleep(3600)  # sleeps: a text that takes for ever
        return "late"


class SleepsInReduce(Exception):
    def __reduce__(self) -> Any:
        while True:
            time.sleep(0.01)  # sleeps: a text that takes for ever


class OwnLock:
    """A value that arrives with a lock, and cannot go back."""

    def __reduce__(self) -> Any:
        return threading.Lock, ()

    def __hash__(self) -> int:
        return 1


# --- how they are raised


def _raise(error: BaseException) -> NoReturn:
    raise error


def _with_cause() -> NoReturn:
    try:
        _raise(RequiredArguments(1, "first"))
    except RequiredArguments as error:
        raise KeyError("second") from error


def _with_context() -> NoReturn:
    try:
        _raise(Plain("first"))
    except Plain:
        raise OneArgumentChanged("second")  # noqa: B904


def _suppressed() -> NoReturn:
    try:
        _raise(Plain("first"))
    except Plain:
        raise Plain("second") from None


def _with_notes() -> NoReturn:
    error = Plain("noted")
    error.add_note("one\nof two lines")
    error.add_note("two")
    raise error


def _cyclic() -> NoReturn:
    one, two = Plain("one"), RequiredArguments(2, "two")
    one.__cause__, two.__cause__ = two, one
    raise one


def _own_cause() -> NoReturn:
    error = Plain("itself")
    error.__cause__ = error
    raise error


def _refers_to_itself() -> NoReturn:
    error = Plain("self")
    error.me = error  # type: ignore[attr-defined]
    error.original = error.__cause__ = RequiredArguments(3, "shared")  # type: ignore[attr-defined]
    raise error


def _group() -> NoReturn:
    members: list[Exception] = []
    for function in (_with_cause, _with_context, _with_notes):
        try:
            function()
        except Exception as error:
            members.append(error)
    members.append(ExceptionGroup("inner", [ValueError(1), RequiredArguments(4, "in a group")]))
    raise ExceptionGroup("outer", members)


def _group_with_cycle() -> NoReturn:
    group = ExceptionGroup("group", [ValueError(1), TypeError(2)])
    group.exceptions[0].__context__ = group
    raise group


def _raised_from_group() -> NoReturn:
    try:
        raise ExceptionGroup("group", [ValueError(1)])
    except* ValueError as group:
        raise group.exceptions[0]  # noqa: B904


def _deep() -> NoReturn:
    def down(levels: int) -> NoReturn:
        if levels:
            down(levels - 1)
        raise Plain("deep")

    down(300)


def _endless() -> NoReturn:
    _endless()


def _long_chain() -> NoReturn:
    error: Exception = Plain(0)
    for number in range(1, 2000):
        following = Plain(number)
        following.__cause__ = error
        error = following
    raise error


def _wide_group() -> NoReturn:
    raise ExceptionGroup("wide", [ValueError(number) for number in range(1000)])


def _branching_group() -> NoReturn:
    group: Exception = ValueError("leaf")
    for level in range(40):
        group = ExceptionGroup(str(level), [group] * 15)
    raise group


def _generator_inside() -> NoReturn:
    raise Plain("with a generator", (number for number in range(3)))


def _lock_in_attribute() -> NoReturn:
    error = RequiredArguments(5, "with a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def _lock_in_cause() -> NoReturn:
    try:
        _lock_in_attribute()
    except RequiredArguments as error:
        raise Plain("its cause has a lock") from error


def _traceback_inside() -> NoReturn:
    try:
        _raise(Plain("first"))
    except Plain as error:
        following = Plain("second")
        following.where = error.__traceback__  # type: ignore[attr-defined]
        following.info = sys.exc_info()  # type: ignore[attr-defined]
        raise following from None


def _local_class() -> NoReturn:
    class Local(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(f"local {code}")
            self.code = code

    raise Local(6)


def _numpy_axis() -> NoReturn:
    import numpy as np

    np.zeros((2, 2)).sum(axis=5)
    raise AssertionError


def _blocking() -> NoReturn:
    raise BlockingIOError(11, "would block", 7)


EMPTY: dict[object, object] = {}

RESTORED: dict[str, Callable[[], object]] = {
    "value": lambda: _raise(ValueError("text", 1, None)),
    "no arguments": lambda: _raise(RuntimeError()),
    "class": lambda: _raise(Plain),  # type: ignore[arg-type]
    "division": lambda: 1 / 0,
    "key": lambda: EMPTY["missing"],
    "key of a tuple": lambda: EMPTY[1, "a"],
    "attribute": lambda: None.nothing,  # type: ignore[attr-defined]
    "name": lambda: undefined_name,  # type: ignore[name-defined]  # noqa: F821
    "import": lambda: __import__("no_such_module_at_all"),
    "assertion": lambda: _raise(AssertionError("said")),
    "stop iteration": lambda: next(iter(())),
    "stop with a value": lambda: _raise(StopIteration(5)),
    "stop async iteration": lambda: _raise(StopAsyncIteration("end")),
    "decode": lambda: b"abc\xff".decode(),
    "encode": lambda: "ü".encode("ascii"),
    "translate": lambda: _raise(UnicodeTranslateError("x", 0, 1, "why")),
    "file": lambda: open("/no/such/file"),  # noqa: SIM115
    "two files": lambda: __import__("os").rename("/no/such/a", "/no/such/b"),
    "blocking": _blocking,
    "os without file": lambda: _raise(OSError("only a text")),
    "os with number": lambda: _raise(OSError(28, "full")),
    "syntax": lambda: compile("a b c", "f.py", "exec"),
    "indentation": lambda: compile("if 1:\nx", "f.py", "exec"),
    "xml": lambda: xml.etree.ElementTree.fromstring("<a><b></a>"),
    "json": lambda: json.loads("{"),
    "process": lambda: subprocess.run([sys.executable, "-c", "exit(3)"], check=True, capture_output=True),
    "process timeout": lambda: _raise(subprocess.TimeoutExpired("cmd", 1.5, b"out")),
    "decimal": lambda: decimal.Decimal(1) / 0,
    "zip": lambda: _raise(zipfile.BadZipFile("bad")),
    "gai": lambda: _raise(socket.gaierror(-2, "unknown")),
    "system exit": lambda: sys.exit(3),
    "system exit with text": lambda: sys.exit("bye"),
    "keyboard": lambda: _raise(KeyboardInterrupt("ctrl-c")),
    "generator exit": lambda: _raise(GeneratorExit()),
    "asyncio cancelled": lambda: _raise(asyncio.CancelledError("from within")),
    "futures cancelled": lambda: _raise(concurrent.futures.CancelledError("a future of the task's own")),
    "timeout": lambda: _raise(TimeoutError("slow")),
    "broken pool": lambda: _raise(concurrent.futures.BrokenExecutor("broken")),
    "plain class": lambda: _raise(Plain("a", 1)),
    "required arguments": lambda: _raise(RequiredArguments(4, "no")),
    "one argument changed": lambda: _raise(OneArgumentChanged("x")),
    "keyword only": lambda: _raise(KeywordOnly(code=5)),
    "slots": lambda: _raise(Slotted(6)),
    "own new": lambda: _raise(WithNew(7, "seven")),
    "own reduce": lambda: _raise(OwnReduce(8)),
    "own reduce that forgets": lambda: _raise(OwnReduceThatForgets(9)),
    "os subclass": lambda: _raise(SystemError2(5, "five", "extra")),
    "enum in arguments": lambda: _raise(Plain(Color.RED, {1, 2, 3}, {"a": [1, (2,)]})),
    "frozen dataclass": lambda: _raise(Frozen(10)),
    "dataclass": lambda: _raise(Data(11, ["a"])),
    "falsy": lambda: _raise(Falsy("false")),
    "empty": lambda: _raise(Empty("empty")),
    "cause": _with_cause,
    "context": _with_context,
    "suppressed context": _suppressed,
    "notes": _with_notes,
    "cyclic causes": _cyclic,
    "its own cause": _own_cause,
    "refers to itself": _refers_to_itself,
    "group": _group,
    "group of own class": lambda: _raise(Group("mine", [ValueError(1), KeyError(2)], 12)),
    "base group": lambda: _raise(BaseExceptionGroup("base", [KeyboardInterrupt(), ValueError(1)])),
    "group with a cycle": _group_with_cycle,
    "raised from a group": _raised_from_group,
    "deep": _deep,
    "recursion": _endless,
    "wide group": _wide_group,
    "traceback inside": _traceback_inside,
    "local class": _local_class,
    "surrogates": lambda: _raise(Plain("a\udcff", b"\xff")),
    "raises in reduce": lambda: _raise(RaisesInReduce("r")),
    "reduces to nonsense": lambda: _raise(ReducesToNonsense("r")),
    "reduces to what raises": lambda: _raise(ReducesToWhatRaises("r")),
    "reduces to exit": lambda: _raise(ReducesToExit("r")),
    "refuses attributes": lambda: _raise(RefusesAttributes("f")),
    "raises in comparison": lambda: _raise(RaisesInComparison("c")),
    "raises in str": lambda: _raise(RaisesInStr("s")),
    "text of its own kind": lambda: _raise(StrSubclass("s")),
    "numpy axis": _numpy_axis,
}
"""What arrives as itself."""

DESCRIBED: dict[str, Callable[[], object]] = {
    "generator inside": _generator_inside,
    "lock in an attribute": _lock_in_attribute,
}
"""What cannot arrive as itself, for it holds what cannot be pickled."""

HOSTILE: dict[str, Callable[[], object]] = {
    "own state": lambda: _raise(OwnState(13)),
    "lock in the cause": _lock_in_cause,
    "long chain": _long_chain,
    "branching group": _branching_group,
    "exits in str": lambda: _raise(ExitsInStr("e")),
    "recurses in str": lambda: _raise(RecursesInStr("r")),
    "refuses everything": lambda: _raise(RefusesEverything("x")),
    "raising properties": lambda: _raise(RaisingProperties("p")),
    "lies": lambda: _raise(Lies("l")),
    "hostile class": lambda: _raise(HostileClass("h")),
}
"""What must be described, whichever way, without anything raising on the road."""

ENDLESS: dict[str, Callable[[], object]] = {
    "sleeps in str": lambda: _raise(SleepsInStr("s")),
    "sleeps in reduce": lambda: _raise(SleepsInReduce("s")),
}
"""What takes for ever to be described."""
