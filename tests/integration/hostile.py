"""What a task can do to its process. Each function's docstring says what a user may mean by it, or how it happens by accident."""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import decimal
import gc
import io
import locale
import logging
import multiprocessing
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from scaler import current_task


def _raise_instead(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise ZeroDivisionError("replaced by a task")


def replace_standard_functions(seconds: float) -> tuple[int, bool]:
    """As a test of a user's does that goes too far: each function of these modules raises until the task ends."""
    import collections
    import contextlib
    import functools
    import itertools
    import json
    import selectors

    get_pid, monotonic, sleep = os.getpid, time.monotonic, time.sleep
    report, write = current_task().report_progress, sys.stdout.write
    (control,) = (thread for thread in threading.enumerate() if thread.name == "scaler-control")
    modules = (
        *(collections, contextlib, functools, itertools, json, logging, os, select),
        *(selectors, signal, socket, struct, sys, threading, time),
    )
    before = [(vars(module), dict(vars(module))) for module in modules]
    for found, values in before:
        found.update((name, _raise_instead) for name, value in values.items() if callable(value) and name[:2] != "__")
    try:
        until = monotonic() + seconds
        while monotonic() < until:
            report(1.0)
            write("printed meanwhile\n")
            sleep(0.002)  # sleeps: the control thread has its turns meanwhile
    finally:
        for found, values in before:
            found.update(values)
    return get_pid(), control.is_alive()


def innocent() -> dict[str, Any]:
    """Use what every program uses; return what only an undisturbed process returns."""
    print("an innocent task prints")
    logging.getLogger("innocent").warning("and logs")
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(len([1, 2])))
    thread.start()
    thread.join(10)
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 200_000)
        size = file.tell()
    left, right = socket.socketpair()
    with left, right:
        threading.Timer(0.02, left.send, (b"late",)).start()
        received = right.recv(4)
    warnings.warn("of no importance", UserWarning, stacklevel=1)
    child = subprocess.run([sys.executable, "-S", "-c", "import sys; sys.exit(7)"], check=False, timeout=30)

    async def loop() -> int:
        await asyncio.sleep(0)
        return 5

    def deep(levels: int) -> int:
        return deep(levels - 1) + 1 if levels else 0

    return {
        "thread": answers,
        "size": size,
        "received": received,
        "child": child.returncode,
        "loop": asyncio.run(loop()),
        "depth": deep(500),
        "third": str(decimal.Decimal(1) / 3),
        "number": f"{1.5:n}",
        "folder": os.path.isdir(os.getcwd()),
        "path": bool(os.environ.get("PATH")),
        "list": bytes(bytearray(20_000_000))[:1],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "traced": sys.gettrace() or sys.getprofile(),
        "stdin": sys.stdin.read(),
        "stdout": sys.stdout.fileno(),
        "umask": os.umask(0o022) == 0o022,
        "import": bool(__import__("xml.dom.minidom")),
        "collects": gc.isenabled(),
    }


INNOCENT = {
    "thread": [2],
    "size": 200_000,
    "received": b"late",
    "child": 7,
    "loop": 5,
    "depth": 500,
    "third": "0.3333333333333333333333333333",
    "number": "1.5",
    "folder": True,
    "path": True,
    "list": b"\0",
    "mask": set(),
    "traced": None,
    "stdin": "",
    "stdout": 1,
    "umask": True,
    "import": True,
    "collects": True,
}


def do_at_last(task: Callable[[], Any] | None) -> Any:
    """Return at once, or do something hostile, which is as quick."""
    return None if task is None else task()


# --- exceptions, arguments and results that misbehave


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int = 0


class SetattrError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError("nothing can be set")


class ReduceError(Exception):
    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt


class TextError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class TracebackError(Exception):
    @property
    def __traceback__(self) -> Any:
        raise OSError("no traceback")

    @__traceback__.setter
    def __traceback__(self, value: object) -> None:
        raise OSError("no traceback")


class EvilMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise ZeroDivisionError(name)


class MetaError(Exception, metaclass=EvilMeta):
    pass


class ExitingTextError(Exception):
    def __str__(self) -> str:
        os._exit(5)


