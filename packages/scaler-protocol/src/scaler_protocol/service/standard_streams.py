"""Standard streams that can be relied on, however a process was started. This module must stay light.

A process may be started with some of its first three descriptors closed (`2>&-`, a daemon, a GUI). The next file or socket it
opens then gets that number, and what is written to stderr ends up there; Python itself has no `sys.stderr` at all.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys
from typing import IO

FIRST_FREE = 3
"""The first descriptor that means nothing by convention."""

_NAMES = ("stdin", "stdout", "stderr")


def ensure_standard_streams() -> None:
    """Put the null device in the place of standard streams that are closed, and have none of them fail for its encoding.

    To be called before the process opens anything.
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
            # A log line or an error must not fail because the terminal knows ASCII only.
            stream.reconfigure(errors="backslashreplace")


def inherited_stream(number: int) -> int | IO[bytes] | None:
    """Return what `subprocess` is to be told for a child's stream 1 or 2: None to inherit it, else the null device."""
    import subprocess

    return None if _is_open(number) and os.get_inheritable(number) else subprocess.DEVNULL


def pipe() -> tuple[int, int]:
    """Return the reading and the writing end of a pipe, as `os.pipe`, out of the way of standard streams that are closed."""
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
