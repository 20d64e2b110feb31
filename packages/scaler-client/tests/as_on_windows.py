"""Makes an interpreter look as if it ran on Windows. A program begins with it, before anything of ours is imported.

The standard library and other packages go on as on this system: they are imported before it changes its name, and keep an `os`
of their own. What only POSIX has is not there for whoever comes later.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import signal
import socket
import sys
import types

for name in (
    *("asyncio", "concurrent.futures.process", "ctypes", "logging.handlers", "multiprocessing.pool", "pathlib"),
    *("shutil", "ssl", "subprocess", "tempfile", "capnp", "cloudpickle", "nacl.bindings", "zmq"),
):
    importlib.import_module(name)
for name in ("dask._task_spec", "dask.base", "joblib", "tqdm.auto"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

here = types.SimpleNamespace(**vars(os))
for module in list(sys.modules.values()):
    if module is not sys.modules["__main__"] and getattr(module, "os", None) is os:
        module.os = here  # type: ignore[attr-defined]

for name in ("fcntl", "pwd", "grp", "termios", "resource", "tty", "pty", "syslog", "uvloop"):
    sys.modules[name] = None  # type: ignore[assignment]
ABSENT = {
    os: "fork forkpty register_at_fork getuid geteuid getpgid setsid killpg uname mkfifo sched_getaffinity wait waitid "
    "pidfd_open eventfd memfd_create O_CLOEXEC O_NOFOLLOW",
    select: "poll epoll",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGALRM alarm setitimer pthread_kill pthread_sigmask sigwait",
    socket: "sendmsg recvmsg send_fds recv_fds",
}
for module, names in ABSENT.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

errno.WSAENOTCONN = 10057  # type: ignore[attr-defined]
os.name, sys.platform = "nt", "win32"
