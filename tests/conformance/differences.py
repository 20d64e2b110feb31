"""Where the engine answers otherwise than `ProcessPoolExecutor`, on purpose, and why.

A cell that differs and is not named here fails the test; so does a cell that is named here and does not differ, and one
that differs in another way than its entry says.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
"""One cell, as `program` writes it, with its home."""


@dataclass(frozen=True)
class Difference:
    """Cells that differ for one reason. `items` are patterns of kind/item, `roads` of roads."""

    reason: str
    items: tuple[str, ...]
    roads: tuple[str, ...] = ("*",)
    homes: tuple[str, ...] = ("*",)
    ours: str = ""
    """A pattern of what our side raises, as "Type: text"; empty: what the call comes to in this process, exactly."""
    before: tuple[int, int] | None = None
    """The version of Python in which the pool's answer became ours."""
    shows: str = ""
    """A pattern of the first difference in the descriptions, where neither of the two says it."""

    def names(self, record: Record) -> bool:
        """Whether this entry is about a cell."""
        return (
            (self.before is None or sys.version_info[:2] < self.before)
            and any(_fits(f"{record['kind']}/{record['item']}", pattern) for pattern in self.items)
            and any(_fits(record["road"], pattern) for pattern in self.roads)
            and any(_fits(record["home"], pattern) for pattern in self.homes)
        )

    def explains(self, record: Record) -> bool:
        """Whether a cell that differs does so in this entry's way."""
        if self.shows:
            return re.search(self.shows, record["against pool"]) is not None
        if self.ours:
            return re.search(self.ours, record["ours"]) is not None
        return bool(record["original"])


def _fits(name: str, pattern: str) -> bool:
    return pattern == "*" or pattern == name or fnmatch.fnmatchcase(name, pattern)


_NOT_INSIDE_A_VALUE = (
    "submit*",
    "serializer",
    "stream_output",
    "profiling",
    "nested*",
    "get",
    "get block=False",
    "get following row",
    "in process*",
    "map",
    "starmap",
    "get expression",
)
"""Roads on which what the function returns is the result of a task, or of a call in a graph's expression."""

