"""Hypothesis' values and exceptions: whatever pickle takes, and trees of exceptions that a task builds and raises."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import datetime
import decimal
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conformance import user_code as user

KIB = 1024

# --- values

_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
_ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.complex_numbers(),
    _TEXT,
    st.binary(max_size=40),
    st.just(...),
)
_NAMED = st.one_of(
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.sampled_from(user.Color),
    st.sampled_from(user.Level),
    st.sampled_from(user.Word),
    st.integers(0, 3).map(user.Permission),
    st.integers(0, 0x50).map(user.Mode),
    st.builds(range, st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 9)),
    st.sampled_from([int, str, collections.Counter, np.ndarray, user.Point, KeyError, len, user.plus_one, np.add]),
)


def _not_a_task(items: list[Any]) -> tuple[Any, ...]:
    """In a graph a tuple that begins with a callable is a task: the table says so, and here it would be run."""
    return (None, *items) if items and callable(items[0]) else tuple(items)


_HASHABLE = st.recursive(
    _ATOMS | _NAMED,
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(_not_a_task), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)


def _large(size: int, kind: str) -> Any:
    content = bytes(size)
    made: dict[str, Callable[[], Any]] = {
        "bytes": lambda: content,
        "bytearray": lambda: bytearray(content),
        "str": lambda: "x" * size,
        "array": lambda: np.frombuffer(content, dtype=np.uint8).copy(),
        "list": lambda: [content, "beside"],
        "arrays": lambda: [np.zeros(16) for _ in range(size // 128)],
    }
    return made[kind]()


_UNHASHABLE = st.one_of(
    st.builds(slice, st.integers() | st.none(), st.integers() | st.none()),
    st.decimals(allow_nan=True),
    st.binary(max_size=40).map(bytearray),
)
_LARGE = st.builds(
    _large,
    st.builds(
        lambda limit, more: limit * KIB + more, st.sampled_from([16, 48, 56, 64, 128, 256]), st.integers(-300, 300)
    ),
    st.sampled_from(["bytes", "bytearray", "str", "array", "list", "arrays"]),
)
_ARRAYS = hnp.arrays(
    hnp.scalar_dtypes() | hnp.array_dtypes(max_size=3), hnp.array_shapes(min_dims=0, max_side=4, min_side=0)
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(_not_a_task),
        st.dictionaries(_HASHABLE, inner, max_size=3),
        st.dictionaries(_HASHABLE, inner, max_size=3).map(collections.OrderedDict),
        st.lists(inner, max_size=3).map(collections.deque),
        st.lists(inner, max_size=3).map(user.ListChild),
        st.builds(user.Point, inner, inner),
        st.builds(user.FrozenPoint, inner),
        st.builds(user.SlottedPoint, inner, inner),
        st.builds(user.Slotted, inner, inner),
        st.builds(user.SlottedChild, inner, inner, inner),
        st.builds(user.Pair, inner, inner),
        st.builds(user.Stateful, inner),
        st.builds(user.Ambiguous, inner),
        st.builds(_shared, inner),
        st.builds(_cyclic, inner),
    )


def _shared(value: Any) -> Any:
    return [value, {"again": value}, user.Point(value, value)]


def _cyclic(value: Any) -> Any:
    made = user.Point(value)
    made.tags.append(made)  # type: ignore[arg-type]
    return made


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        _ATOMS,
        _NAMED,
        _UNHASHABLE,
        _ARRAYS,
        _LARGE,
        st.sets(_HASHABLE, max_size=4),
        st.frozensets(_HASHABLE, max_size=4),
        _HASHABLE,
    ),
    _containers,
    max_leaves=8,
)
"""Any value that pickle takes, and that is no task of a graph."""

# --- exceptions


@dataclass(frozen=True)
class Tree:
    """An exception to be built: plain data, so that a task can do it."""

    kind: type[BaseException]
    args: tuple[Any, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    cause: Tree | None = None
    context: Tree | None = None
    suppressed: bool = False
    members: tuple[Tree, ...] = ()


def build(tree: Tree) -> BaseException:
    """Return the exception a tree describes."""
    if tree.members:
        message, members = tree.args[0], [build(member) for member in tree.members]
        error: BaseException = tree.kind(message, members)
    else:
        error = tree.kind(*tree.args)
    for name, value in tree.attributes:
        setattr(error, name, value)
    for note in tree.notes:
        error.add_note(note)
    if tree.cause is not None:
        error.__cause__ = build(tree.cause)
    if tree.context is not None:
        error.__context__ = build(tree.context)
    error.__suppress_context__ = tree.suppressed or tree.cause is not None
    return error


def raise_tree(tree: Tree) -> None:
    raise build(tree)


_ARGUMENTS = st.one_of(
    _ATOMS,
    _NAMED,
    st.lists(_ATOMS, max_size=3),
    st.builds(user.Point, _ATOMS),
    st.dictionaries(_TEXT, _ATOMS, max_size=2),
)
_ANY_ARGUMENTS = st.lists(_ARGUMENTS, max_size=3).map(tuple)
_FREE_KINDS: list[type[BaseException]] = [
    Exception,
    ValueError,
    KeyError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    LookupError,
    TimeoutError,
    StopAsyncIteration,
    asyncio.CancelledError,
    concurrent.futures.InvalidStateError,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    BaseException,
    user.PlainError,
    user.ManyBasesError,
    user.UnhashableError,
    user.RaisingEqualError,
    user.UnprintableError,
    user.NoStringError,
    user.PlainBaseError,
]
_KINDS = st.one_of(
    st.tuples(st.sampled_from(_FREE_KINDS), _ANY_ARGUMENTS),
    st.tuples(st.just(OSError), st.tuples(st.integers(1, 40), _TEXT, _TEXT)),
    st.tuples(st.just(ConnectionError), st.tuples(st.integers(1, 40), _TEXT)),
    st.tuples(
        st.just(UnicodeDecodeError),
        st.tuples(st.just("utf-8"), st.binary(min_size=1, max_size=5), st.just(0), st.just(1), st.text(max_size=5)),
    ),
    st.tuples(
        st.just(SyntaxError),
        st.builds(lambda text, line: (text, ("f.py", 1, 2, line)), st.text(max_size=9), st.text(max_size=9)),
    ),
    st.tuples(
        st.just(json.JSONDecodeError),
        st.tuples(st.text(max_size=9), st.text(min_size=9, max_size=20), st.integers(0, 8)),
    ),
    st.tuples(st.just(decimal.InvalidOperation), _ANY_ARGUMENTS),
    st.tuples(st.just(user.ReducedError), st.tuples(_ATOMS, _ATOMS)),
    st.tuples(st.just(user.DataError), st.tuples(st.integers(), _TEXT)),
    st.tuples(st.just(user.TwoArgumentsError), st.tuples(st.integers(), _TEXT)),
    st.tuples(st.just(user.NoSuperError), st.tuples(st.integers())),
    st.tuples(st.just(user.SlottedError), st.tuples(st.integers())),
    st.tuples(st.just(user.FrozenError), st.tuples(st.integers())),
    st.tuples(st.just(user.FalseError), _ANY_ARGUMENTS),
    st.tuples(st.just(user.EmptyError), _ANY_ARGUMENTS),
    st.tuples(st.just(user.UnreducibleError), _ANY_ARGUMENTS),
    st.tuples(st.just(user.UnrestorableError), _ANY_ARGUMENTS),
)
_ATTRIBUTES = st.dictionaries(st.sampled_from(["extra", "data", "errno_", "text_"]), _ARGUMENTS, max_size=2).map(
    lambda attributes: tuple(attributes.items())
)


def _tree(
    kind_and_args: tuple[type[BaseException], tuple[Any, ...]],
    attributes: tuple[tuple[str, Any], ...],
    notes: tuple[str, ...],
    suppressed: bool,
    cause: Tree | None,
    context: Tree | None,
) -> Tree:
    kind, args = kind_and_args
    if kind is user.FrozenError:
        attributes, notes = (), ()
    return Tree(kind, args, attributes, notes, cause, context, suppressed)


def _groups(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    members = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.builds(
        lambda message, members, notes: Tree(BaseExceptionGroup, (message,), (), tuple(notes), members=members),
        _TEXT,
        members,
        st.lists(_TEXT, max_size=1),
    )


def _trees(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    maybe = st.none() | inner
    return st.one_of(_groups(inner), _single(maybe))


def _single(linked: st.SearchStrategy[Tree | None]) -> st.SearchStrategy[Tree]:
    return st.builds(_tree, _KINDS, _ATTRIBUTES, st.lists(_TEXT, max_size=2).map(tuple), st.booleans(), linked, linked)


TREES: st.SearchStrategy[Tree] = st.recursive(_single(st.none()), _trees, max_leaves=5)
"""Any exception: of Python's classes and of users', with arguments, attributes, notes, causes, contexts and members."""
