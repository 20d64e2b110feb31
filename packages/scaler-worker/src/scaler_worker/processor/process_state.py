"""What a task may have changed of its process that the next one must not find changed.

Each task should find the process as the preload left it, as far as that can be had for some microseconds. What would break others
is put back; where that is impossible, the process has to be replaced. What breaks nobody stays, as in every pool of processes:
imported modules, most patched attributes, variables, random state, environment variables that were added or have another value.
Environment variables that were removed come back.

A look at all of this takes some ten microseconds. After a quick task a glance tells whether it may be spared
(`may_have_changed`): `changes` says whether the task has called or set what changes a process, the rest is compared.

Everything used here is bound when this module is imported, so that a task that patches a module does not reach it.
"""

from __future__ import annotations

import builtins
import os
import pickle
import resource
import socket
import struct
import sys
import threading
import time
import warnings
from _locale import LC_ALL, setlocale
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_SETMASK,
    getsignal,
    pthread_sigmask,
    setitimer,
    signal,
)
from _socket import getdefaulttimeout, setdefaulttimeout
from faulthandler import cancel_dump_traceback_later
from gc import enable, isenabled
from os import chdir, getcwd, umask
from resource import RLIM_INFINITY, getrlimit, setrlimit
from signal import ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, SIGKILL, SIGSTOP, getitimer, valid_signals
from sys import getprofile, getrecursionlimit, getswitchinterval, gettrace, setprofile, settrace
from typing import Any

from scaler_worker.processor.changes import CHANGES
from scaler_worker.processor.descriptors import DescriptorGuard
from scaler_worker.processor.sampler import SWITCH_SECONDS, USUAL_SWITCH_SECONDS
from scaler_worker.processor.streams import TaskStreams

_LIMITS = tuple(
    getattr(resource, f"RLIMIT_{name}") for name in ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
)
_TIMERS = (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF)
_SIGNALS = tuple(number for number in valid_signals() if number not in (SIGKILL, SIGSTOP))
_NEEDED_FUNCTIONS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (os, ("getpid", "_exit")),
    (pickle, ("dumps", "loads", "Pickler", "Unpickler")),
    (socket.socket, ("send", "recv")),
    (struct, ("Struct", "calcsize", "pack", "pack_into", "unpack", "unpack_from")),
    (time, ("monotonic", "perf_counter", "process_time", "time", "time_ns")),
)
"""What neither a processor nor any program can do without, and nobody replaces for more than a test of theirs."""

_NEEDED_MODULES = ("builtins", "sys", "os", "pickle", "threading", __name__)


