"""Processes of this process's children that outlived them: `daemon()`, `setsid`, a child left behind by one that ended.

A process that is their *subreaper* becomes their parent. So the template can end with nothing left behind, whatever tasks
have started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Container
from pathlib import Path
from time import monotonic

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Become the parent of all descendants whose own parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Return the process ids of all children of this process, which has one thread."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        # Kernels can be built without this file. Then nobody is found, as before.
        return []
    return [int(pid) for pid in text.split()]


def reap(known: Container[int]) -> None:
    """Reap those that have ended, except the children in `known`."""
    for pid in children():
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def kill_all(seconds: float) -> None:
    """Kill and reap all children, and theirs, which become ours; give up after so long."""
    deadline = monotonic() + seconds
    while (left := children()) and monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, as by SIGSTOP. (Debuggers stop processes in another way.)"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "T"
