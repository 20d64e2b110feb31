"""How far the running task says that it is: the newest of what it says, a few times a second.

Most calls only leave what they were told here. What is left is sent by the control thread when it is time, so that what a task
says last before it computes for an hour is seen as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from scaler_worker.processor.records import Bytes, Kind, progress_parts
from scaler_worker.processor.running_task import RunningTask
from scaler_worker.processor.task_threads import TaskThreads

INTERVAL_SECONDS = 0.5
"""A processor sends so seldom at most."""


class ProgressReports:
    """Of one processor. `report` is called by tasks, from any thread; `send_due` by the control thread."""

    def __init__(
        self,
        running: RunningTask,
        threads: TaskThreads,
        send: Callable[[Kind, Sequence[Bytes]], None],
        wake: Callable[[], None],
    ) -> None:
        """`wake` has the control thread look at `poll_milliseconds`."""
        self._running = running
        self._threads = threads
        self._send = send
        self._wake = wake
        self._newest: deque[tuple[int, float, float, str]] = deque(maxlen=1)
        """What has not been sent. One step puts it there, one takes it out."""
        self._send_at = 0.0
        self._is_awaited = False
        """Whether the control thread knows that it has to send."""

    def report(self, done: float, total: float, note: str) -> None:
        """The running task is so far. What a thread says that an earlier task has left is nothing."""
        running = self._running
        row = self._threads.row()
        if row is None:
            return
        now = monotonic()
        # Not while something waits: that is older, and must not be sent after this. Not while the processor works on behalf of
        # the task: a signal handler of the task may be what calls.
        if not self._is_awaited and now >= self._send_at and running.in_code:
            self._send_at = now + INTERVAL_SECONDS
            self._send(Kind.PROGRESS, progress_parts(row.task_index, done, total, note))
            return
        self._newest.append((row.task_index, done, total, note))
        if not self._is_awaited:
            self._is_awaited = True
            self._wake()

    @property
    def poll_milliseconds(self) -> float | None:
        """How long the control thread may sleep; None where nothing waits to be sent."""
        if not self._is_awaited:
            return None
        return max(0.0, self._send_at - monotonic()) * 1000 + 1

    def send_due(self) -> None:
        """Send what waits, if it is time. On the control thread."""
        now = monotonic()
        if not self._is_awaited or now < self._send_at:
            return
        # In this order: tasks that report from now on leave it here, behind what is sent now, and wake this thread again.
        self._send_at = now + INTERVAL_SECONDS
        self._is_awaited = False
        try:
            index, done, total, note = self._newest.pop()
        except IndexError:
            return
        row = self._running.row
        if row is not None and row.task_index == index:
            self._send(Kind.PROGRESS, progress_parts(index, done, total, note))
