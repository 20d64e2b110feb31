"""Notices that a task changes its process at the moment it does so.

To look at all that a task may have changed (`process_state`) takes longer than a quick task does. So the process says by itself
when it is changed, and a task that has changed nothing costs the glance at one flag and a few lengths:

- The functions by which programs change their process note that they are called. Neither tracebacks nor pickles show the
  difference: a `_Noting` is called as the function it stands for, without a frame of its own.
- The modules whose attributes no program can do without have a class that notes when one is set or deleted. To read one takes
  ten nanoseconds more than it did.

What C code changes by itself, or Python code by `ctypes` or by writing to a module's `__dict__`, is noted by nobody. It is looked
for after a task that was slow, has failed or was the first of its function, and a hundred times a second.

What the processor needs of all this for itself is bound before `watch` is called, and so is not noted.
"""

from __future__ import annotations

import builtins
import faulthandler
import functools
import gc
import importlib
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
from types import ModuleType
from typing import Any

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

_MODULES = (builtins, os, pickle, struct, sys, time)
_SETS_OF_FUNCTIONS = (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks)


class Changes:
    """What has been noted."""

    __slots__ = ("noted",)

    def __init__(self) -> None:
        self.noted = True
        """Whether anything was since this was set to False. As long as nothing is watched, nobody can say."""


CHANGES = Changes()


class _Noting:
    """Stands for a function, and notes that it is called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    @property
    def __call__(self) -> Callable[..., Any]:
        CHANGES.noted = True
        return self._function

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)

    def __repr__(self) -> str:
        return repr(self._function)

    def __reduce__(self) -> str:
        return self._function.__qualname__


class _NotingModule(ModuleType):
    """A module that notes when an attribute of it is set or deleted."""

    def __setattr__(self, name: str, value: Any) -> None:
        CHANGES.noted = True
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        CHANGES.noted = True
        super().__delattr__(name)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        # Those who pickle modules know them by their type, which is another one here.
        return importlib.import_module, (self.__name__,)


def watch() -> None:
    """Note from now on what changes this process. Called once, before any code of a user's runs."""
    for modules, names in _FUNCTIONS:
        for name in names:
            function = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
            if function is None:
                continue
            noting = _Noting(function)
            for module in modules:
                if getattr(module, name, None) is function:
                    setattr(module, name, noting)
            for functions in _SETS_OF_FUNCTIONS:
                if function in functions:
                    functions.add(noting)
    for module in _MODULES:
        module.__class__ = _NotingModule
