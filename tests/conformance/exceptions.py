"""The exceptions of the table: each a name and the task that raises it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
from typing import Any

Task = tuple[Any, tuple[Any, ...]]
"""A function that a worker can restore, and its arguments."""


def exceptions(user: Any) -> dict[str, Task]:
    """Return all tasks that raise; `user` is the module that has the user's classes and functions."""
    return {
        **_builtins(user),
        **_raised_by_python(user),
        **_users(user),
        **_chains(user),
        **_groups(user),
        **_bases(user),
    }


def _made(user: Any, kind: type[BaseException], *args: Any) -> Task:
    return user.raise_made, (kind, *args)


def _builtins(user: Any) -> dict[str, Task]:
    return {
        "no arguments": _made(user, ValueError),
        "one argument": _made(user, ValueError, "text"),
        "several arguments": _made(user, ValueError, "text", 3, [None]),
        "text with a surrogate": _made(user, ValueError, "a\udcff"),
        "empty text": _made(user, RuntimeError, ""),
        "an exception as argument": _made(user, RuntimeError, ValueError("inner")),
        "KeyError": _made(user, KeyError, ("a", 1)),
        "OSError": _made(user, OSError, 2, "No such file", "one", None, "two"),
        "OSError of one argument": _made(user, OSError, "text"),
        "FileNotFoundError": _made(user, FileNotFoundError, 2, "No such file", "name"),
        "BlockingIOError": _made(user, BlockingIOError, 11, "would block", 5),
        "socket.gaierror": _made(user, socket.gaierror, -2, "Name or service not known"),
        "UnicodeDecodeError": _made(user, UnicodeDecodeError, "utf-8", b"\xff", 0, 1, "invalid start byte"),
        "UnicodeTranslateError": _made(user, UnicodeTranslateError, "text", 0, 1, "reason"),
        "SyntaxError": _made(user, SyntaxError, "bad", ("file.py", 3, 5, "a = (", 3, 6)),
        "ImportError": (user.raise_with, (ImportError, ("no module",), {"name": "module", "path": "/path"})),
        "AttributeError": (user.raise_with, (AttributeError, ("no attribute",), {"name": "attribute"})),
        "StopIteration": _made(user, StopIteration, 5),
        "StopAsyncIteration": _made(user, StopAsyncIteration, 5),
        "TimeoutError": _made(user, TimeoutError, "too slow"),
        "concurrent CancelledError": _made(user, concurrent.futures.CancelledError, "by the task"),
        "InvalidStateError": _made(user, concurrent.futures.InvalidStateError, "no"),
        "BrokenExecutor": _made(user, concurrent.futures.BrokenExecutor, "no"),
        "MemoryError": _made(user, MemoryError, "none left"),
        "RecursionError": _made(user, RecursionError, "too deep"),
        "NotImplementedError": _made(user, NotImplementedError),
        "AssertionError": _made(user, AssertionError, "not so"),
        "Warning": _made(user, DeprecationWarning, "old"),
        "EOFError": _made(user, EOFError),
        "ConnectionResetError": _made(user, ConnectionResetError, 104, "reset"),
        "BrokenPipeError": _made(user, BrokenPipeError, 32, "broken"),
        "BufferError": _made(user, BufferError, "buffers"),
    }


def _raised_by_python(user: Any) -> dict[str, Task]:
    names = (
        "decode_badly",
        "encode_badly",
        "parse_badly",
        "parse_xml_badly",
        "parse_json_badly",
        "axis_badly",
        "reshape_badly",
        "linalg_badly",
        "divide_badly",
        "open_badly",
        "rename_badly",
        "import_badly",
        "import_name_badly",
        "look_up_badly",
        "get_attribute_badly",
        "get_name_badly",
        "recurse_badly",
        "subprocess_badly",
        "decimal_badly",
        "raise_stop_iteration",
        "raise_class",
    )
    return {name.replace("_", " "): (getattr(user, name), ()) for name in names} | {
        "missing argument": (user.plus_one, ()),
        "builtin that raises": (int, ("five",)),
        "deep in the stack": (user.raise_deep, (50,)),
    }


