"""`ScalerFuture`: a real `concurrent.futures.Future` that costs next to nothing until somebody waits for it.

Making a standard future makes a lock, a condition and two lists, and takes longer than sending a task. Here they are made
when they are first asked for. Until then the state is guarded by one lock for all futures, held for a few assignments;
from then on by the condition, as the standard library's functions expect. The answer stays bytes until somebody wants the
value: it is then restored in the thread that wants it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, RUNNING
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from scaler.client.seconds import checked_timeout
from scaler.errors import ClientCancelledException
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from scaler.core.effects import Payload

_LOCK = threading.Lock()

if hasattr(os, "register_at_fork"):
    # A child must not inherit the lock from a thread it does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)

_SUCCESS = 0
_CANCELED = 2
"""As in `scaler_protocol.messages.Status`, which this module does without so that `import scaler` stays light."""


class FutureSource(Protocol):
    """The client a future comes from, which lives as long as its futures."""

    @property
    def owner(self) -> FutureOwner: ...

    @property
    def serializer(self) -> AnySerializer | None: ...

    @property
    def profiling(self) -> bool: ...


class FutureOwner(Protocol):
    """What futures ask of the client that made them."""

    def before_wait(self) -> None:
        """Somebody is about to wait: let nothing lie about unsent."""

    def wait(self, condition: threading.Condition, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()` or for `timeout` seconds; `condition`, which is not held, is notified of changes."""

    def sleep(self, sleeper: threading.Lock, done: Callable[[], bool], timeout: float | None) -> None:
        """As `wait`, where `sleeper`, which is locked, is released as soon as `done()` becomes true."""

    def blocking(self) -> AbstractContextManager[None]:
        """While this is entered, the task this code runs in (if any) waits, and its slot may be lent."""

    def restore(
        self, status: int, payload: Payload, number: int, serializer: AnySerializer | None
    ) -> tuple[Any, BaseException | None]:
        """Return (value, None) or (None, exception) of an answer. Never raises."""

    def cancel(self, futures: Sequence[ScalerFuture], timeout: float | None) -> list[ScalerFuture]:
        """Stop the tasks of these futures; return those that were not answered before."""


class _LazyCondition:
    """Makes a future's condition when it is first asked for; the instance attribute then hides this."""

    def __get__(self, future: ScalerFuture | None, _owner: type | None = None) -> Any:
        if future is None:
            return self
        with _LOCK:
            condition = future.__dict__.get("_condition")
            if condition is None:
                condition = future.__dict__["_condition"] = threading.Condition()
        if future._state == RUNNING:
            future.client.owner.before_wait()
        return condition


class _LazyWaiters:
    """Makes the list in which `concurrent.futures.wait` and `as_completed` put their waiters. Condition held."""

    def __get__(self, future: ScalerFuture | None, _owner: type | None = None) -> Any:
        if future is None:
            return self
        return future.__dict__.setdefault("_waiters", _WaiterList(future))


class _WaiterList(list[Any]):
    """Lets the future's owner know when the thread of a waiter blocks."""

    def __init__(self, future: ScalerFuture) -> None:
        super().__init__()
        self._future = future

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, _WaiterEvent):
            waiter.event = _WaiterEvent(self._future.client.owner)
        super().append(waiter)


class _WaiterEvent(threading.Event):
    """The event of a waiter, whose wait goes through the owner of the futures waited for."""

    def __init__(self, owner: FutureOwner) -> None:
        super().__init__()
        self._owner = owner

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._owner.wait(self._cond, self.is_set, timeout)  # type: ignore[attr-defined]
        return self.is_set()


class _LazyCallbacks:
    """Makes the list of callbacks. Condition held."""

    def __get__(self, future: ScalerFuture | None, _owner: type | None = None) -> Any:
        if future is None:
            return self
        return future.__dict__.setdefault("_done_callbacks", [])


