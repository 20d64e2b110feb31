"""What changes a process is noted when it is done, and nobody sees a difference. In a process of its own: it cannot be undone."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import copy
import faulthandler
import functools
import gc
import inspect
import io
import json
import locale
import math
import multiprocessing
import os
import pickle
import pydoc
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import typing
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from scaler_worker.processor.changes import Changes, watch
from scaler_worker.processor.output import OutputCapture
from scaler_worker.processor.process_state import ProcessState
from scaler_worker.processor.streams import TaskStreams

_state: ProcessState

VARIABLES = ("SCALER_TEST_KEPT", "SCALER_TEST_REMOVED")


def _set_up() -> None:
    global _state
    os.environ.update(zip(VARIABLES, ("kept", "removed"), strict=True))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a pool's process has none
    watch()
    _state = ProcessState(TaskStreams(OutputCapture(lambda *_: None)))


def _is_noticed(act: Callable[[], object]) -> tuple[str, bool, str, bool]:
    # Once before: what it imports is noticed too.
    act()
    before = _state.restore() or _state.restore()
    at_rest = _state.may_have_changed()
    act()
    noticed = _state.may_have_changed()
    return before, at_rest, _state.restore() or _state.restore(), noticed


@pytest.fixture(scope="module")
def watched() -> Iterator[Callable[..., Any]]:
    """Runs a function where changes are watched, and returns what it returns."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _set_up) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(60)


# --- what is noticed


def close_one() -> None:
    os.close(os.dup(1))


def close_many() -> None:
    os.closerange(900, 910)


def redirect() -> None:
    os.dup2(1, os.dup(2))


def open_descriptor() -> None:
    with os.fdopen(os.dup(1), "w"):
        pass


def change_folder() -> None:
    os.chdir("/")


def change_folder_by_descriptor() -> None:
    descriptor = os.open("/", os.O_RDONLY)
    os.fchdir(descriptor)


def change_folder_for_a_while() -> None:
    with contextlib.chdir("/"):
        pass


def remove_folder() -> None:
    Path(tempfile.mkdtemp()).rmdir()


def remove_tree() -> None:
    shutil.rmtree(tempfile.mkdtemp())


def set_umask() -> None:
    os.umask(0o777)


def clear_environment() -> None:
    os.environ.clear()


def replace_environment() -> None:
    os.environ = typing.cast("Any", {})  # noqa: B003 - a task does it


def handle_signal() -> None:
    signal.signal(signal.SIGINT, lambda *_: None)


def block_signal() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


def set_timer() -> None:
    signal.setitimer(signal.ITIMER_REAL, 100)


def set_alarm() -> None:
    signal.alarm(100)


def set_watchdog() -> None:
    faulthandler.dump_traceback_later(100)