DIFFERENCES: list[Difference] = [
    # --- values
    Difference(
        "Functions, classes and modules that pickle cannot name travel by value; the pool refuses them.",
        (
            "values/closure",
            "values/closure over a list",
            "values/ctypes array*",
            "values/ctypes string buffer",
            "values/dict_keys",
            "values/lambda",
            "values/local class",
            "values/mappingproxy",
            "values/module",
            "values/object of a local class",
            "values/own module",
            "values/recursive closure",
            "values/sys.float_info",
            "values/type of a lock",
            "values/type of dict_keys",
        ),
    ),
    Difference(
        "A memoryview travels with its bytes and an open file as what it holds; the pool refuses both.",
        ("values/memoryview", "values/open file"),
        shows="'value' against 'raised'",
    ),
    Difference(
        "What cannot be pickled is refused where it is handed over, by an error that names the argument. The pool's future "
        "fails later, with pickle's own error.",
        (
            "values/ctypes pointer",
            "values/frame",
            "values/generator",
            "values/list with a lock",
            "values/lock",
            "values/object that refuses to be sent",
            "values/sys.version_info",
        ),
        ours="^SerializationError: .*cannot be serialized",
    ),
    Difference(
        "A value that cannot be restored on the worker fails its task alone; the pool is broken by it, for all tasks.",
        ("values/frozen exception", "values/object that refuses to be restored"),
        ours="^DeserializeObjectError: the arguments of the task could not be restored on ",
    ),
    Difference(
        "Pickle protocol 5 keeps byte order, memory layout and the read-only flag of arrays; the pool's protocol 4 does not.",
        (
            "values/array, big endian",
            "values/large read-only array",
            "values/read-only array",
            "values/transposed array",
            "values/unaligned array",
        ),
    ),
    Difference(
        "In a graph, a tuple that begins with a callable is a task wherever it stands, as in Dask.",
        ("values/*tuple that begins with a*",),
        roads=("get*", "in process get"),
        shows="'int' against 'tuple'",
    ),
    Difference(
        "A function of __main__ comes back as a copy of itself, because it travels by value. Classes come back as themselves.",
        (
            "values/partial of a user's function",
            "values/user's coroutine function",
            "values/user's decorated function",
            "values/user's function",
        ),
        homes=("__main__",),
        shows="'function by value' against 'function'",
    ),
    # --- callables
    Difference(
        "Lambdas, closures and methods of local classes are callables like any other; the pool cannot send them.",
        (
            "callables/closure *",
            "callables/counter in a dictionary",
            "callables/counter with nonlocal",
            "callables/function with attributes",
            "callables/lambda*",
            "callables/list comprehension's lambda",
            "callables/local class",
            "callables/method of a local class",
            "callables/partial of a lambda",
            "callables/partial with a list",
            "callables/recursive closure",
            "callables/wrapped closure",
        ),
    ),
    Difference(
        "A local class travels with each call as it is at the client; in process it is the client's own. The pool cannot "
        "send it.",
        ("callables/class attribute changed by its constructor",),
        shows="'value' against 'raised'",
    ),
    Difference(
        "A coroutine function is awaited on the worker; the pool cannot send what it returns.",
        ("callables/coroutine function", "callables/coroutine lambda"),
        roads=_NOT_INSIDE_A_VALUE,
        shows="'value' against 'raised'",
    ),
    Difference(
        "A generator cannot be sent, nor a coroutine inside another value: the error names the type of the result. The pool "
        "raises pickle's own.",
        ("callables/coroutine function", "callables/coroutine lambda"),
        roads=("object", "segment"),
        ours="^PicklingError: the task's result, of type .* cannot be serialized: TypeError: cannot pickle",
    ),
    Difference(
        "A generator cannot be sent: the error names the type of the result. The pool raises pickle's own.",
        ("callables/generator function",),
        ours="^PicklingError: the task's result, of type .* cannot be serialized: TypeError: cannot pickle 'generator' object",
    ),
    Difference(
        "Arrays of ctypes and types written in C travel, as other types that pickle cannot name; the pool refuses them.",
        (
            "callables/makes a ctypes array",
            "callables/makes an array of structures",
            "callables/makes a type of C code",
        ),
        shows="'value' against 'raised'",
    ),
    Difference(
        "A pointer, and what each process has one of, cannot be sent: the error names the type of the result.",
        ("callables/makes a pointer", "callables/makes what each process has one of"),
        ours="^PicklingError: the task's result, of type .* cannot be serialized: .*cannot",
    ),
    Difference(
        "An asynchronous generator function is refused where it is handed over, with a hint. The pool runs it, and cannot "
        "send what it returns.",
        ("callables/asynchronous generator function",),
        roads=tuple(road for road in _NOT_INSIDE_A_VALUE if road != "get expression"),
        ours="^SerializationError: .* is an async generator function",
    ),
    Difference(
        "An asynchronous generator that another function returns cannot be sent: the error names the type of the result.",
        ("callables/asynchronous generator function",),
        roads=("object", "segment", "get expression"),
        ours="^PicklingError: the task's result, of type .* cannot be serialized",
    ),
    Difference(
        "A large argument is an object by itself, which many tasks can share: twice the same one arrives as two.",
        ("callables/same large array twice", "callables/same large list twice"),
        roads=tuple(road for road in _NOT_INSIDE_A_VALUE if road != "get expression"),
        shows="'False' against 'True'",
    ),
    Difference(
        "A custom serializer is given each argument by itself: twice the same one arrives as two.",
        (
            "callables/list inside another argument",
            "callables/list inside another argument, beside a large one",
            "callables/same array twice",
            "callables/same list twice",
        ),
        roads=("serializer",),
        shows="'False' against 'True'",
    ),
    Difference(
        "A function and the arguments of its call travel apart: what both refer to arrives as two.",
        ("callables/same list by keyword",),
        roads=("get", "get block=False", "get following row", "in process get", "nested starmap", "serializer"),
        shows="'False' against 'True'",
    ),
    # --- exceptions
    Difference(
        "Cause, context and whether it is suppressed arrive as they were raised; pickle, and so the pool, drops them.",
        (
            "exceptions/cause",
            "exceptions/chain of 50",
            "exceptions/context not shown",
            "exceptions/its own cause",
            "exceptions/of a task group",
            "exceptions/parse json badly",
            "exceptions/two that cause each other",
            "exceptions/unpicklable cause",
        ),
    ),
    Difference(
        "An exception that pickle cannot restore arrives as itself; the pool is broken by it, for all tasks.",
        (
            "exceptions/bool raises",
            "exceptions/context",
            "exceptions/frozen dataclass",
            "exceptions/getattr raises",
            "exceptions/group with chains",
            "exceptions/keyword constructor",
            "exceptions/reduce makes a list",
            "exceptions/restoring raises",
            "exceptions/setattr raises",
            "exceptions/traceback raises",
            "exceptions/two arguments",
            "exceptions/user's group",
        ),
    ),
    Difference(
        "An exception that pickle cannot dump arrives as itself; the pool raises the error of the attempt in its place.",
        (
            "exceptions/holds itself",
            "exceptions/reduce interrupts",
            "exceptions/reduce raises",
        ),
    ),
    Difference(
        "An exception that is false, or of length 0, is raised; the pool takes it for none, and returns None.",
        ("exceptions/false", "exceptions/of length 0"),
    ),
    Difference(
        "The name a NameError is about is kept; pickle, and so the pool, drops it.",
        ("exceptions/get name badly",),
    ),
    Difference(
        "The name an AttributeError is about is kept; pickle, and so the pool, drops it before Python 3.12.",
        ("exceptions/AttributeError",),
        before=(3, 12),
    ),
    Difference(
        "The name an AttributeError is about is kept, its object is not: it may be as large as a program, or not leave it. "
        "The pool drops both.",
        ("exceptions/get attribute badly",),
        before=(3, 12),
        shows=r"name\[1\]/str\[0\]: 'str' against 'NoneType'",
    ),
    Difference(
        "An exception whose parts cannot travel arrives as a RemoteTaskError that has its type, text, arguments and "
        "traceback; the pool raises the error of the attempt, or is broken.",
        ("exceptions/argument that refuses to be restored", "exceptions/unpicklable attribute"),
        ours="^RemoteTaskError: ",
    ),
    Difference(
        "A class that only the task has travels by value; the pool cannot send it.",
        ("exceptions/local class",),
        ours="^raise_local_class.<locals>.LocalError: ",
    ),
    Difference(
        "A call that cannot be right is refused before it is sent; in a graph, the error names the node.",
        ("exceptions/missing argument",),
        roads=("get", "get block=False", "get following row", "in process get"),
        ours=r"^TypeError: node \(.*\): plus_one\(\) missing 1 required positional argument",
    ),
    Difference(
        "A StopIteration raised by an item of a map is a RuntimeError: whoever iterates around the call would take it for "
        "an end.",
        ("exceptions/StopIteration", "exceptions/raise stop iteration"),
        roads=("*map",),
        ours="^RuntimeError: .*StopIteration",
    ),
    # --- interruptions
    Difference(
        "A process that dies fails the task that ran in it, with the reason, and is replaced; the pool is broken.",
        ("deaths/*",),
        ours="^ProcessorDiedError: ",
    ),
    Difference(
        "After a process has died the next task runs in a new one; the pool is broken.",
        ("interruptions/SIGKILL", "interruptions/os._exit", "interruptions/os.abort", "interruptions/unhandled signal"),
        shows="'ProcessorDiedError' against 'BrokenProcessPool'",
    ),
    Difference(
        "A running task can be cancelled: it is stopped, and its process replaced if need be.",
        ("interruptions/cancel while running",),
        shows="'True' against 'False'",
    ),
    Difference(
        "A future is running from its submission, as users of this engine's surface expect; the pool's first waits.",
        ("interruptions/running while queued",),
        shows="'True' against 'False'",
    ),
    Difference(
        "A client that was disconnected says so with ClientQuitException, which is of the engine's tree of errors.",
        ("interruptions/used after close",),
        shows="'ClientQuitException' against 'RuntimeError'",
    ),
    Difference(
        "A forked child cannot answer for its parent's task. The pool is not asked: there, the child would go on serving it.",
        ("interruptions/fork, child *",),
        roads=("submit", "stream_output*"),
        shows="'tuple' against 'str'",
    ),
]