class ScalerFuture(Future):  # type: ignore[type-arg]
    """The answer of a task to come. Made by `Client.submit`, never directly.

    All of `concurrent.futures.Future`, and: it can be awaited; `running()` is true from submission until it is done;
    `cancel` also stops a task that is running.
    """

    _state: str = RUNNING
    _result: Any = None
    _exception: BaseException | None = None
    _condition = _LazyCondition()
    _waiters = _LazyWaiters()
    _done_callbacks = _LazyCallbacks()

    _status: int = _SUCCESS
    _payload: Payload | None = None
    _profile: tuple[int | None, int | None, int | None] = (None, None, None)
    number: int = 0
    """The task's number within its client."""

    def __init__(self, client: FutureSource) -> None:
        # Not the base's: it would make the condition and lists that are made when needed.
        self.client = client

    # --- what people ask

    def done(self) -> bool:
        """Whether it has a value, an exception, or was cancelled."""
        # The state is written once, by one assignment: the base class's lock would add nothing.
        return self._state is not RUNNING

    @property
    def task_id(self) -> int:
        """The task's number within its client, as messages and monitors show it."""
        return self.number

    def profiling_info(self) -> ProfilingInfo:
        """Return what the task took.

        Raises ValueError before the task is done, when it did not run to its end, or without `profiling=True`.
        """
        if not self.client.profiling:
            raise ValueError(f"task {self.number} is not profiled: make the client with profiling=True")
        if not self.done():
            raise ValueError(f"task {self.number} is not done yet")
        duration, cpu_time, memory_peak = self._profile
        if duration is None:
            raise ValueError(f"task {self.number} did not run, or its worker did not profile it")
        return ProfilingInfo(duration / 1e6, (cpu_time or 0) / 1e6, memory_peak or 0)

    def result(self, timeout: float | None = None) -> Any:
        """Return the task's value, or raise its exception; wait up to `timeout` seconds for it.

        Raises TimeoutError when it takes longer, CancelledError when the future was cancelled.
        """
        if self._state == RUNNING:
            self._wait(timeout)
        if self._payload is not None:
            self._restore(self._payload)
        if self._state == FINISHED and self._exception is None:
            return self._result
        exception = self._exception or CancelledError()
        try:
            raise exception
        finally:
            # The traceback refers to this frame, and would to the exception.
            del exception

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the task's exception, or None where it has a value; waits and raises as `result` does."""
        if self._state == RUNNING:
            self._wait(timeout)
        if self._state == CANCELLED_AND_NOTIFIED:
            raise self._exception or CancelledError()
        if self._payload is not None:
            self._restore(self._payload)
        return self._exception

    def cancel(self, timeout: float | None = None) -> bool:
        """Cancel the future and stop its task, running or not. Return whether it is cancelled; False: it was done.

        The future is cancelled at once. With `timeout`, wait up to so many seconds for the confirmation that the task
        does not run any more.
        """
        if self._state == RUNNING:
            self.client.owner.cancel([self], checked_timeout(timeout))
        return self._state == CANCELLED_AND_NOTIFIED

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """As in the standard library. Raises ClientForkedError in a forked child, where it would never be called."""
        if self._state == RUNNING:
            self.client.owner.before_wait()
        super().add_done_callback(fn)

    def __await__(self) -> Generator[Any, None, Any]:
        # Whoever awaits has it imported; importing it with this module would double what `import scaler` costs.
        import asyncio

        self.client.owner.before_wait()
        if self._state != RUNNING:
            return self.result()
        with self.client.owner.blocking():
            return (yield from asyncio.wrap_future(self).__await__())

    @property
    def _shown_state(self) -> str:
        """For people: running, finished, failed or cancelled. Looks at nothing that would have to be unpickled."""
        if self._state == FINISHED:
            return "finished" if self._exception is None and self._status == _SUCCESS else "failed"
        return "cancelled" if self._state == CANCELLED_AND_NOTIFIED else "running"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of task {self.number}: {self._shown_state}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # Nobody would ever complete a copy, here or in a task.
        raise TypeError(f"a future cannot be copied or sent, and {self!r} is one: call .result() first")

    def _repr_html_(self) -> str:
        """For notebooks. The value is not shown: restoring it here could take long, and keep it in memory."""
        from scaler.client.notebook import facts_table

        facts: dict[str, object] = {"task": self.number, "state": self._shown_state}
        if self._exception is not None:
            facts["error"] = f"{type(self._exception).__name__}: {self._exception}"
        if self._profile[0] is not None:
            facts["duration"] = f"{self._profile[0] / 1e6:.6f} s"
        return facts_table(type(self).__name__, facts)

    # --- what the owner says

    def end_cancelled(self, error: BaseException | None = None) -> None:
        """Mark it cancelled; `result` raises `error`, or a plain CancelledError. Done futures stay as they are."""
        with self._condition:
            if self._state != RUNNING:
                return
            self._exception = error
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._wake_sleepers()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def end_with(self, value: Any) -> None:
        """Give it a value that needed no task."""
        self.set_result(value)

    def set_result(self, result: Any) -> None:
        """As in the standard library."""
        super().set_result(result)
        self._wake_sleepers()

    def set_exception(self, exception: BaseException | None) -> None:
        """As in the standard library."""
        super().set_exception(exception)
        self._wake_sleepers()

    def end_failed(self, error: BaseException) -> None:
        """Give it an exception. Done futures stay as they are."""
        with self._condition:
            if self._state != RUNNING:
                return
            self._exception = error
            self._state = FINISHED
            for waiter in self._waiters:
                waiter.add_exception(self)
            self._condition.notify_all()
        self._wake_sleepers()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def _end_answered(self) -> None:
        """`_payload` and `_status` are set, and somebody may be waiting."""
        with self._condition:
            if self._state != RUNNING:
                return
            self._state = FINISHED
            # Both lists exist only where somebody has asked for them.
            for waiter in self.__dict__.get("_waiters", ()):
                if self._status == _SUCCESS:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            self._condition.notify_all()
            called = "_done_callbacks" in self.__dict__
        self._wake_sleepers()
        if called:
            self._invoke_callbacks()  # type: ignore[attr-defined]

    # --- inside

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None:
            timeout = checked_timeout(timeout)
        # By a bare lock: who is woken from a condition has to wait once more, for whoever woke it to let go of that.
        sleeper = threading.Lock()
        sleeper.acquire()
        with _LOCK:
            if self._state != RUNNING:
                return
            self.__dict__.setdefault("_sleepers", []).append(sleeper)
        try:
            self.client.owner.sleep(sleeper, self.done, timeout)
        finally:
            if self._state == RUNNING:
                self._forget_sleeper(sleeper)
        if self._state == RUNNING:
            raise FutureTimeoutError(f"task {self.number} is not done after {timeout} s")

    def _forget_sleeper(self, sleeper: threading.Lock) -> None:
        with _LOCK:
            sleepers = self.__dict__.get("_sleepers", [])
            if sleeper in sleepers:
                sleepers.remove(sleeper)

    def _wake_sleepers(self) -> None:
        """It has just ended. Whoever looks at its state from now on, with the lock, does not fall asleep."""
        with _LOCK:
            sleepers = self.__dict__.pop("_sleepers", ())
        for sleeper in sleepers:
            sleeper.release()

    def _restore(self, payload: Payload) -> None:
        """Turn the answer's bytes into `_result` or `_exception`."""
        client = self.client
        result, exception = client.owner.restore(self._status, payload, self.number, client.serializer)
        with _LOCK:
            # Two threads may have restored it, or it was cancelled meanwhile: what was there first stays.
            if self._payload is not None and self._state == FINISHED:
                self._result, self._exception = result, exception
            self._payload = None


