"""What threads of the application want of a client, on its way to the thread that owns the client's state.

Appending to a deque is one operation: nothing interrupts it, and any code may do it at any time, also what the garbage collector
or a signal runs in the middle of another append. So whatever interrupts the application's thread, a step is either not taken at
all or taken whole, by a thread that nothing interrupts.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from scaler.client.sleepers import Sleepers

Step = Callable[[], object]
T = TypeVar("T")

LOOK_SECONDS = 1.0
"""Longest sleep at once of a thread that waits for a step: then it looks whether anybody is still there to take it."""


class Steps:
    """A queue of steps for one thread, the owner. What an element is and how it is taken is the owner's business."""

    __slots__ = ("_sleepers", "_turns", "closed", "looks_soon", "owner_ident", "queue", "wake")

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        """Those that were not taken. Whoever appends to it calls `wake` afterwards."""
        self._sleepers = Sleepers()
        self._turns = 0
        self.wake: Callable[[], object] = _nobody
        """Makes the owner take steps soon. Set by the owner; called from any thread, which may be interrupted."""
        self.looks_soon = False
        """Whether the owner looks within milliseconds by itself: a step that can wait so long need not wake it."""
        self.owner_ident: int | None = None
        """The thread that takes them."""
        self.closed = False
        """Whether nobody takes them any more."""

    # --- from any thread

    def do(self, step: Step) -> None:
        """Have the owner call `step`, in the order of these calls."""
        self.queue.append(step)
        self.wake()

    def ask(self, step: Callable[[], T], timeout: float) -> T:
        """As `do`, and return what the step returns, or raise what it raises. Whatever interrupts this, the step is taken.

        Not from the owner's thread. Raises TimeoutError when the owner has ended or takes none for `timeout` seconds.
        """
        answer = Answer(step)
        self.do(answer.take)
        deadline = time.monotonic() + timeout
        while not answer.is_taken:
            if self.closed or time.monotonic() > deadline:
                raise TimeoutError("the thread that should do it has ended" if self.closed else "it did not come to it")
            answer.sleepers.sleep(answer.taken, LOOK_SECONDS)
        return answer.value()

    @property
    def is_owner(self) -> bool:
        """Whether the current thread is the one that takes them."""
        return threading.get_ident() == self.owner_ident

    def wait_for_turn(self, seconds: float) -> None:
        """Wait until the owner has taken what was there and has done what came of it, or so many seconds."""
        turns = self._turns
        deadline = time.monotonic() + seconds

        def turned() -> bool:
            return self._turns != turns or self.closed

        while not turned() and (remaining := deadline - time.monotonic()) > 0:
            self._sleepers.sleep(turned, remaining)

    # --- the owner's

    def note_turn(self) -> None:
        """What was there was taken, and what came of it was done."""
        self._turns += 1
        if len(self._sleepers):
            self._sleepers.wake()

    def close(self) -> None:
        """No more steps are taken."""
        self.closed = True
        self._sleepers.wake()


class OwnersLock:
    """A lock that threads of the client's own take. One of the application's only looks whether it is held."""

    __slots__ = ("_lock", "held")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.held = False

    def __enter__(self) -> None:
        self._lock.acquire()
        self.held = True

    def __exit__(self, *_: object) -> None:
        self.held = False
        self._lock.release()


class Start:
    """Starts a thread once, from one that may be interrupted.

    `Thread.start` waits for the new thread with a lock, which an interrupt can leave taken: then the new one hangs. So another
    new thread calls it, which no signal interrupts. An exception sent to this thread can hit that one instead, before it knows
    its own identity: so call this again while the thread has not started.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._threads = deque([thread])

    def __call__(self) -> None:
        """Start the thread, unless it has been started."""
        if self._threads:
            _thread.start_new_thread(self._start, ())

    def _start(self) -> None:
        try:
            thread = self._threads.popleft()
        except IndexError:
            return
        thread.start()


def _nobody() -> None:
    """There is no owner yet that could be woken: it looks when it starts."""


class Answer(Generic[T]):
    """A step whose caller waits for what it returns or raises."""

    __slots__ = ("_error", "_step", "_value", "is_taken", "sleepers")

    def __init__(self, step: Callable[[], T]) -> None:
        self._step: Callable[[], T] | None = step
        self._value: T | None = None
        self._error: Exception | None = None
        self.is_taken = False
        self.sleepers = Sleepers()

    def take(self) -> None:
        """The step itself. Never raises."""
        assert self._step is not None
        try:
            self._value = self._step()
        except Exception as error:
            self._error = error
        # What it refers to may be a use of an object, which ends with it.
        self._step = None
        self.is_taken = True
        self.sleepers.wake()

    def taken(self) -> bool:
        """Whether the step was taken."""
        return self.is_taken

    def value(self) -> T:
        """Return what the step returned, or raise what it raised."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                # The traceback refers to this frame, and would to the error.
                self._error = None
        return self._value  # type: ignore[return-value]