class ProcessState:
    """Made once, after the preload; used by the main thread, between tasks."""

    def __init__(self, streams: TaskStreams) -> None:
        self._streams = streams
        self._descriptors = DescriptorGuard()
        self._recursion_limit = getrecursionlimit()
        interval = getswitchinterval()
        self.switch_interval = interval if interval != SWITCH_SECONDS else USUAL_SWITCH_SECONDS
        """Each task begins with this, unless a profile is taken."""
        self.trace, self.profile = gettrace(), getprofile()
        self._thread_trace, self._thread_profile = threading.gettrace(), threading.getprofile()
        self._collects = isenabled()
        self._limits = [(limit, getrlimit(limit)[0]) for limit in _LIMITS]
        self._timers = [timer for timer in _TIMERS if getitimer(timer)[0] == 0]
        self._handlers = [getsignal(number) for number in _SIGNALS]
        self._mask = pthread_sigmask(SIG_BLOCK, ())
        self._folder = _folder()
        self._umask = umask(0o077)
        umask(self._umask)
        self._environment = os.environ
        self._variables = dict(os.environ)
        self._variable_names = set(_encoded(os.environ))
        self._modules = sys.modules
        self._import_lists = {name: list(getattr(sys, name)) for name in ("path", "meta_path", "path_hooks")}
        self._filters = list(warnings.filters)
        self._socket_timeout = getdefaulttimeout()
        self._locale = setlocale(LC_ALL, None)
        self._builtins = dict(vars(builtins))
        self._functions = [(owner, name, getattr(owner, name)) for owner, names in _NEEDED_FUNCTIONS for name in names]
        self._versions_before = b""
        self._lists: list[Any] = []
        self._lists_before: list[Any] = []
        self._filter_list: Any = None
        self._socket_attributes = vars(socket.socket)
        self._socket_attribute_count = 0
        self._loops: Any = None
        self._remember()

    def may_have_changed(self) -> bool:
        """Whether a quick task has done what `restore` has to look for. Takes about 0.3 µs."""
        return (
            CHANGES.noted
            or b"".join(CHANGES.versions) != self._versions_before
            or self._lists != self._lists_before
            or warnings.filters is not self._filter_list
            or len(self._socket_attributes) != self._socket_attribute_count
            or (self._loops is not None and self._loops._get_running_loop() is not None)
        )

    def _remember(self) -> None:
        """What there is now is what `may_have_changed` compares with."""
        self._filter_list = warnings.filters
        self._lists = [*(getattr(sys, name) for name in self._import_lists), self._filter_list]
        self._lists_before = [*self._import_lists.values(), self._filters]
        self._socket_attribute_count = len(self._socket_attributes)
        self._loops = self._modules.get("_asyncio")

    def restore(self) -> str:
        """Put back what can be. Return why the process must be replaced, as the end of a sentence, or nothing. Never raises."""
        try:
            # Before the look: what threads do meanwhile is looked for after the next task.
            CHANGES.forget()
            self._versions_before = b"".join(CHANGES.versions)
            self._restore_interpreter()
            self._restore_signals()
            fault = self._restore_system()
            self._remember()
            return fault
        except BaseException as error:
            return f"a task left it in a state that cannot be put back ({type(error).__name__})"

    def _restore_interpreter(self) -> None:
        settrace(self.trace)
        setprofile(self.profile)
        if vars(builtins) != self._builtins:
            self._restore_builtins()
        for owner, name, function in self._functions:
            if getattr(owner, name, None) is not function:
                _put_back(owner, name, function)
        if getrecursionlimit() < self._recursion_limit:
            # A higher one stays: modules that need it set it when they are imported, once.
            sys.setrecursionlimit(self._recursion_limit)
        if getswitchinterval() not in (self.switch_interval, SWITCH_SECONDS):
            sys.setswitchinterval(self.switch_interval)
        if self._collects and not isenabled():
            enable()
        self._streams.restore()
        for name, before in self._import_lists.items():
            if getattr(sys, name, None) != before:
                self._import_lists[name] = _with_missing(name, before)
        if warnings.filters != self._filters:
            # A warning is not to fail a task of somebody else's. Filters that imported modules have set stay.
            kept = [entry for entry in warnings.filters if entry[0] != "error" or entry in self._filters]
            warnings.filters[:] = kept  # type: ignore[index]
            self._filters = list(warnings.filters)
        if threading.gettrace() is not self._thread_trace:
            threading.settrace(self._thread_trace)
        if threading.getprofile() is not self._thread_profile:
            threading.setprofile(self._thread_profile)
        loops: Any = sys.modules.get("_asyncio")
        if loops is not None and loops._get_running_loop() is not None:
            # Without this nobody could run a loop in this thread any more.
            loops._set_running_loop(None)

    def _restore_builtins(self) -> None:
        """Put back those that are gone or cannot be called any more. Functions that replace them stay."""
        now = vars(builtins)
        for name, value in self._builtins.items():
            found = now.get(name)
            if found is not value and callable(value) and not callable(found):
                now[name] = value
        self._builtins = dict(now)

    def _restore_signals(self) -> None:
        if pthread_sigmask(SIG_BLOCK, ()) != self._mask:
            pthread_sigmask(SIG_SETMASK, self._mask)
        for timer in self._timers:
            setitimer(timer, 0)
        cancel_dump_traceback_later()
        if list(map(getsignal, _SIGNALS)) != self._handlers:
            for number, handler in zip(_SIGNALS, self._handlers, strict=True):
                if getsignal(number) is not handler and handler is not None:
                    signal(number, handler)

    def _restore_system(self) -> str:
        umask(self._umask)
        if self._folder and _folder() != self._folder:
            chdir(self._folder)
        if os.environ is not self._environment:
            os.environ = self._environment  # noqa: B003 - it is the object that was there before
        if not _encoded(self._environment).keys() >= self._variable_names:
            for name, value in self._variables.items():
                self._environment.setdefault(name, value)
        if getdefaulttimeout() != self._socket_timeout:
            setdefaulttimeout(self._socket_timeout)
        if setlocale(LC_ALL, None) != self._locale:
            setlocale(LC_ALL, self._locale)
        for limit, before in self._limits:
            soft, hard = getrlimit(limit)
            if soft != before and _is_lower(soft, before):
                if _is_lower(hard, before):
                    return "a task lowered a limit of it for good"
                setrlimit(limit, (before, hard))
        if sys.modules is not self._modules or not all(name in self._modules for name in _NEEDED_MODULES):
            return "a task removed modules that were imported"
        fault = self._descriptors.restore()
        if not fault:
            # Behind the descriptors: it needs the first.
            self._streams.restore_input()
        return fault


def _encoded(environment: Any) -> dict[bytes, bytes]:
    """Return what is below `os.environ`: to ask that itself would decode each variable each time."""
    variables: dict[bytes, bytes] = environment._data
    return variables


def _folder() -> str:
    try:
        return getcwd()
    except OSError:
        return ""


def _put_back(owner: Any, name: str, function: Any) -> None:
    if name in vars(owner):
        delattr(owner, name)
    # A class may inherit it.
    if getattr(owner, name, None) is not function:
        setattr(owner, name, function)


def _with_missing(name: str, before: list[Any]) -> list[Any]:
    """Add to a list of `sys` what it had and has not any more, and return a copy of it. What was added stays."""
    found = getattr(sys, name, None)
    if not isinstance(found, list):
        found = []
        setattr(sys, name, found)
    found += [entry for entry in before if entry not in found]
    return list(found)


def _is_lower(limit: int, other: int) -> bool:
    return limit != RLIM_INFINITY and (other == RLIM_INFINITY or limit < other)
