"""`ScalerFuture`: a real `concurrent.futures.Future` that costs next to nothing until somebody waits for it.

Making a standard future makes a lock, a condition and two lists, and takes longer than sending a task. Here they are made
when they are first asked for. The answer stays bytes until somebody wants the value: it is then restored in the thread that
wants it.

Nor is there a lock. A standard future's condition stays taken for ever where Ctrl-C comes between taking it and the block that
gives it back, and blocks the thread that would complete the future, and with it all others. So a future ends by one
`dict.setdefault`, which nothing interrupts: the first to set `_ended` decides how. Who wants to hear of it first puts itself into
a list and then looks at `_ended`; who ends it first sets `_ended` and then empties the lists. Whoever takes an element out tells
it.
"""

from __future__ import annotations

import logging
import operator
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, RUNNING
from contextlib import AbstractContextManager
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

from scaler.client.awaiting import for_asyncio
from scaler.client.current_task import WithProgress
from scaler.client.seconds import checked_timeout
from scaler.client.sleepers import Sleepers, forget, wake
from scaler.errors import ClientCancelledException
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from scaler.core.effects import Payload

    R = TypeVar("R", default=Any, covariant=True)
    """Of the value. Code that does not say it has futures of anything."""
else:
    import typing

    R = typing.TypeVar("R")

logger = logging.getLogger("concurrent.futures")
"""Where the standard library tells of callbacks that raise."""

_SUCCESS = 0
_CANCELED = 2
"""As in `scaler_protocol.wire.messages.Status`, which this module does without so that `import scaler` stays light."""


class FutureSource(Protocol):
    """The client a future comes from, which lives as long as its futures."""

    @property
    def owner(self) -> FutureOwner:
        """Whom the future asks to wait, cancel and restore."""

    @property
    def serializer(self) -> AnySerializer | None:
        """The client's serializer, or None for the usual one."""

    @property
    def profiling(self) -> bool:
        """Whether its tasks are measured."""