def raise_frozen() -> None:
    """A dataclass exception that is frozen."""
    raise FrozenError(3)


def raise_without_setattr() -> None:
    """An exception that lets nothing be set."""
    raise SetattrError("x")


def raise_unpicklable() -> None:
    """An exception whose `__reduce__` raises KeyboardInterrupt."""
    raise ReduceError("x")


def raise_unprintable() -> None:
    """An exception whose `__str__` and `__repr__` raise SystemExit."""
    raise TextError("x")


def raise_without_traceback() -> None:
    """An exception whose `__traceback__` raises."""
    raise TracebackError("x")


def raise_with_metaclass() -> None:
    """An exception whose class has no attributes anybody can read."""
    raise MetaError("x")


def die_while_described() -> None:
    """An exception whose `__str__` ends the process."""
    raise ExitingTextError("x")


class Value:
    """A result that does something when it is pickled."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return act(self.what)


def act(what: str) -> Any:
    if what == "fork":
        return str, ("parent" if _fork_pid() else "child",)
    if what == "exit":
        os._exit(6)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "system exit":
        raise SystemExit(9)
    if what == "generator exit":
        raise GeneratorExit
    if what == "never":
        while True:
            time.sleep(0.01)  # sleeps: it never ends
    raise AssertionError(what)


def return_that_exits() -> Value:
    """A result that ends the process while it is pickled."""
    return Value("exit")


def return_that_kills() -> Value:
    """A result that kills the process while it is pickled."""
    return Value("kill")


def return_that_interrupts() -> Value:
    """A result whose pickling raises KeyboardInterrupt."""
    return Value("interrupt")


def return_that_leaves() -> Value:
    """A result whose pickling raises SystemExit."""
    return Value("system exit")


def return_that_closes() -> Value:
    """A result whose pickling raises GeneratorExit."""
    return Value("generator exit")


def return_that_forks() -> Any:
    """A result that forks while it is pickled."""
    return Value("fork")


def append_line(path: str, _: Any) -> int:
    with Path(path).open("a") as file:
        file.write("once\n")
    return len(Path(path).read_text().splitlines())


def return_that_never_comes() -> Value:
    """A result whose pickling never ends: the time limit of tasks covers it."""
    return Value("never")


class Restored:
    """An argument that does something when it is unpickled."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return act, (self.what,)


class Deleted:
    """A value that does something when it is deleted."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __del__(self) -> None:
        if self.what == "exit":
            os._exit(7)
        raise ValueError("raised while deleted")


def hold_deleted_that_raises() -> int:
    """A local value whose `__del__` raises."""
    kept = Deleted("raise")
    return len([kept])


def return_deleted_that_raises() -> Deleted:
    """A result whose `__del__` raises."""
    return Deleted("raise")


class DeletedAfterwards(Deleted):
    def __reduce__(self) -> Any:
        return str, ()


def return_deleted_that_exits() -> Any:
    """A result that ends the process when it is deleted, once it is pickled."""
    return DeletedAfterwards("exit")


def spin_without_end() -> None:
    """A task that catches every exception and never ends."""
    while True:
        try:
            time.sleep(0.05)  # sleeps: a task that never ends
        except BaseException:
            continue


# --- the process's end


def exit_at_once() -> None:
    """`os._exit`."""
    os._exit(0)


def abort() -> None:
    """`abort()`, as failed assertions of C libraries call it."""
    os.abort()


def kill_self() -> None:
    """SIGKILL, as the kernel sends it where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop_self() -> None:
    """SIGSTOP: the process stands still."""
    os.kill(os.getpid(), signal.SIGSTOP)


def terminate_group() -> None:
    """SIGTERM to the process's group."""
    os.killpg(0, signal.SIGTERM)


def terminate_parent() -> str:
    """SIGTERM and SIGINT to the parent, as one who thinks that is a shell."""
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getppid(), signal.SIGINT)
    return "done"