class ProfilingInfo:
    """What a task took: `duration_s` seconds of wall time, `cpu_time_s` of CPU, `memory_peak` bytes."""

    __slots__ = ("cpu_time_s", "duration_s", "memory_peak")

    def __init__(self, duration_s: float, cpu_time_s: float, memory_peak: int) -> None:
        self.duration_s = duration_s
        self.cpu_time_s = cpu_time_s
        self.memory_peak = memory_peak

    def __repr__(self) -> str:
        return (
            f"ProfilingInfo(duration_s={self.duration_s}, cpu_time_s={self.cpu_time_s}, memory_peak={self.memory_peak})"
        )


def answer_futures(
    futures: Sequence[ScalerFuture],
    payloads: Sequence[Payload],
    statuses: Sequence[int],
    profiles: Sequence[tuple[int | None, int | None, int | None]] | None,
) -> None:
    """Complete many futures: those nobody waits for under one lock, the others one by one.

    `statuses` may be empty: all succeeded. `profiles` has (microseconds, CPU microseconds, bytes) of each, or is None.
    """
    awaited = []
    cancelled = []
    sleepers: list[threading.Lock] = []
    with _LOCK:
        for position, future in enumerate(futures):
            if future._state != RUNNING:
                continue
            if statuses:
                if statuses[position] == _CANCELED:
                    cancelled.append(future)
                    continue
                future._status = statuses[position]
            future._payload = payloads[position]
            if profiles is not None:
                future._profile = profiles[position]
            fields = future.__dict__
            if "_condition" in fields:
                awaited.append(future)
            else:
                future._state = FINISHED
                if "_sleepers" in fields:
                    sleepers += fields.pop("_sleepers")
    for future in awaited:
        future._end_answered()
    for future in cancelled:
        future.end_cancelled(ClientCancelledException(f"task {future.number} was cancelled"))
    for sleeper in sleepers:
        # As the last thing: who wakes wants the interpreter, which this thread holds until it sleeps.
        sleeper.release()
