"""Notices that a task changes its process at the moment it does so.

To look at all that a task may have changed (`process_state`) takes longer than a quick task does. So the process says by itself
when it is changed, and a task that has changed nothing costs the glance at one flag, some versions and a few lengths:

- The functions by which programs change their process note that they are called. Whoever looks at one sees the function it
  stands for, but for its `type`: it is called without a frame of its own, so tracebacks show no difference, nor do pickles.
  Those that start a thread note in the same way which one it is (`task_threads`).
- The attributes of modules that no program can do without are watched, and so is `sys.modules` (`dict_changes`). Where the
  interpreter does not allow that, everything is looked at after each task.

What C code changes by itself, or Python code by `ctypes`, is noted by nobody. It is looked for after a task that was slow, has
failed or was the first of its function, and a hundred times a second.

What the processor needs of all this for itself is bound before `watch` is called, and so is not noted.
"""

from __future__ import annotations

import _thread
import builtins
import faulthandler
import gc
import locale
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from scaler_worker.processor import dict_changes

_FUNCTIONS: tuple[tuple[tuple[ModuleType, ...], tuple[str, ...]], ...] = (
    (
        (sys.modules["posix"], os),
        ("chdir", "close", "closerange", "dup2", "fchdir", "fdopen", "login_tty", "rmdir", "umask", "unsetenv"),
    ),
    ((sys.modules["_signal"], signal), ("alarm", "pthread_sigmask", "setitimer", "signal")),
    ((resource,), ("prlimit", "setrlimit")),
    ((sys,), ("setprofile", "setrecursionlimit", "setswitchinterval", "settrace")),
    ((gc,), ("disable",)),
    ((faulthandler,), ("dump_traceback_later",)),
    ((threading,), ("setprofile", "setprofile_all_threads", "settrace", "settrace_all_threads")),
    ((sys.modules["_socket"], socket), ("setdefaulttimeout",)),
    ((sys.modules["_locale"], locale), ("setlocale", "_setlocale")),
)
"""By the modules they are found in, the one in C first. Some are there in later versions of Python only."""

_STARTS = (
    (_thread, threading),
    ("start_new_thread", "start_new", "start_joinable_thread", "_start_new_thread", "_start_joinable_thread"),
)

_MODULES = (builtins, os, pickle, struct, sys, time)
_SETS_OF_FUNCTIONS = (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks)


class Changes:
    """What has been noted."""

    __slots__ = ("_is_blind", "noted", "versions")

    def __init__(self) -> None:
        self.noted = True
        """Whether anything was since `forget`. As long as nothing is watched, nobody can say."""
        self.versions: tuple[memoryview, ...] = ()
        """Of the dicts whose changes set no flag: what was changed has other bytes here."""
        self._is_blind = True

    def watch(self, dicts: list[dict[Any, Any]]) -> None:
        """Note from now on what changes these."""
        self._is_blind = not dict_changes.watch(dicts, self, "noted")
        if self._is_blind:
            self.versions = dict_changes.versions(dicts)
            self._is_blind = not self.versions
        self.noted = True

    def forget(self) -> None:
        """What was noted has been looked at."""
        self.noted = self._is_blind


CHANGES = Changes()


class _Noting:
    # Stands for a function, and notes that it is called. Has no docstring, as pydoc would take it for the function's.
    __slots__ = ("__weakref__", "_function")

    def __init__(self, function: Callable[..., Any]) -> None:
        _set_function(self, function)

    @property
    def __call__(self) -> Callable[..., Any]:
        CHANGES.noted = True
        return _function_of(self)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return _function_of(self).__doc__

    def __getattribute__(self, name: str) -> Any:
        # Also `__class__`, by which `isinstance` knows it.
        if name in _OWN:
            return object.__getattribute__(self, name)
        return getattr(_function_of(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_function_of(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_function_of(self), name)

    def __dir__(self) -> list[str]:
        return dir(_function_of(self))

    def __repr__(self) -> str:
        return repr(_function_of(self))

    def __eq__(self, other: object) -> bool:
        return _function_of(self) == (_function_of(other) if isinstance(other, _Noting) else other)

    def __hash__(self) -> int:
        return hash(_function_of(self))

    def __reduce__(self) -> str:
        return _function_of(self).__qualname__


class _NotingFunction(_Noting):
    # A function in Python, which becomes a method where a class has it.
    __slots__ = ()
    __doc__ = vars(_Noting)["__doc__"]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)


class _NotingStart(_Noting):
    # Stands for a function that starts a thread.
    __slots__ = ()
    __doc__ = vars(_Noting)["__doc__"]

    @property
    def __call__(self) -> Callable[..., Any]:
        return partial(_start, _function_of(self))


def _start(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    started = function(*args, **kwargs)
    for note in _noting_starts:
        # From Python 3.13 on, `threading` is given something that knows the id.
        note(started if type(started) is int else started.ident)
    return started


_noting_starts: list[Callable[[int], None]] = []

# Errors and logs name the type of what was given to somebody.
_Noting.__name__ = _NotingStart.__name__ = type(len).__name__
_NotingFunction.__name__ = FunctionType.__name__

_OWN = frozenset(("__call__", "__get__", "__reduce__", "__reduce_ex__"))
_function_of: Callable[[Any], Callable[..., Any]] = vars(_Noting)["_function"].__get__
_set_function: Callable[[Any, Callable[..., Any]], None] = vars(_Noting)["_function"].__set__


def watch(note_start: Callable[[int], None] | None = None) -> None:
    """Note from now on what changes this process. Called once, before any code of a user's runs.

    `note_start` is called by whoever has started a thread, with its id.
    """
    standing: dict[Any, _Noting] = {}
    starts = _STARTS if note_start is not None else ((), ())
    if note_start is not None:
        _noting_starts.append(note_start)
    for modules, names in (*_FUNCTIONS, starts):
        for name in names:
            function = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
            if function is None:
                continue
            if function not in standing:
                is_function = isinstance(function, FunctionType)
                kind = _NotingStart if modules is starts[0] else _NotingFunction if is_function else _Noting
                standing[function] = kind(function)
            for module in modules:
                if getattr(module, name, None) is function:
                    setattr(module, name, standing[function])
    for functions in _SETS_OF_FUNCTIONS:
        for function in standing.keys() & functions:
            # They are equal: the new one would not take the place of the old by itself.
            functions.remove(function)
            functions.add(standing[function])
    CHANGES.watch([*map(vars, _MODULES), sys.modules])