def _users(user: Any) -> dict[str, Task]:
    return {
        "plain": _made(user, user.PlainError, "text", 3),
        "two arguments": _made(user, user.TwoArgumentsError, 3, "detail"),
        "constructor without super": _made(user, user.NoSuperError, 3),
        "keyword constructor": (user.raise_keyword, (3,)),
        "with reduce": _made(user, user.ReducedError, 3, "detail"),
        "dataclass": _made(user, user.DataError, 3, "detail"),
        "frozen dataclass": _made(user, user.FrozenError, 3),
        "slots": _made(user, user.SlottedError, 3),
        "str raises": _made(user, user.UnprintableError, 3),
        "str exits": _made(user, user.ExitingStrError, 3),
        "str is no string": _made(user, user.NoStringError, 3),
        "reduce raises": _made(user, user.UnreducibleError, 3),
        "reduce interrupts": _made(user, user.InterruptingReduceError, 3),
        "restoring raises": _made(user, user.UnrestorableError, 3),
        "reduce makes a list": _made(user, user.OtherReduceError, 3),
        "setattr raises": _made(user, user.UnsettableError, 3),
        "false": _made(user, user.FalseError, 3),
        "of length 0": _made(user, user.EmptyError, 3),
        "bool raises": _made(user, user.RaisingBoolError, 3),
        "equality raises": _made(user, user.RaisingEqualError, 3),
        "not hashable": _made(user, user.UnhashableError, 3),
        "traceback raises": _made(user, user.PropertyError, 3),
        "getattr raises": _made(user, user.RaisingGetattrError, 3),
        "several bases": _made(user, user.ManyBasesError, "key"),
        "attributes": (user.raise_with, (user.PlainError, ("text",), {"code": 3, "data": [1, 2]})),
        "enum as attribute": (user.raise_with, (user.PlainError, (), {"problem": user.Problem.FULL})),
        "attribute called args_": (user.raise_with, (user.PlainError, ("text",), {"args_": 1, "text": "other"})),
        "local class": (user.raise_local_class, ()),
        "unpicklable attribute": (user.raise_with_unpicklable_attribute, ()),
        "unprintable argument": (user.raise_with_unprintable_argument, ()),
        "argument that refuses to be restored": (user.raise_with_unrestorable_argument, ()),
        "enum and tuple as arguments": _made(user, user.PlainError, user.Problem.FULL, (1, 2)),
        "changed args": (user.raise_changed_args, ()),
        "knows itself": (user.raise_cyclic_attribute, ()),
        "holds itself": (user.raise_cyclic_args, ()),
        "text of 40 KiB": (user.raise_large, (40 * 1024,)),
        "text of 100 KiB": (user.raise_large, (100 * 1024,)),
        "attribute of 1 MiB": (user.raise_large_attribute, (1024 * 1024,)),
    }


def _chains(user: Any) -> dict[str, Task]:
    return {
        "notes": (user.raise_noted, ()),
        "notes on a user's": (user.raise_with, (user.PlainError, ("text",), {"code": 3}, ("one", "two"))),
        "notes that are none": (user.raise_bad_notes, ()),
        "cause": (user.raise_with_cause, ()),
        "context": (user.raise_with_context, ()),
        "context not shown": (user.raise_from_nothing, ()),
        "chain of 50": (user.raise_chain, (50,)),
        "two that cause each other": (user.raise_cyclic_cause, ()),
        "its own cause": (user.raise_own_cause, ()),
        "unpicklable cause": (user.raise_with_unpicklable_cause, ()),
    }


def _groups(user: Any) -> dict[str, Task]:
    return {
        "group": (user.raise_group, ()),
        "group with chains": (user.raise_group_with_chains, ()),
        "user's group": (user.raise_custom_group, ()),
        "group with another constructor": (user.raise_code_group, ()),
        "group of base exceptions": (user.raise_base_group, ()),
        "of a task group": (user.raise_from_task_group, ()),
    }


def _bases(user: Any) -> dict[str, Task]:
    return {
        "SystemExit": _made(user, SystemExit, 3),
        "sys.exit(3)": (user.exit_with, (3,)),
        "sys.exit()": (user.exit_with, (None,)),
        "sys.exit(text)": (user.exit_with, ("a reason",)),
        "KeyboardInterrupt": _made(user, KeyboardInterrupt),
        "GeneratorExit": _made(user, GeneratorExit, "closed"),
        "asyncio CancelledError": _made(user, asyncio.CancelledError, "cancelled"),
        "BaseException": _made(user, BaseException, "base"),
        "user's BaseException": _made(user, user.PlainBaseError, "base", 3),
    }
