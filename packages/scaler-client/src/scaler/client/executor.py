"""`ScalerExecutor`: a cluster as a `concurrent.futures.Executor`, for code that takes one."""

from __future__ import annotations

import _thread
import atexit
import functools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, wait
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, overload

from scaler.client.client import Client
from scaler.client.future import ScalerFuture
from scaler.errors import ScalerError
from scaler.local.combo import SchedulerClusterCombo
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Concatenate, Unpack

    from scaler.client.signatures import (
        A,
        B,
        C,
        Coro,
        ExecutorMapOptions,
        Given,
        GivenItems,
        K,
        P,
        Remote,
        RemoteDict,
        RemoteList,
        TaskOptions,
        V,
        Variadic,
    )

ENTERING_SECONDS = 0.005
"""How often to look whether other threads are done submitting."""


class _Session:
    """What an executor has opened. It outlives the executor until all that was submitted is done."""

    def __init__(self, client: Client, cluster: SchedulerClusterCombo | None) -> None:
        self.client = client
        self.cluster = cluster
        self.is_shut = False
        self.submitting: deque[int] = deque()
        """The threads that are inside of `submit` now."""
        self._closed = threading.Event()
        self._claim: list[None] = [None]
        """Who pops it closes."""
        # The program does not end before all is done. By then the services that run for it still do.
        atexit.register(self.finish)

    def shut(self, *, cancel_waiting: bool) -> None:
        """Take no more tasks."""
        self.is_shut = True
        if cancel_waiting:
            mine = self._unfinished()
            if mine:
                self.client.operations.engine.futures.withdraw(mine)

    def _unfinished(self) -> list[ScalerFuture]:
        try:
            return self.client.operations.unanswered(self.client)
        except ScalerError:
            # The connection is closed, or lost: its client has told everybody who waits.
            return []

    def finish_later(self) -> None:
        """As `finish`, without keeping the caller. A finalizer may call it, on any thread, in the middle of anything."""
        self.is_shut = True
        # Not a `threading.Thread`: to start one takes locks of that module, which the caller may hold, and waits for the thread.
        # At exit `finish` waits for it.
        _thread.start_new_thread(self.finish, ())

    def finish(self, *, cancel_waiting: bool = False) -> None:
        """Wait until everything is done that was submitted, and close. Also when others do the same meanwhile."""
        self.shut(cancel_waiting=cancel_waiting)
        me = threading.get_ident()
        while any(thread != me for thread in tuple(self.submitting)):
            time.sleep(ENTERING_SECONDS)
        while unfinished := self._unfinished():
            wait(unfinished)
        try:
            self._claim.pop()
        except IndexError:
            self._closed.wait()
            return
        try:
            self.client.disconnect()
        finally:
            if self.cluster is not None:
                self.cluster.shutdown()
            self._closed.set()
            atexit.unregister(self.finish)


