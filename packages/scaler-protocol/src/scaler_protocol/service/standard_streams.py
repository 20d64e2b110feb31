"""Makes standard streams reliable, however a process was started. This module must stay light.

A process may start with some of its first three descriptors closed (`2>&-`, a daemon, a GUI). The next file or socket then gets
that number, and text for stderr is written there. Python itself has no `sys.stderr` then.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys
from typing import IO

FIRST_FREE = 3
"""The first descriptor that is no standard stream."""

_NAMES = ("stdin", "stdout", "stderr")


def ensure_standard_streams() -> None:
    """Replace closed standard streams by the null device, and let no stream raise because of its encoding.

    Call it before the process opens anything.
    """
    for number, name in enumerate(_NAMES):
        if not _is_open(number):
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        stream = getattr(sys, name)
        if stream is None:
            mode = "w" if number else "r"
            opened = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 (stays open)
            setattr(sys, name, opened)
        elif number and isinstance(stream, io.TextIOWrapper):
            # Printing a log line or an error must not raise because the terminal accepts only ASCII.
            stream.reconfigure(errors="backslashreplace")


def inherited_stream(number: int) -> int | IO[bytes] | None:
    """Return the argument of `subprocess` for a child's stream 1 or 2: None to inherit it, else the null device."""
    import subprocess

    return None if _is_open(number) and os.get_inheritable(number) else subprocess.DEVNULL


def pipe() -> tuple[int, int]:
    """Return the reading and the writing end of a pipe, as `os.pipe`, but never with the number of a standard stream."""
    return tuple(_above_standard(end) for end in os.pipe())  # type: ignore[return-value]


def _above_standard(descriptor: int) -> int:
    if descriptor >= FIRST_FREE:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(descriptor)
    return moved


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
