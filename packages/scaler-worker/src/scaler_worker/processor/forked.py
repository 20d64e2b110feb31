"""Processes that a task forks from its processor: they run the task's code, but they are not the processor."""

from __future__ import annotations

from os import _exit
from typing import NoReturn

FAILED_STATUS = 1


def leave(error: BaseException | None) -> NoReturn:
    """End such a process, which has come back out of the task's code: at once and silently, as only its parent answers.

    The exit status is what a program's would be. Neither exit handlers nor the processor's channels may notice.
    """
    status = FAILED_STATUS
    try:
        if error is None:
            status = 0
        elif isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            status = (error.code or 0) & 0xFF
    finally:
        _exit(status)