@dataclass(frozen=True)
class Verdict:
    """What the table says of all records."""

    cells: Counter[str]
    """"all", "equal" and "different", over all homes."""
    by_difference: Counter[int]
    """How many cells each entry explains, by its place in the list."""
    problems: list[str]


def judge(records: Iterable[Record], differences: list[Difference] = DIFFERENCES) -> Verdict:
    """Compare records with the list of differences."""
    cells: Counter[str] = Counter()
    by_difference: Counter[int] = Counter()
    problems: list[str] = []
    for record in records:
        cells["all"] += 1
        about = [number for number, difference in enumerate(differences) if difference.names(record)]
        name = f"{record['kind']}/{record['item']} by {record['road']} ({record['home']})"
        if record["equal"]:
            cells["equal"] += 1
            problems += [
                f"{name}: no difference any more, and listed: {differences[number].reason}" for number in about
            ]
            continue
        cells["different"] += 1
        explaining = [number for number in about if differences[number].explains(record)]
        if not explaining:
            problems.append(
                f"{name}: differs from the pool: {record['against pool']}\n"
                f"    from this process: {record['against original'] or 'equal'}\n"
                f"    raised: {record['ours'] or 'nothing'} / pool: {record['pool'] or 'nothing'}"
                + "".join(f"\n    not as listed: {differences[number].reason}" for number in about)
            )
        by_difference.update(explaining[:1])
    problems += [
        f"listed, and met nowhere: {difference.reason}"
        for number, difference in enumerate(differences)
        if not by_difference[number] and (difference.before is None or sys.version_info[:2] < difference.before)
    ]
    return Verdict(cells, by_difference, problems)
