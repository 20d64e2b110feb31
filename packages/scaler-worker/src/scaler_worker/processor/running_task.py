"""The task that the main thread runs, and how it is cancelled.

A task is cancelled by an exception, `TaskCanceled`, which a signal handler raises in the main thread. It may be raised inside the
task's own code only. While the processor works on behalf of a task (it reads, sends, fetches), the exception waits: raised in the
middle of that, it would lose a record just read or results about to be sent, or cut a record in half.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from signal import pthread_kill
from threading import get_ident, main_thread
from types import FrameType

from scaler_protocol.runtime.coroutines import cancel_running
from scaler_worker.processor.inbox import Row
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.time_limit import TimeLimit, is_importing

CANCEL_SIGNAL = signal.SIGRTMIN + 3
"""Interrupts the main thread to look whether its task was cancelled, or its exception takes too long to describe.

Hardly any library uses it.
"""


class TaskCanceled(BaseException):
    """Raised inside a task that is to end."""


class RunningTask:
    """`row`, `in_code` and `page` are written by the main thread for every task, so they are set directly."""

    __slots__ = (
        "_keep_awake",
        "_limit",
        "_main_thread",
        "_postponed",
        "cancels",
        "in_code",
        "is_forked",
        "page",
        "row",
    )

    def __init__(self, page: RunningPage, limit: TimeLimit, keep_awake: Callable[[], None]) -> None:
        """`keep_awake` has the control thread call `signal_again` soon."""
        self.page = page
        self.row: Row | None = None
        """None between two tasks."""
        self.in_code = False
        """Whether the main thread is inside the task's code, where `TaskCanceled` may be raised."""
        self.cancels: dict[int, tuple[int, str]] = {}
        """Tasks that are to end, by index: the status and text they are answered with."""
        self.is_forked = False
        """Whether this process is one that a task has forked from the processor."""
        self._limit = limit
        self._keep_awake = keep_awake
        self._main_thread = main_thread().ident or 0
        self._postponed = False
        """Whether the main thread was signalled while it imported something."""

    # --- on the main thread

    def is_current_thread(self) -> bool:
        """Whether the caller runs on the main thread, where tasks run. Others are threads of tasks, or the control thread."""
        return get_ident() == self._main_thread

    def leave_code(self) -> bool:
        """Have `TaskCanceled` wait: the processor works on behalf of the task. Return what `return_to_code` needs."""
        if get_ident() != self._main_thread:
            return False
        was_in_code, self.in_code = self.in_code, False
        return was_in_code

    def return_to_code(self, was_in_code: bool) -> None:
        """Go on with the task's code. Raises TaskCanceled if the task was cancelled meanwhile."""
        if was_in_code:
            self.in_code = True
            self.check_canceled()

    def check_canceled(self) -> None:
        """Raise TaskCanceled if the running task was cancelled."""
        row = self.row
        if row is not None and row.task_index in self.cancels:
            self.in_code = False
            raise TaskCanceled

    def on_signal(self, _number: int, frame: FrameType | None) -> None:
        """Handle CANCEL_SIGNAL."""
        if is_importing(frame):
            # Half a module would stay behind, for all tasks that come after: the control thread signals once more.
            self._postponed = True
            self._keep_awake()
            return
        if self._limit.on_signal():
            return
        row = self.row
        if self.in_code and row is not None and row.task_index in self.cancels:
            if cancel_running(self._main_thread):
                return
            self.in_code = False
            raise TaskCanceled

    # --- on the control thread

    def cancel(self, index: int, status: int, text: str) -> None:
        """Have a task ended, now or when its turn comes; one that has ended stays as it is."""
        self.cancels[index] = (status, text)
        row = self.row
        if row is not None and row.task_index == index:
            pthread_kill(self._main_thread, CANCEL_SIGNAL)
        elif index < self.page.word[0]:
            # It has ended.
            self.cancels.pop(index, None)

    def signal_again(self) -> None:
        """Signal the main thread once more where it could not be interrupted, or uses more time than it has."""
        if self._postponed or self._limit.is_over:
            self._postponed = False
            pthread_kill(self._main_thread, CANCEL_SIGNAL)