def interrupt_self() -> None:
    """SIGINT to itself: KeyboardInterrupt, in the task."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)  # sleeps: the interrupt ends it


def overflow_stack() -> int:
    """A C stack overflow, where the recursion limit was raised.

    In a thread with a small stack: from Python 3.12 on, another limit that nobody can raise ends recursion through C. It is
    meant for stacks of the usual size.
    """
    sys.setrecursionlimit(10**9)
    threading.stack_size(64 * 1024)
    thread = threading.Thread(target=repr, args=(Nested(),))
    thread.start()
    thread.join()
    return 0


class Nested:
    def __repr__(self) -> str:
        return repr([Nested()])


def read_nowhere() -> bytes:
    """A read of address 0, as bugs of C extensions make it."""
    return ctypes.string_at(0)


def exit_in_thread() -> str:
    """`sys.exit` in a thread ends the thread only."""
    thread = threading.Thread(target=sys.exit, args=(5,))
    thread.start()
    thread.join()
    return "done"


# --- descriptors


def close_all_but_standard() -> str:
    """What daemons do: close everything from 3 to 1024."""
    os.closerange(3, 1024)
    return "done"


def close_all() -> str:
    """Close everything from 0 to the limit of the process."""
    os.closerange(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return "done"


def close_standard() -> str:
    """Close standard input, output and error; print."""
    for descriptor in range(3):
        os.close(descriptor)
    print("nobody hears this")
    print("nor this", file=sys.stderr)
    return "done"


def redirect_standard() -> str:
    """Redirect standard output and error to /dev/null, as a way to silence a C library."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    return "done"


def redirect_everything() -> str:
    """`dup2` a socket over every descriptor there is."""
    left, right = socket.socketpair()
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (left.fileno(), right.fileno()):
            os.dup2(left.fileno(), int(name))
    right.detach()
    return "done"


def write_garbage() -> str:
    """Write to every socket there is, as one who takes a wrong descriptor for one's own."""
    for name in os.listdir("/proc/self/fd"):
        try:
            is_socket = os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
            for kind in range(64) if is_socket else ():
                os.write(int(name), bytes([kind, 0]) + b"garbage")
        except OSError:
            continue
    return "done"


def write_without_end() -> str:
    """Write parts of a record to every socket, and never the last: whoever keeps them keeps more and more."""
    part = bytes((34, 1)).ljust(64 * 1024, b"x")
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                for _ in range(100_000):
                    if not select.select([], [found], [], 1.0)[1]:
                        break
                    found.send(part, socket.MSG_DONTWAIT)
        except OSError:
            continue
    return "done"


def close_objects() -> str:
    """Close every socket and file the collector knows."""
    for found in gc.get_objects():
        if type(found) is socket.socket:
            found.close()
    return "done"


def replace_stdout() -> str:
    """Leave another object in the place of `sys.stdout`."""
    sys.stdout = io.StringIO()
    return "done"


def no_streams() -> str:
    """`sys.stdout = None`, as in programs without a console."""
    sys.stdout = sys.stderr = sys.stdin = None
    return "done"


def close_streams() -> str:
    """`sys.stdout.close()`."""
    sys.stdout.close()
    sys.stderr.close()
    return "done"


def close_input() -> str:
    """`sys.stdin.close()`, as daemons do."""
    sys.stdin.close()
    return "done"


def detach_input() -> str:
    """`sys.stdin.detach()`, as one does to read bytes."""
    typing.cast("io.TextIOWrapper", sys.stdin).detach()
    return "done"


def detach_streams() -> str:
    """`sys.stdout.detach()`, as one does to write bytes."""
    typing.cast("io.TextIOWrapper", sys.stdout).detach()
    return "done"


def reconfigure_streams() -> str:
    """Leave an encoding that has no umlauts."""
    typing.cast("io.TextIOWrapper", sys.stdout).reconfigure(encoding="ascii")
    return "done"


def read_stdin() -> str:
    """Wait for somebody to type: there is nobody."""
    try:
        return input("name? ")
    except EOFError:
        return "nobody"


# --- the interpreter


def patch_clock() -> str:
    """A patched clock, as tests and simulations have it."""
    time.perf_counter = time.time = time.monotonic = lambda: 1 / 0
    return "done"


def patch_clock_below() -> str:
    """The same, not by an assignment to an attribute."""
    vars(time).update(dict.fromkeys(("perf_counter", "time", "monotonic"), lambda: 1 / 0))
    return "done"