class ScalerExecutor(Executor):
    """A cluster as a standard executor.

        with ScalerExecutor(n_workers=4) as executor:
            print(list(executor.map(math.sqrt, range(100))))

    As `ProcessPoolExecutor`, and: futures are `ScalerFuture`s, whose `cancel` also stops a task that runs and which count as
    running from submission on; functions may be lambdas and closures; a task whose process dies is tried again. It works
    wherever an executor is asked for, such as `loop.run_in_executor`.
    """

    def __init__(
        self,
        address: str | PathLike[str] | None = None,
        n_workers: int | None = None,
        *,
        profiling: bool = False,
        timeout_seconds: float = 60,
        serializer: AnySerializer | None = None,
        stream_output: bool = False,
        object_storage_address: str | None = None,
        security: str | PathLike[str] | None = None,
        name: str | None = None,
        group: str | None = None,
    ) -> None:
        """Connect to the cluster at `address`, or start one on this machine with `n_workers`, which ends with the executor.

        With neither, there are as many workers as CPUs; inside a task it is then the cluster that runs the task. The other
        settings are those of `Client`, and it raises what that and `SchedulerClusterCombo` raise; ValueError for both.
        """
        if address is not None and n_workers is not None:
            raise ValueError("n_workers is for a cluster that the executor starts: it cannot be given with an address")
        # These would double what `import scaler` costs.
        from scaler_protocol.runtime.task_context import current_task_context

        cluster = None
        if address is None and (n_workers is not None or current_task_context() is None):
            if n_workers == 0:
                raise ValueError("n_workers must be at least 1: nothing would ever run")
            cluster = SchedulerClusterCombo(n_workers, security=security)
        try:
            client = Client(
                cluster.get_address() if cluster is not None else address,
                profiling=profiling,
                timeout_seconds=timeout_seconds,
                serializer=serializer,
                stream_output=stream_output,
                object_storage_address=object_storage_address,
                security=security,
                name=name,
                group=group,
            )
        except BaseException:
            if cluster is not None:
                cluster.shutdown()
            raise
        self._session = _Session(client, cluster)
        self._client = client
        self._finalizer = weakref.finalize(self, self._session.finish_later)
        # At exit the session itself sees to it.
        self._finalizer.atexit = False

    def with_options(self, **options: Unpack[TaskOptions]) -> Self:
        """Return this executor with options for all of its calls, as `Client.with_options`. Shutting one down ends both."""
        other = object.__new__(type(self))
        # The first one is kept: when nobody has it any more, the session ends.
        other.__dict__.update(self.__dict__, _client=self._client.with_options(**options), _origin=self)
        return other

    @property
    def address(self) -> str:
        """The scheduler's address: other clients may connect there."""
        return self._session.client.address

    @overload
    def submit(self, fn: Variadic[A, Coro[V]], a: Remote[A], /, *args: Given[A]) -> ScalerFuture[V]: ...

    @overload
    def submit(self, fn: Variadic[A, V], a: Remote[A], /, *args: Given[A]) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[A, P], Coro[V]], a: Remote[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[A, P], V], a: Remote[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self,
        fn: Callable[Concatenate[A, B, P], Coro[V]],
        a: Given[A],
        b: Remote[B],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[A, B, P], V], a: Given[A], b: Remote[B], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self,
        fn: Callable[Concatenate[A, B, C, P], Coro[V]],
        a: Given[A],
        b: Given[B],
        c: Remote[C],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self,
        fn: Callable[Concatenate[A, B, C, P], V],
        a: Given[A],
        b: Given[B],
        c: Remote[C],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[list[A], P], Coro[V]], a: RemoteList[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[list[A], P], V], a: RemoteList[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self,
        fn: Callable[Concatenate[dict[K, A], P], Coro[V]],
        a: RemoteDict[K, A],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[dict[K, A], P], V], a: RemoteDict[K, A], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScalerFuture[V]: ...

    @overload
    def submit(self, fn: Callable[P, Coro[V]], /, *args: P.args, **kwargs: P.kwargs) -> ScalerFuture[V]: ...

    @overload
    def submit(self, fn: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> ScalerFuture[V]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ScalerFuture:
        """Run `fn(*args, **kwargs)` on a worker and return its future.

        Raises RuntimeError after `shutdown`, and what `Client.submit` raises.
        """
        session = self._session
        submitting = session.submitting
        submitting.append(threading.get_ident())
        try:
            if session.is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future = self._client.submit(fn, *args, **kwargs)
        finally:
            submitting.remove(threading.get_ident())
        # The value has to be here when `shutdown` returns.
        future.is_wanted = True
        return future

    # Narrower than the standard one, which takes arguments of any type.
    @overload  # type: ignore[override]
    def map(
        self, fn: Callable[[A], Coro[V]], a: GivenItems[A], /, **options: Unpack[ExecutorMapOptions]
    ) -> Iterator[V]: ...

    @overload
    def map(self, fn: Callable[[A], V], a: GivenItems[A], /, **options: Unpack[ExecutorMapOptions]) -> Iterator[V]: ...

    @overload
    def map(
        self,
        fn: Callable[[A, B], Coro[V]],
        a: GivenItems[A],
        b: GivenItems[B],
        /,
        **options: Unpack[ExecutorMapOptions],
    ) -> Iterator[V]: ...

    @overload
    def map(
        self, fn: Callable[[A, B], V], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[ExecutorMapOptions]
    ) -> Iterator[V]: ...

    @overload
    def map(
        self,
        fn: Callable[..., Coro[V]],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[ExecutorMapOptions],
    ) -> Iterator[V]: ...

    @overload
    def map(
        self,
        fn: Callable[..., V],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[ExecutorMapOptions],
    ) -> Iterator[V]: ...

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> Iterator[Any]:
        """Return an iterator over `map(fn, *iterables)`, whose calls run on the workers from now on.

        `timeout`: seconds from this call on, after which the iterator raises TimeoutError. `chunksize`: so many items are one
        task; where one fails, the others of its chunk have no result. `buffersize`: so many results at most are waited for
        at once, and items are taken from the iterables as the iterator goes on; without, all of them are taken at once.
        Raises TypeError and ValueError for sizes that are no positive integers. `options`: see `with_options`.
        """
        if options:
            # Whatever is no keyword at all ends up here too.
            self._client.operations.no_options.with_given(options, "map", ("timeout", "chunksize", "buffersize"))
            return self.with_options(**options).map(
                fn, *iterables, timeout=timeout, chunksize=chunksize, buffersize=buffersize
            )
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        calls: Iterator[Any] = zip(*iterables, strict=False)
        if chunksize == 1:
            futures = (self.submit(fn, *args) for args in calls)
        else:
            from scaler_protocol.payloads.framing import call_each

            call = functools.partial(call_each, fn)
            chunks = iter(lambda: list(islice(calls, chunksize)), [])
            futures = (self.submit(call, chunk) for chunk in chunks)
        under_way: deque[ScalerFuture] = deque(islice(futures, buffersize))
        results = _results(under_way, futures, end)
        return results if chunksize == 1 else (value for chunk in results for value in chunk)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and end the connection and the cluster of its own once all that was submitted is done.

        `wait`: return then; else at once, and the program does not end before. `cancel_futures`: cancel the tasks that no
        worker has begun. May be called again.
        """
        if wait:
            self._session.finish(cancel_waiting=cancel_futures)
            self._finalizer.detach()
        else:
            self._session.shut(cancel_waiting=cancel_futures)
            if self._finalizer.detach() is not None:
                self._session.finish_later()

    def __repr__(self) -> str:
        state = "shut down" if self._session.is_shut else "open"
        return f"<{type(self).__name__} at {self.address}: {state}>"


def _results(under_way: deque[ScalerFuture], futures: Iterator[ScalerFuture], end: float | None) -> Iterator[Any]:
    """Yield the results in order, and submit the next one for each that is taken. Cancels what is left when it is closed."""
    future: Future[Any] | None = None
    try:
        while under_way:
            future = under_way[0]
            if end is None:
                future.exception()
            else:
                future.exception(end - time.monotonic())
            under_way.popleft()
            under_way.extend(islice(futures, 1))
            yield _take(future)
    finally:
        for left in under_way:
            left.cancel()
        del future


def _take(future: Future[Any]) -> Any:
    """Return a done future's result, and keep no reference to it in a traceback."""
    try:
        return future.result()
    finally:
        del future