class FutureWaiting(Protocol):
    """How threads wait for futures."""

    def before_wait(self) -> None:
        """Somebody is about to wait: raise where nobody would ever end it."""

    def wait(self, sleepers: Sleepers, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()` or for `timeout` seconds; `sleepers` are woken when it may have become true."""

    def sleep(self, sleeper: threading.Lock, done: Callable[[], bool], timeout: float | None) -> None:
        """As `wait`, where `sleeper`, which is locked, is released as soon as `done()` becomes true."""

    def blocking(self) -> AbstractContextManager[None]:
        """While this is entered, the task this code runs in (if any) waits, and its slot may be lent."""


class FutureOwner(Protocol):
    """What futures ask of the client that made them."""

    @property
    def waiting(self) -> FutureWaiting:
        """How threads wait for its futures."""

    def restore(
        self, status: int, payload: Payload, number: int, serializer: AnySerializer | None
    ) -> tuple[Any, BaseException | None]:
        """Return (value, None) or (None, exception) of an answer. Never raises."""

    def cancel(self, futures: Sequence[ScalerFuture], timeout: float | None) -> None:
        """Cancel these futures, unless they are done, and stop their tasks."""


class _View:
    """Stands where the standard library expects a future's condition.

    `concurrent.futures.wait` and `as_completed` take the conditions of all futures, look at the states, and put a waiter into
    each future. What they rely on is that no state changes in between. Here it may: but the thread that has "taken" this goes on
    seeing the state of that moment, and a waiter put into a future that has ended since is told at once. Taking it anew looks
    anew, so that one which was never given back, because of an interrupt, does no harm.
    """

    __slots__ = ("_future", "_seen")

    def __init__(self, future: ScalerFuture) -> None:
        self._future = future
        self._seen: dict[int, str] = {}

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._seen[threading.get_ident()] = self._future._ended or RUNNING
        return True

    def release(self) -> None:
        self._seen.pop(threading.get_ident(), None)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def wait(self, timeout: float | None = None) -> bool:
        self._future.sleep_until_done(timeout)
        return self._future.done()

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        self._future.sleep_until_done(timeout)
        return predicate()

    def notify(self, n: int = 1) -> None:
        """Nothing to do: whoever sleeps is woken by the future's end."""

    def notify_all(self) -> None:
        """Nothing to do: whoever sleeps is woken by the future's end."""

    @property
    def seen(self) -> str | None:
        """The state the current thread saw when it took this; None where it has not."""
        return self._seen.get(threading.get_ident())


class _LazyView:
    """Makes a future's view when it is first asked for; the instance attribute then hides this."""

    def __get__(self, future: ScalerFuture | None, _owner: type | None = None) -> Any:
        if future is None:
            return self
        if future._ended is None:
            future.client.owner.waiting.before_wait()
        return future.__dict__.setdefault("_condition", _View(future))


class _LazyWaiters:
    """Makes the list in which `concurrent.futures.wait` and `as_completed` put their waiters."""

    def __get__(self, future: ScalerFuture | None, _owner: type | None = None) -> Any:
        if future is None:
            return self
        return future.__dict__.setdefault("_waiters", _Waiters(future))


class _Waiters:
    """The waiters of a future. Lets the future's owner know when the thread of one blocks."""

    __slots__ = ("_future", "_waiters")

    def __init__(self, future: ScalerFuture) -> None:
        self._future = future
        self._waiters: deque[Any] = deque()

    def append(self, waiter: Any) -> None:
        future = self._future
        if not isinstance(waiter.event, _WaiterEvent):
            waiter.event = _WaiterEvent(future.client.owner)
            if hasattr(waiter, "lock"):
                # What the collector runs while this thread holds it may end a future that is waited for here.
                waiter.lock = threading.RLock()
        if future._state != RUNNING:
            # Whoever waits has seen that it is done, and counts on being told of the others only.
            return
        self._waiters.append(waiter)
        if future._ended is not None:
            self.tell()
        else:
            future.want()

    def remove(self, waiter: Any) -> None:
        """Take one out; one that was told is not in here any more."""
        try:
            self._waiters.remove(waiter)
        except (ValueError, IndexError):
            return

    def tell(self) -> None:
        """The future has ended: tell all, each once."""
        future, waiters = self._future, self._waiters
        while waiters:
            try:
                waiter = waiters.popleft()
            except IndexError:
                return
            if future._ended != FINISHED:
                waiter.add_cancelled(future)
            elif future.failed:
                waiter.add_exception(future)
            else:
                waiter.add_result(future)

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self._waiters))

    def __len__(self) -> int:
        return len(self._waiters)


class _WaiterEvent:
    """The event of a waiter, whose wait goes through the owner of the futures waited for."""

    def __init__(self, owner: FutureOwner) -> None:
        self._owner = owner
        self._is_set = False
        self._sleepers = Sleepers()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._sleepers.wake()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._owner.waiting.wait(self._sleepers, self.is_set, checked_timeout(timeout))
        return self._is_set


class ScalerFuture(WithProgress, Future[R]):  # type: ignore[type-var]
    """The answer of a task to come. Made by `Client.submit`, never directly.

    All of `concurrent.futures.Future`, and: it can be awaited; `running()` is true from submission until it is done;
    `cancel` also stops a task that is running.
    """

    client: FutureSource
    """The client whose task it is."""
    _ended: str | None = None
    """How it ended, in the standard library's words, or None. Set once, with `setdefault`, after everything it goes with."""
    _condition = _LazyView()
    _waiters = _LazyWaiters()

    _outcome: tuple[Any, BaseException | None] | None = None
    """Value and exception, once restored. The first restored ones stay."""
    _cancel_error: BaseException | None = None
    """What a cancelled one raises, where it is not a plain CancelledError."""
    _status: int = _SUCCESS
    _payload: Payload | None = None
    _profile: Mapping[str, int] | None = None
    """What its worker has measured, as a row of `Reported`; None where it has measured nothing."""
    number: int = 0
    """The task's number within its client."""

    def __init__(self, client: FutureSource) -> None:
        # Not the base's: it would make the condition and lists that are made when needed.
        # By its dictionary, which so exists before other threads know the future: in Python 3.11 two threads that are the first
        # to ask for it destroy it.
        self.__dict__["client"] = client

    # --- what people ask

    def done(self) -> bool:
        """Whether it has a value, an exception, or was cancelled."""
        if self._ended is None:
            self.want()
        return self._ended is not None

    def running(self) -> bool:
        """Whether it is not done: a task counts as running from submission on."""
        return not self.done()

    def cancelled(self) -> bool:
        """Whether it was cancelled, be it because its client was disconnected."""
        return self._ended == CANCELLED_AND_NOTIFIED

    @property
    def task_id(self) -> int:
        """The task's number within its client, as messages and monitors show it."""
        return self.number

    def profiling_info(self) -> ProfilingInfo:
        """Return what the task took.

        Raises ValueError before the task is done, when it failed or was cancelled, or without `profiling=True`.
        """
        profile = self._profile
        if profile is None and not self.client.profiling:
            raise ValueError(
                f"task {self.number} has no profile: only tasks have one that have returned a value, and were submitted with "
                "profiling=True or by a client with profiling=True"
            )
        if not self.done():
            raise ValueError(f"task {self.number} is not done yet")
        if profile is None:
            # What it did until then is not told: its time may be that of another attempt, or of a process that is gone.
            reason = {"failed": "failed", "cancelled": "was cancelled"}.get(self._shown_state)
            if reason is None:
                raise ValueError(f"task {self.number} was not measured by its worker")
            raise ValueError(f"task {self.number} {reason}; only tasks that return a value have profiling information")
        return ProfilingInfo(profile["durations"] / 1e6, profile["cpu_times"] / 1e6, profile["memory_peaks"])

    def result(self, timeout: float | None = None) -> R:
        """Return the task's value, or raise its exception; wait up to `timeout` seconds for it.

        Raises TimeoutError when it takes longer, CancelledError when the future was cancelled.
        """
        if self._ended is None:
            self._wait(timeout)
        if self._ended == FINISHED:
            value, exception = self._outcome or self._restore()
            if exception is None:
                result: R = value
                return result
        else:
            exception = self._cancel_error if self._cancel_error is not None else CancelledError()
        try:
            raise exception
        finally:
            # The traceback refers to this frame, and would to the exception.
            del exception

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the task's exception, or None where it has a value; waits and raises as `result` does."""
        if self._ended is None:
            self._wait(timeout)
        if self._ended != FINISHED:
            raise self._cancel_error if self._cancel_error is not None else CancelledError()
        return for_asyncio((self._outcome or self._restore())[1])

    def cancel(self, timeout: float | None = None) -> bool:
        """Cancel the future and stop its task, running or not. Return whether it is cancelled; False: it was done.

        The future is cancelled at once. With `timeout`, wait up to so many seconds for the confirmation that the task
        does not run any more.
        """
        if self._ended is None:
            self.client.owner.cancel([self], checked_timeout(timeout))
        return self.cancelled()

    def add_done_callback(self, fn: Callable[[Future[R]], object]) -> None:
        """Call `fn(self)` once when it is done: at once where it is, otherwise from the thread that completes it.

        Raises ClientForkedError in a forked child, where it would never be called.
        """
        if self._ended is None:
            self.client.owner.waiting.before_wait()
        self.__dict__.setdefault("_done_callbacks", deque()).append(fn)
        if self._ended is not None:
            self._invoke_callbacks()
        else:
            self.want()

    def __await__(self) -> Generator[Any, None, R]:
        # Whoever awaits has it imported; importing it with this module would double what `import scaler` costs.
        import asyncio

        self.client.owner.waiting.before_wait()
        if self._ended is not None:
            return self.result()
        with self.client.owner.waiting.blocking():
            return (yield from asyncio.wrap_future(self).__await__())

    @property
    def _shown_state(self) -> str:
        """For people: running, finished, failed or cancelled. Looks at nothing that would have to be unpickled."""
        if self._ended == FINISHED:
            return "failed" if self.failed else "finished"
        return "running" if self._ended is None else "cancelled"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of task {self.number}: {self._shown_state}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # Nobody would ever complete a copy, here or in a task.
        raise TypeError(f"a future cannot be copied or sent, and {self!r} is one: call .result() first")

    def _repr_html_(self) -> str:
        """For notebooks. The value is not shown: restoring it here could take long, and keep it in memory."""
        from scaler.client.notebook import facts_table

        facts: dict[str, object] = {"task": self.number, "state": self._shown_state}
        exception = self._outcome[1] if self._ended == FINISHED and self._outcome is not None else self._cancel_error
        if exception is not None:
            from scaler_protocol.failures import named_text_of

            facts["error"] = named_text_of(exception, interrupts=True)
        if self._progress is not None and self._ended is None:
            facts["progress"] = self._progress
        if self._profile is not None:
            facts["duration"] = f"{self._profile['durations'] / 1e6:.6f} s"
        return facts_table(type(self).__name__, facts)

    def answer(self) -> Payload | None:
        """Return the bytes of its answer, or the buffers of the object that it is; None before it and once it is restored."""
        return self._payload if self._outcome is None else None

    # --- values that stay in storage, see `scaler.client.stored_results`

    is_wanted = False
    """Whether somebody has asked for the value, or whether it is there."""
    is_named = False
    """Whether a task has it among its arguments."""

    @property
    def has_ended(self) -> bool:
        """As `done`, without asking for the value."""
        return self._ended is not None

    @property
    def has_value(self) -> bool:
        """Whether it has ended with a value, be it that this lies in storage and was not fetched."""
        if self._ended is not None:
            return self._ended == FINISHED and not self.failed
        return "_stored" in self.__dict__

    @property
    def stored(self) -> bytes | None:
        """The object in storage that its value is, with the use that this future has of it; None where there is none."""
        return self.__dict__.get("_stored")

    def leave_in_storage(self, stored: bytes, fetch: Callable[[ScalerFuture], object]) -> None:
        """Its value is this object. `fetch` is called when somebody asks for it, once; at once where somebody has."""
        fields = self.__dict__
        fields["_stored"] = stored
        fields["_fetch"] = fetch
        if self.is_wanted:
            self.want()
        self._tell_followers()

    def keep_stored(self, stored: bytes) -> None:
        """Its value is this object, and is here or about to be."""
        self.__dict__.setdefault("_stored", stored)

    def forget_stored(self) -> None:
        """End its use of the object that its value is. Nobody may refer to that any more, unless somebody does already."""
        self.__dict__.pop("_stored", None)

    def follow(self, fn: Callable[[ScalerFuture], object]) -> None:
        """Call `fn(self)` once when it is done or its value lies in storage, without asking for the value."""
        self.__dict__.setdefault("_followers", deque()).append(fn)
        self.__dict__.setdefault("_done_callbacks", deque()).append(ScalerFuture._tell_followers)
        if self._ended is not None:
            self._invoke_callbacks()
        elif "_stored" in self.__dict__:
            self._tell_followers()

    def _tell_followers(self) -> None:
        followers = self.__dict__.get("_followers")
        while followers:
            try:
                follower = followers.popleft()
            except IndexError:
                return
            follower(self)

    def want(self) -> None:
        """Somebody asks for the value: where it has stayed in storage, it is fetched."""
        fields = self.__dict__
        fields["is_wanted"] = True
        fetch = fields.pop("_fetch", None)
        if fetch is not None:
            fetch(self)

    # --- what the owner says

    def mark_cancelled(self, error: BaseException | None = None) -> bool:
        """Mark it cancelled, unless it is done; `result` raises `error`, or a plain CancelledError. Return whether it did.

        For a thread that may be interrupted: whatever that leaves undone, `end_cancelled` does later.
        """
        if self._ended is not None:
            return False
        if error is not None:
            self._cancel_error = error
        if self.__dict__.setdefault("_ended", CANCELLED_AND_NOTIFIED) != CANCELLED_AND_NOTIFIED:
            return False
        self._wake_sleepers()
        self._invoke_callbacks()
        return True

    def end_cancelled(self, error: BaseException | None = None) -> None:
        """As `mark_cancelled`, and tell everybody who is to hear of its end, be it that it was marked or done before."""
        self.mark_cancelled(error)
        self._tell()

    def end_with(self, value: Any) -> None:
        """Give it a value that needed no task."""
        self._finish(value, None)

    def end_failed(self, error: BaseException) -> None:
        """Give it an exception. Done futures stay as they are."""
        self._finish(None, error)

    def set_result(self, result: Any) -> None:
        """As in the standard library."""
        self._require_pending()
        self._finish(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """As in the standard library."""
        self._require_pending()
        self._finish(None, exception)

    def set_running_or_notify_cancel(self) -> bool:
        """As in the standard library: whether it is to be run. It counts as running from submission on."""
        return not self.cancelled()

    def end_answered(self) -> None:
        """It was answered (see `answer_futures`): tell everybody who is to hear of it."""
        self._tell()

    def hold_until_restored(self, objects: Sequence[bytes]) -> None:
        """Refer to these uses of objects until its value is restored, which may have references to them, or it is gone."""
        held = (*self.held_until_restored, *objects)
        # In place of the method, so that futures without them know nothing of it.
        self.__dict__["_restore"] = partial(_restore_and_let_go, weakref.ref(self), held)

    @property
    def held_until_restored(self) -> Sequence[bytes]:
        """The uses of objects that it refers to now."""
        restore = self.__dict__.get("_restore")
        held: Sequence[bytes] = () if restore is None else restore.args[1]
        return held

    # --- internal

    def _seen_state(self) -> str:
        """What the standard library's functions look at; see `_View`."""
        view = self.__dict__.get("_condition")
        return (None if view is None else view.seen) or self._ended or RUNNING

    # `Any`, because type checkers would not take a future with a read-only `_state` as an argument of `as_completed`.
    _state: Any = property(_seen_state)

    @property
    def failed(self) -> bool:
        """Whether it ended with an exception. Looks at nothing that would have to be unpickled."""
        return self._status != _SUCCESS if self._outcome is None else self._outcome[1] is not None

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """Return (done, cancelled, value, exception), as the standard library of Python 3.14 asks for it."""
        if self._ended == FINISHED:
            return (True, False, *(self._outcome or self._restore()))
        return self._ended is not None, self._ended is not None, None, None

    def _require_pending(self) -> None:
        if self._ended is not None:
            raise InvalidStateError(f"{self._ended}: {self!r}")

    def _finish(self, value: Any, exception: BaseException | None) -> None:
        fields = self.__dict__
        if self._ended is None:
            fields.setdefault("_outcome", (value, exception))
            fields.setdefault("_ended", FINISHED)
        self._tell()

    def _tell(self) -> None:
        """It has ended: tell whoever has not been told. Lists exist only where somebody has asked for them."""
        waiters = self.__dict__.get("_waiters")
        if waiters is not None:
            waiters.tell()
        self._wake_sleepers()
        self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        callbacks = self.__dict__.get("_done_callbacks")
        if not callbacks:
            return
        # Taken out and called in one step, so that no interrupt falls between the two: one may hit the callback, not lose it.
        calls = map(operator.call, iter(callbacks.popleft, None), repeat(self))
        while callbacks:
            try:
                next(calls)
            except IndexError as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                    logger.exception("exception calling callback for %r", self)
                # Otherwise another thread took the last one.
            except KeyboardInterrupt as error:
                if threading.current_thread() is threading.main_thread() and not self._is_outcome(error):
                    raise
                logger.exception("exception calling callback for %r", self)
            except BaseException:
                # Also what ends programs: a callback that asks for the result of a task gets what the task raised, and
                # the thread it would end completes all other futures.
                logger.exception("exception calling callback for %r", self)

    def _is_outcome(self, error: BaseException) -> bool:
        """Whether this is what its task raised."""
        return self._outcome is not None and self._outcome[1] is error

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None:
            timeout = checked_timeout(timeout)
        self.sleep_until_done(timeout)
        if self._ended is None:
            raise FutureTimeoutError(f"task {self.number} is not done after {round(timeout or 0.0, 3):g} s")

    def sleep_until_done(self, timeout: float | None) -> None:
        """Wait until it is done, or so many seconds."""
        # By a bare lock: who is woken from a condition has to wait once more, for whoever woke it to let go of that.
        sleeper = threading.Lock()
        sleeper.acquire()
        sleepers: deque[threading.Lock] = self.__dict__.setdefault("_sleepers", deque())
        try:
            sleepers.append(sleeper)
            if self._ended is None:
                self.want()
                self.client.owner.waiting.sleep(sleeper, self.done, timeout)
        finally:
            if self._ended is None:
                forget(sleepers, sleeper)

    def _wake_sleepers(self) -> None:
        sleepers = self.__dict__.get("_sleepers")
        if sleepers:
            wake(sleepers)

    def _restore(self) -> tuple[Any, BaseException | None]:
        """Turn the answer's bytes into value or exception. Of two threads that do so the first one's stay."""
        payload = self._payload
        if payload is None:
            assert self._outcome is not None
            return self._outcome
        client = self.client
        restored = client.owner.restore(self._status, payload, self.number, client.serializer)
        outcome: tuple[Any, BaseException | None] = self.__dict__.setdefault("_outcome", restored)
        self._payload = None
        return outcome


def _restore_and_let_go(reference: weakref.ref[ScalerFuture], _objects: Sequence[bytes]) -> Any:
    """Stands in for `ScalerFuture._restore` of a future that refers to these uses of objects."""
    future = reference()
    assert future is not None
    outcome = type(future)._restore(future)
    future.__dict__.pop("_restore", None)
    return outcome


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
    profiles: Sequence[Mapping[str, int] | None] | None,
) -> None:
    """Complete many futures, and only then tell whoever waits for them.

    `statuses` may be empty: all succeeded. `profiles` has what was measured of each, by
    the names of columns, or is None.
    """
    awaited = []
    cancelled = []
    sleepers: list[deque[threading.Lock]] = []
    for position, future in enumerate(futures):
        fields = future.__dict__
        if "_ended" in fields:
            continue
        if statuses:
            if statuses[position] == _CANCELED:
                said = payloads[position]
                # Somebody else has cancelled it: the scheduler says who.
                cancelled.append((future, said.decode("utf-8", "replace") if isinstance(said, bytes) else ""))
                continue
            fields["_status"] = statuses[position]
        fields["_payload"] = payloads[position]
        if profiles is not None:
            fields["_profile"] = profiles[position]
        if fields.setdefault("_ended", FINISHED) is not FINISHED:
            # It was cancelled just now.
            fields.pop("_payload", None)
            continue
        if "_waiters" in fields or "_done_callbacks" in fields:
            awaited.append(future)
        elif "_sleepers" in fields:
            sleepers.append(fields["_sleepers"])
    for future in awaited:
        future.end_answered()
    for future, reason in cancelled:
        future.end_cancelled(ClientCancelledException(f"task {future.number} was {reason or 'cancelled'}"))
    for waiting in sleepers:
        # As the last thing: who wakes wants the interpreter, which this thread holds until it sleeps.
        wake(waiting)