def patch_ids() -> str:
    """`os.getpid` and `os._exit` replaced."""
    os.getpid = lambda: -1
    os._exit = lambda status: None  # type: ignore[assignment, return-value]
    return "done"


def patch_pickle() -> str:
    """`pickle.dumps` and `pickle.loads` replaced."""
    pickle.dumps = pickle.loads = lambda *args, **kwargs: 1 / 0  # type: ignore[assignment]
    return "done"


def patch_struct() -> str:
    """`struct` without functions."""
    struct.pack = struct.unpack = struct.Struct = None  # type: ignore[assignment, misc]
    return "done"


def patch_socket() -> str:
    """Methods of the class of sockets replaced, as gevent does."""
    socket.socket.send = socket.socket.recv = None  # type: ignore[assignment]
    return "done"


def spoil_len() -> str:
    """A built-in function is gone."""
    builtins.len = None  # type: ignore[assignment]
    return "done"


def spoil_builtins() -> str:
    """All built-in functions are gone."""
    for name in list(vars(builtins)):
        if not name.startswith("_"):
            setattr(builtins, name, None)
    return "done"


def lower_recursion_limit() -> str:
    """A recursion limit that hardly anything can run with."""
    sys.setrecursionlimit(60)
    return "done"


def clear_modules() -> str:
    """`sys.modules.clear()`."""
    sys.modules.clear()
    return "done"


def clear_path() -> str:
    """`sys.path` and the import hooks are emptied."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    return "done"


def disable_collector() -> str:
    """`gc.disable()`, and a huge threshold."""
    gc.disable()
    return "done"


def trace_raising() -> str:
    """A trace function that raises is left behind."""

    def trace(frame: Any, event: str, argument: Any) -> Any:
        raise RuntimeError("traced")

    sys.settrace(trace)
    return "done"


def profile_left() -> str:
    """A profile function is left behind."""
    sys.setprofile(lambda frame, event, argument: None)
    threading.setprofile(lambda frame, event, argument: None)
    return "done"


def profile_raising() -> str:
    """A profile function that raises is left behind."""

    def profile(frame: Any, event: str, argument: Any) -> Any:
        if event == "c_call":
            raise RuntimeError("profiled")

    sys.setprofile(profile)
    return "done"


def spoil_hooks() -> str:
    """Hooks for uncaught exceptions that raise."""
    sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *args: 1 / 0  # type: ignore[assignment]
    threading.Thread(target=lambda: 1 / 0).start()
    return "done"


def raise_in_main_thread() -> str:
    """An exception is set for the main thread from another one, after the task."""
    main = threading.main_thread().ident
    assert main is not None

    def later() -> None:
        time.sleep(0.02)  # sleeps: the task has ended by then, which nobody here is told
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt))

    threading.Thread(target=later).start()
    return "done"


def raise_in_all_threads() -> str:
    """An exception is set for every other thread."""
    for ident in list(sys._current_frames()):
        if ident != threading.get_ident():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
    return "done"


def error_filters() -> str:
    """Warnings are errors from now on."""
    warnings.simplefilter("error")
    return "done"


def decimal_context() -> str:
    """Two digits are enough."""
    decimal.getcontext().prec = 2
    return "done"


def set_locale() -> str:
    """Another locale, where there is one."""
    for name in locale.locale_alias.values():
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        break
    return "done"


def socket_timeout() -> str:
    """Sockets give up at once."""
    socket.setdefaulttimeout(0.0001)
    return "done"


def running_loop() -> str:
    """An event loop is left running in a thread, and one is said to run in this one."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio._set_running_loop(loop)
    return "done"


def spoil_logging() -> str:
    """Handlers that raise, and no handlers of others."""
    logging.raiseExceptions = False
    logging.basicConfig(force=True, stream=io.StringIO())
    logging.shutdown()
    return "done"


def exit_handlers() -> str:
    """Exit handlers that raise."""
    import atexit

    atexit.register(lambda: 1 / 0)
    return "done"


# --- the system


def handle_signals() -> str:
    """Handlers for every signal, and SIGCHLD ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, lambda *_: 1 / 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    return "done"


def block_signals() -> str:
    """All signals are blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return "done"


def leave_alarm() -> str:
    """An alarm that nobody takes back: it ends a process by default."""
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return "done"


