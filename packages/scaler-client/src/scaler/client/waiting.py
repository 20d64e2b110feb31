"""Waiting of the application's threads: for a future, for the scheduler's permission, for a chunk of a map."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from scaler import errors
from scaler.client.blocking import TaskBlocks
from scaler.client.core_owner import CoreOwner
from scaler.client.sleepers import Sleepers
from scaler_protocol.runtime.task_context import current_task_context

WAIT_SECONDS = 1.0
"""Longest sleep at once of a thread that waits: Windows delivers Ctrl-C only in between."""


class Waiting:
    """Lets threads of the application wait, and refuses it to the threads that would have to end the waiting."""

    __slots__ = ("_owner",)

    def __init__(self, owner: CoreOwner) -> None:
        self._owner = owner

    def before_wait(self) -> None:
        """Raise where nobody would ever end the waiting: in a child made by fork."""
        if self._owner.forked:
            self._owner.check_process()

    def wait(self, sleepers: Sleepers, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()`, or so many seconds. Inside a task, its processor is told that the task blocks."""
        self._wait(partial(sleepers.sleep, done), done, timeout)

    def sleep(self, sleeper: threading.Lock, done: Callable[[], bool], timeout: float | None) -> None:
        """As `wait`, by a lock that is released when `done()` becomes true."""
        self._wait(partial(sleeper.acquire, True), done, timeout)

    def blocking(self) -> TaskBlocks:
        """While this is entered, the task this code runs in (if any) waits, and its slot may be lent."""
        return TaskBlocks()

    def _wait(self, pause: Callable[[float], object], done: Callable[[], bool], timeout: float | None) -> None:
        owner = self._owner
        if owner.forked:
            owner.check_process()
        if owner.must_not_wait():
            raise errors.ScalerError("a callback of a future waits for another one: only its own thread completes it")
        if current_task_context() is None:
            _pause(pause, done, timeout)
        elif not done():
            with TaskBlocks():
                _pause(pause, done, timeout)


class HoldingWaiting(Waiting):
    """The same where threads hold tasks back that they submit: before one waits in any way, these leave."""

    __slots__ = ("_send_held",)

    def __init__(self, owner: CoreOwner, send_held: Callable[[], None]) -> None:
        super().__init__(owner)
        self._send_held = send_held

    def before_wait(self) -> None:
        """As `Waiting.before_wait`, and send what is held back."""
        super().before_wait()
        self._send_held()

    def _wait(self, pause: Callable[[float], object], done: Callable[[], bool], timeout: float | None) -> None:
        self._send_held()
        super()._wait(pause, done, timeout)


def _pause(pause: Callable[[float], object], done: Callable[[], bool], timeout: float | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        remaining = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, deadline - time.monotonic())
        if remaining > 0:
            pause(remaining)
        if done() or (deadline is not None and time.monotonic() >= deadline):
            return
