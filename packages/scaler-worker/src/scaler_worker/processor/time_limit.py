"""A limit for users' code that runs when its task is over: methods of an exception that is being described.

The main thread runs that code; the control thread looks at the time and interrupts it with a signal, whose handler raises
`TookTooLong` there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

DESCRIBING_SECONDS_MAX = 5.0
"""How long the methods of one exception may take, all together."""

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


class TookTooLong(BaseException):
    """Raised inside a user's code, which may catch all `Exception`s."""

    def __init__(self) -> None:
        super().__init__(f"more than {DESCRIBING_SECONDS_MAX:g} s")


class TimeLimit:
    """Runs functions of the main thread until their time is used up; `is_over` is for the control thread."""

    def __init__(self, wake: Callable[[], None], seconds: float = DESCRIBING_SECONDS_MAX) -> None:
        self._wake = wake
        self._seconds = self._seconds_now = seconds
        self._until: float | None = None
        self._describing = False
        self._in_users_code = False

    def begin(self, seconds: float | None = None) -> None:
        """An exception is about to be described: it has all the time, or so many seconds."""
        self._describing = True
        self._seconds_now = self._seconds if seconds is None else seconds
        self._until = None

    def end(self) -> None:
        """The exception is described."""
        self._until = None
        self._describing = False

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function`. Raises what it raises, or TookTooLong: without calling it when nothing is left of the time."""
        if self._until is None:
            self._until = monotonic() + self._seconds_now
            # Most exceptions need no limit, so nobody looks at the clock before the first that does.
            self._wake()
        elif self.is_over:
            raise TookTooLong
        before = self._in_users_code
        try:
            self._in_users_code = True
            return function(*arguments)
        finally:
            self._in_users_code = before

    @property
    def is_set(self) -> bool:
        """Whether somebody has to look at the clock."""
        return self._until is not None

    @property
    def is_over(self) -> bool:
        """Whether the time is used up, so that the main thread is to be interrupted."""
        until = self._until
        return until is not None and monotonic() >= until

    def on_signal(self) -> bool:
        """Called in the main thread, which was interrupted: ends the user's code that is too slow, if that is where it is.

        Return whether an exception is being described, so that nothing else may be raised now: it would be taken for
        something that the user's code raised.
        """
        if self._in_users_code and self.is_over:
            raise TookTooLong
        return self._describing


def is_importing(frame: FrameType | None) -> bool:
    """Whether a frame was called from an import statement, or is one."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