def leave_raising_alarm() -> str:
    """The usual recipe for a time limit, with the alarm left armed."""
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    return "done"


def leave_faulthandler() -> str:
    """A watchdog that ends the process."""
    import faulthandler

    faulthandler.dump_traceback_later(0.05, exit=True)
    return "done"


def removed_folder() -> str:
    """The working directory is one that is gone."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()
    return "done"


def clear_environment() -> str:
    """`os.environ.clear()`."""
    os.environ.clear()
    return "done"


def exchange_variables() -> str:
    """Remove a variable and add another."""
    os.environ["PATH_BEFORE"] = os.environ.pop("PATH")
    return "done"


def strict_umask() -> str:
    """Nobody may read new files."""
    os.umask(0o777)
    return "done"


def limit(name: str, value: int, hard: bool = False) -> str:
    """A limit of resources is lowered."""
    number = getattr(resource, f"RLIMIT_{name}")
    resource.setrlimit(number, (value, value if hard else resource.getrlimit(number)[1]))
    return "done"


def limit_memory() -> str:
    """No memory beyond what there is."""
    return limit("AS", 1024)


def limit_data() -> str:
    """No more data, however it is asked for."""
    return limit("DATA", 1024)


def limit_memory_for_good() -> str:
    """No memory, and no way back for an ordinary user."""
    return limit("AS", 64 * 1024 * 1024, hard=True)


def limit_files() -> str:
    """No new descriptors."""
    return limit("NOFILE", 3)


def limit_file_size() -> str:
    """Files stay empty."""
    return limit("FSIZE", 0)


def limit_time() -> str:
    """No more than a second of processor time."""
    return limit("CPU", 1)


def use_up_time() -> None:
    """A second of processor time, and more than that used."""
    limit("CPU", 1)
    while True:
        pass


# --- threads and processes left behind


def leave_daemon_thread() -> str:
    """A daemon thread that goes on, prints and logs."""

    def go_on() -> None:
        while True:
            print("still here")
            logging.getLogger("thread").info("still here")
            time.sleep(0.01)  # sleeps: a thread that goes on beside later tasks

    threading.Thread(target=go_on, daemon=True).start()
    return "done"


def leave_thread() -> str:
    """A thread that is no daemon, and waits for ever."""
    threading.Thread(target=threading.Event().wait).start()
    return "done"


def leave_raising_thread() -> str:
    """A thread that raises after the task."""

    def later() -> None:
        time.sleep(0.01)  # sleeps: the task has ended by then, which nobody here is told
        raise ValueError("in a thread left behind")

    threading.Thread(target=later).start()
    return "done"


def leave_exiting_thread() -> str:
    """A thread that ends the process after the task."""
    threading.Timer(0.03, os._exit, (8,)).start()
    return "done"


def leave_lock() -> str:
    """A thread of the task's holds a lock of the task's."""
    lock = threading.Lock()
    taken = threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            threading.Event().wait()

    threading.Thread(target=hold, daemon=True).start()
    taken.wait()
    return "done"


def leave_child() -> str:
    """A child process that sleeps."""
    subprocess.Popen(["sleep", "1000"])
    return "done"


def leave_session() -> str:
    """A child process in a session of its own."""
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return "done"


def leave_daemon() -> str:
    """A daemon, forked twice."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "1000"])
        os._exit(0)
    os.wait()
    return "done"


def change_group() -> str:
    """The process moves to its parent's group, out of reach of a signal to its own."""
    os.setpgid(0, os.getpgid(os.getppid()))
    return "done"


def change_group_and_spin() -> None:
    """The process moves to another group and never ends."""
    change_group()
    spin_without_end()


# --- forks


def fork_and_return() -> str:
    """The child returns a result."""
    return "parent" if _fork_pid() else "child"


def _fork_pid() -> int:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return pid


def fork_and_raise() -> str:
    """The child raises."""
    if not _fork_pid():
        raise ValueError("in the child")
    return "parent"


def fork_and_exit() -> str:
    """The child calls `sys.exit`."""
    pid = os.fork()
    if not pid:
        sys.exit(3)
    return f"parent {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


