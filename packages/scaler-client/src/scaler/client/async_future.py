"""`AsyncFuture`, an asyncio future for a task on the cluster, and how answers reach its event loop.

Imported with the first `AsyncClient`: `import scaler` does without asyncio.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from scaler.client.current_task import TaskProgress
from scaler.client.future import R, ScalerFuture

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

DELIVERED_MAX = 500
"""So many futures are given their values before the event loop does other things."""

RESTORED_BYTES_MAX = 1 << 20
"""Larger answers are unpickled in a thread, while the event loop does other things."""


class AsyncFuture(asyncio.Future[R]):  # type: ignore[type-var]
    """The answer of a task to come, as an `asyncio.Future`: await it for the value. Made by `AsyncClient`, never directly.

    Cancelling it stops its task, also one that runs; and so does cancelling the asyncio task that awaits it. Where several await
    it, `asyncio.shield` keeps one from cancelling it for all.
    """

    task: ScalerFuture[R]
    """The plain future underneath: `task_id`, `profiling_info()`."""

    def __init__(self, task: ScalerFuture[Any], delivery: Delivery) -> None:
        super().__init__(loop=delivery.loop)
        self.task = task
        self._delivery = delivery
        task.add_done_callback(self._put)

    def _put(self, _task: Future[Any]) -> None:
        self._delivery.put(self)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future and stop its task, running or not. Return whether it is cancelled now; False: it was done."""
        if not super().cancel(msg):
            return False
        self.task.cancel()
        return True

    def progress(self) -> TaskProgress | None:
        """Return how far the task says that it is, or None where it has said nothing (yet)."""
        return self.task.progress()

    def take_outcome(self) -> None:
        """The task has ended: say so to whoever waits here. In the thread of the event loop."""
        if self.done():
            return
        answer = self.task.answer()
        if answer is not None and _size_of(answer) > RESTORED_BYTES_MAX:
            self._delivery.loop.run_in_executor(None, self.task.exception).add_done_callback(self._take_restored)
        else:
            self._take()

    def _take_restored(self, restored: Future[Any] | asyncio.Future[Any]) -> None:
        if not restored.cancelled():
            restored.exception()
        if not self.done():
            self._take()

    def _take(self) -> None:
        task = self.task
        if task.cancelled():
            try:
                task.result()
            except CancelledError as error:
                if type(error) is CancelledError:
                    super().cancel()
                else:
                    # Not a cancellation of whoever awaits it: the client was closed, or cleared.
                    self.set_exception(error)
                    # Where nobody awaits it, asyncio is not to warn of what the program has done itself.
                    self.exception()
            return
        raised = task.exception()
        if raised is None:
            self.set_result(task.result())
        elif issubclass(type(raised), StopIteration):
            refused = RuntimeError("the task raised StopIteration, which cannot be raised into a coroutine")
            refused.__cause__ = raised
            self.set_exception(refused)
        else:
            self.set_exception(raised)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an AsyncFuture cannot be copied or sent inside of other objects: await it first")


def _size_of(answer: Any) -> int:
    return len(answer) if isinstance(answer, bytes) else sum(map(len, answer))


class Delivery:
    """Brings futures that have ended from the client's thread to an event loop: one wake-up for all that end meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ended: deque[AsyncFuture] = deque()
        self._is_due = False
        """Whether the loop is about to look."""

    def put(self, future: AsyncFuture) -> None:
        """Its task has ended. From any thread."""
        self._ended.append(future)
        if not self._is_due:
            self._is_due = True
            call_in(self.loop, self._deliver)

    def _deliver(self) -> None:
        # First: whoever still saw it set has put its future before this.
        self._is_due = False
        ended = self._ended
        for _ in range(DELIVERED_MAX):
            if not ended:
                return
            ended.popleft().take_outcome()
        if ended and not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._deliver)


class LoopEvent:
    """Tells a coroutine, from any thread, that something has happened."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self._is_due = False

    def set(self) -> None:
        """It has happened."""
        if not self._is_due:
            self._is_due = True
            call_in(self._loop, self._event.set)

    async def wait(self, seconds: float) -> None:
        """Wait until it has happened since the last time, or so many seconds."""
        timer = self._loop.call_later(max(0.0, seconds), self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()
            # In this order: what happens from here on sets it anew.
            self._event.clear()
            self._is_due = False


def call_in(loop: asyncio.AbstractEventLoop, call: Any) -> None:
    """Have the loop call this, from any thread; not where it is closed, for then nobody waits in it."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        if not loop.is_closed():
            raise