def lower_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (5, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def lower_limit_of_process() -> None:
    resource.prlimit(0, resource.RLIMIT_FSIZE, (5, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def lower_recursion_limit() -> None:
    sys.setrecursionlimit(100)


def switch_often() -> None:
    sys.setswitchinterval(0.000001)


def trace() -> None:
    sys.settrace(lambda *_: None)


def profile() -> None:
    sys.setprofile(lambda *_: None)


def trace_threads() -> None:
    threading.settrace(lambda *_: None)


def profile_threads() -> None:
    threading.setprofile(lambda *_: None)


def stop_collector() -> None:
    gc.disable()


def set_socket_timeout() -> None:
    socket.setdefaulttimeout(0.001)


def set_locale() -> None:
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")


def replace_builtin() -> None:
    builtins.len = None  # type: ignore[assignment]


def delete_builtin() -> None:
    del builtins.len


def add_builtin() -> None:
    setattr(builtins, f"added_{time.monotonic_ns()}", len)


def patch_clock() -> None:
    time.time = time.perf_counter = typing.cast("Any", None)


def patch_pickle() -> None:
    pickle.dumps = typing.cast("Any", None)


def patch_struct() -> None:
    struct.pack = typing.cast("Any", None)


def patch_socket() -> None:
    socket.socket.send = typing.cast("Any", None)  # type: ignore[method-assign]


def patch_process_id() -> None:
    os.getpid = typing.cast("Any", None)


def replace_streams() -> None:
    sys.stdout = sys.stderr = sys.stdin = typing.cast("Any", None)


def close_stream() -> None:
    sys.stdout.close()


def detach_stream() -> None:
    typing.cast("Any", sys.stdout).detach()


def reconfigure_stream() -> None:
    typing.cast("Any", sys.stderr).reconfigure(encoding="ascii")


def replace_path() -> None:
    sys.path = []


def clear_path() -> None:
    sys.path.clear()


def clear_import_hooks() -> None:
    sys.meta_path.clear()
    sys.path_hooks.clear()


def import_module() -> None:
    name = f"imported_{time.monotonic_ns()}"
    sys.modules[name] = ModuleType(name)


def turn_warnings_into_errors() -> None:
    warnings.simplefilter("error", append=True)
    warnings.filters[:] = [("error", None, Warning, None, 0), *warnings.filters]  # type: ignore[index]


def leave_warnings_caught() -> None:
    warnings.catch_warnings().__enter__()


def leave_loop_running() -> None:
    asyncio._set_running_loop(asyncio.new_event_loop())


CHANGES = [
    close_one,
    close_many,
    redirect,
    open_descriptor,
    change_folder,
    change_folder_by_descriptor,
    change_folder_for_a_while,
    remove_folder,
    remove_tree,
    set_umask,
    clear_environment,
    replace_environment,
    handle_signal,
    block_signal,
    set_timer,
    set_alarm,
    set_watchdog,
    lower_limit,
    lower_limit_of_process,
    lower_recursion_limit,
    switch_often,
    trace,
    profile,
    trace_threads,
    profile_threads,
    stop_collector,
    set_socket_timeout,
    set_locale,
    replace_builtin,
    delete_builtin,
    add_builtin,
    patch_clock,
    patch_pickle,
    patch_struct,
    patch_socket,
    patch_process_id,
    replace_streams,
    close_stream,
    detach_stream,
    reconfigure_stream,
    replace_path,
    clear_path,
    clear_import_hooks,
    import_module,
    turn_warnings_into_errors,
    leave_warnings_caught,
    leave_loop_running,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_a_process_is_noticed(watched: Callable[..., Any], change: Callable[[], None]) -> None:
    assert watched(_is_noticed, change) == ("", False, "", True)


# --- what is not


def compute() -> None:
    sorted(str(number) for number in range(100))
    json.loads(json.dumps({"a": [random.random(), time.time(), os.getpid()]}))
    pickle.loads(pickle.dumps(struct.pack("=Q", 5)))


def use_files() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    os.environ["ADDED"] = str(time.monotonic_ns())


def use_sockets() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.send(b"x")
        right.recv(1)


def use_threads() -> None:
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()


def use_print() -> None:
    print("printed")
    sys.stderr.write("written\n")


def use_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("of no importance", stacklevel=1)


@pytest.mark.parametrize(
    "act", [compute, use_files, use_sockets, use_threads, use_print, use_warnings], ids=lambda act: act.__name__
)
def test_what_every_program_does_costs_no_look(watched: Callable[..., Any], act: Callable[[], None]) -> None:
    assert watched(_is_noticed, act) == ("", False, "", False)


# --- nobody sees a difference


def _frames_of_failure() -> int:
    try:
        os.close(-1)
    except OSError as error:
        return len(traceback.extract_tb(error.__traceback__))
    return 0


class _Hasher(pickle._Pickler):
    """Knows modules and built-in functions by their types, as libraries that compute the hash of a value do."""

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, types.MethodType | types.BuiltinFunctionType):
            owner: Any = value.__self__
            value = (value.__name__, owner.__name__ if type(owner) is type(pickle) else type(owner))
        super().save(value, save_persistent_id)  # type: ignore[misc]


def _hashed(value: Any) -> bytes:
    file = io.BytesIO()
    _Hasher(file, 4).dump(value)
    return file.getvalue()


def _outcome(act: Callable[..., object], *arguments: object) -> str:
    try:
        return repr(act(*arguments))
    except Exception as error:
        return repr(error)


def _describe_functions() -> dict[str, object]:
    kind = functools.singledispatch(lambda function: "other")
    kind.register(types.BuiltinFunctionType, lambda function: "in C")
    kind.register(types.FunctionType, lambda function: "in Python")
    described: dict[str, object] = {}
    for function in (
        os.close,
        os.chdir,
        os.fdopen,
        signal.signal,
        signal.alarm,
        sys.settrace,
        threading.settrace,
        gc.disable,
    ):

        class Holder:
            method: Any = function

        another: Any = len
        described[f"{function.__module__}.{function.__name__}"] = [
            isinstance(function, types.BuiltinFunctionType),
            isinstance(function, types.FunctionType),
            inspect.isbuiltin(function),
            inspect.isfunction(function),
            inspect.isroutine(function),
            inspect.ismethoddescriptor(function),
            inspect.ismethod(Holder().method),
            kind(function),
            function.__class__.__name__,
            type(function).__name__,
            function.__qualname__,
            function.__doc__,
            inspect.getdoc(function),
            inspect.unwrap(function) is function,
            callable(function),
            dir(function),
            _outcome(inspect.signature, function),
            _outcome(inspect.getsourcefile, function),
            _outcome(inspect.getsource, function),
            _outcome(vars, function),
            pydoc.plain(pydoc.render_doc(function)),
            pickle.loads(pickle.dumps(function)) is function,
            copy.copy(function) is copy.deepcopy(function) is function,
            weakref.ref(function)() is function,
            [pickle.dumps(function, protocol) for protocol in range(6)],
            pickle._dumps(function),  # type: ignore[attr-defined]
            cloudpickle.dumps(function),
            _hashed(function),
            functools.wraps(function)(lambda: None).__name__,
            function == function and function != another and len({function, function}) == 1,
            function.__name__ in repr(function),
        ]
    descriptor = os.dup(1)
    os.close(descriptor)
    described["sets"] = [
        len(functions) for functions in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks)
    ]
    described["others"] = [
        repr(os.close),
        Path(f"/proc/self/fd/{descriptor}").exists(),
        os.chdir in os.supports_fd and os.rmdir in os.supports_dir_fd,
        any(function is os.chdir for function in os.supports_fd),
        shutil.rmtree.avoids_symlink_attacks,
        locale._setlocale is sys.modules["_locale"].setlocale,  # type: ignore[attr-defined]
        _outcome(setattr, os.close, "added", 1),
        _outcome(os.close, ""),
    ]
    return described


def _method_that_opens() -> str:
    class Opener:
        fdopen: Any = os.fdopen

        def __index__(self) -> int:
            return 1

    return _outcome(Opener().fdopen, "r")


def _describe_modules() -> list[object]:
    modules = (builtins, os, pickle, struct, sys, time, math)
    return [
        *(type(module) is ModuleType and type(module) is type(pickle) for module in modules),
        *(_outcome(pickle.dumps, module) for module in modules),
        *(_outcome(copy.deepcopy, module) for module in modules),
        *(cloudpickle.dumps(module) for module in modules),
        *map(repr, modules),
        *map(_hashed, (math.sqrt, time.time, os.getpid, sys.getrefcount, len)),
        type(vars(sys)).__name__,
        type(sys.modules).__name__,
    ]


def test_a_function_that_is_watched_is_as_before(watched: Callable[..., Any]) -> None:
    assert watched(_frames_of_failure) == _frames_of_failure() == 1
    assert watched(_describe_functions) == _describe_functions()
    assert watched(_method_that_opens) == _method_that_opens()


def test_a_module_that_is_watched_is_as_before(watched: Callable[..., Any]) -> None:
    assert watched(_describe_modules) == _describe_modules()


# --- what is put back


def _exchange_variables(kept: str, removed: str) -> list[str | None]:
    os.environ[kept] = "changed"
    os.environ["ANOTHER"] = os.environ.pop(removed)
    noticed = _state.may_have_changed()
    _state.restore()
    return [str(noticed), *(os.environ.get(name) for name in (kept, removed, "ANOTHER")), _of_child(removed)]


def _of_child(name: str) -> str:
    return subprocess.run(["/bin/sh", "-c", f"echo ${name}"], capture_output=True, text=True).stdout.strip()


def test_variables_that_were_removed_come_back(watched: Callable[..., Any]) -> None:
    assert watched(_exchange_variables, *VARIABLES) == ["True", "changed", "removed", "removed", "removed"]


def _leave_input(how: str) -> list[object]:
    getattr(sys.stdin, how)()
    noticed = _state.may_have_changed()
    fault = _state.restore() or _state.restore()
    return [
        noticed,
        fault,
        sys.stdin.read(),
        sys.stdin.name,
        sys.stdin.mode,
        sys.stdin.fileno(),
        _state.may_have_changed(),
    ]


@pytest.mark.parametrize("how", ["close", "detach"])
def test_standard_input_is_open_again(watched: Callable[..., Any], how: str) -> None:
    assert watched(_leave_input, how) == [True, "", "", "<stdin>", "r", 0, False]


def _write_below(name: str) -> bool:
    attributes = vars(sys.modules[name])
    attributes["added"] = 1
    noticed = _state.may_have_changed()
    del attributes["added"]
    _state.restore()
    return noticed


@pytest.mark.parametrize("name", ["builtins", "os", "pickle", "struct", "sys", "time"])
def test_what_is_written_below_a_module_is_noticed(watched: Callable[..., Any], name: str) -> None:
    assert watched(_write_below, name)


def test_an_interpreter_that_watches_no_dicts_has_each_task_looked_at() -> None:
    blind, seeing, watched = Changes(), Changes(), {"a": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.implementation, "name", "another")
        blind.watch([watched])
    seeing.watch([watched])
    for changes in (blind, seeing):
        changes.forget()
    assert blind.noted
    assert not seeing.noted
    before = b"".join(seeing.versions)
    watched["a"] = 2
    assert seeing.noted or b"".join(seeing.versions) != before