def fork_and_outlive() -> str:
    """The child returns after its parent has."""
    if os.fork():
        return "parent"
    time.sleep(0.05)  # sleeps: the parent has returned by then
    print("printed by the child")
    return "child"


def fork_and_exit_hard() -> str:
    """The child ends as a child should."""
    pid = os.fork()
    if not pid:
        os._exit(4)
    return f"parent {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"


def fork_in_thread() -> str:
    """A thread forks, and the child's thread ends."""
    results: list[int] = []

    def run() -> None:
        pid = os.fork()
        if pid:
            results.append(os.waitpid(pid, 0)[1])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return f"parent {results}"


def fork_and_print() -> str:
    """Both print, a lot."""
    pid = os.fork()
    for number in range(200):
        print("parent" if pid else "child", number, "x" * 500)
    if pid:
        os.waitpid(pid, 0)
    return "parent"


def _square(value: int) -> int:
    print("in a pool", value)
    return value * value


def use_multiprocessing() -> list[int]:
    """A pool of forked processes, and a queue."""
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        squares = pool.map(_square, range(10))
    queue = context.Queue()
    process = context.Process(target=queue.put, args=(5,))
    process.start()
    squares.append(queue.get(timeout=20))
    process.join()
    return squares


def use_spawn() -> list[int]:
    """A pool of spawned processes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


def fork_item(value: int) -> tuple[int, bool]:
    """An item of a map forks, and the child returns."""
    pid = os.getpid()
    if value == 3:
        _fork_pid()
    return value, os.getpid() == pid


# --- roads


def process_id() -> int:
    return os.getpid()


def raise_between_tasks() -> int:
    """Have a thread set an exception for the main thread, once that has left this task."""
    main = threading.main_thread().ident
    assert main is not None
    assert main is not None

    def has_left() -> bool:
        frame = sys._current_frames()[main]
        while frame is not None:
            if frame.f_code is raise_between_tasks.__code__:
                return False
            frame = frame.f_back  # type: ignore[assignment]
        return True

    def later() -> None:
        while not has_left():
            time.sleep(0.001)  # sleeps: a thread that polls for the task's end
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt))

    threading.Thread(target=later).start()
    return os.getpid()


def raise_for_three(value: int) -> int:
    if value == 3:
        raise FrozenError(value)
    return value


def return_that_raises_for_three(value: int) -> Any:
    return Value("generator exit") if value == 3 else value


def exit_for_three(value: int) -> int:
    if value == 3:
        os._exit(9)
    return value


def stop_if(stop: bool) -> None:
    if stop:
        os.kill(os.getpid(), signal.SIGSTOP)


def stop_parent_and_exit() -> None:
    """SIGSTOP to the parent, then the end."""
    os.kill(os.getppid(), signal.SIGSTOP)
    os._exit(3)


# --- streams and logs


def describe_streams() -> list[dict[str, Any]]:
    names = ("name", "mode", "encoding", "errors", "newlines", "closed")
    calls = ("fileno", "isatty", "readable", "writable")
    return [
        {name: getattr(stream, name) for name in names}
        | {name: getattr(stream, name)() for name in calls}
        | {"type": type(stream).__name__, "buffer": [stream.buffer.name, stream.buffer.mode, stream.buffer.fileno()]}
        for stream in (sys.stdout, sys.stderr)
    ]


def write_in_all_ways() -> str:
    sys.stdout.buffer.write(b"written as bytes\n")
    sys.stdout.writelines(["first of lines\n", "second of lines\n"])
    typing.cast("io.TextIOWrapper", sys.stdout).reconfigure(encoding="latin-1")
    print("in Latin-1: äöü")
    print("the end")
    return "done"


def configure_logging() -> list[int]:
    """Handlers of the root logger before, after, and after once more."""
    root = logging.getLogger()
    counts = [len(root.handlers)]
    for _ in range(2):
        logging.basicConfig(format="format of the task's: %(message)s", level=logging.INFO)
        counts.append(len(root.handlers))
    logging.getLogger("some.library").info("a record of the task's")
    return counts


class Unprintable:
    def __str__(self) -> str:
        raise KeyError("no text")


def log_what_cannot_be_printed() -> str:
    logging.getLogger("some.library").error("a %s", Unprintable())
    print("the end")
    return "done"
