"""`AsyncClient`: a client for programs on asyncio. Around a plain `Client`, whose thread does the work.

Imports asyncio only once it connects, so that `import scaler` stays light.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Hashable, Iterable, Iterator, Mapping
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from scaler.client.async_calls import AsyncCalls
from scaler.client.async_worker_calls import AsyncWorkerCalls
from scaler.client.awaiting import in_thread
from scaler.client.client import Client
from scaler.client.object_reference import ObjectReference
from scaler.errors import SerializationError
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from datetime import timedelta
    from typing import Unpack

    from scaler.client.async_future import AsyncFuture
    from scaler.client.async_jobs import AsyncJobBlock, AsyncJobs
    from scaler.client.async_locks import AsyncNamedLock
    from scaler.client.future import ScalerFuture
    from scaler.client.signatures import A, B, C, Capabilities, Graph, K, Keys, TaskOptions

V = TypeVar("V")


class AsyncClient(AsyncCalls, AsyncWorkerCalls):
    """As `Client`, for asyncio: it never blocks the event loop, and its futures are asyncio's.

        async with AsyncClient("tcp://127.0.0.1:2345") as client:
            print(await client.submit(math.sqrt, 16))

    It belongs to the event loop in which it connects: with `async with`, or `client = await AsyncClient(address)`. Inside a
    task the address may be left out.
    """

    def __init__(
        self,
        address: str | PathLike[str] | None = None,
        profiling: bool = False,
        timeout_seconds: float = 60,
        heartbeat_interval_seconds: float = 2,
        serializer: AnySerializer | None = None,
        stream_output: bool = False,
        object_storage_address: str | None = None,
        *,
        security: str | PathLike[str] | None = None,
        detached: bool = False,
        name: str | None = None,
        group: str | None = None,
    ) -> None:
        """Keep the settings, those of `Client`, which also says what they mean. It connects, or fails to, later."""
        self._make_client = partial(
            Client,
            address,
            profiling,
            timeout_seconds,
            heartbeat_interval_seconds,
            serializer,
            stream_output,
            object_storage_address,
            security=security,
            detached=detached,
            name=name,
            group=group,
        )
        self._is_nested = address is None
        self._client: Client | None = None
        self._loop: AbstractEventLoop | None = None
        self._get_loop: Callable[[], AbstractEventLoop]

    # --- connecting

    async def connect(self) -> Self:
        """Connect in the running event loop, unless it is connected already. Raises what `Client` raises."""
        import asyncio

        from scaler.client.async_future import AsyncFuture, Delivery

        if self._client is not None:
            self._own()
            return self
        loop = asyncio.get_running_loop()
        # Inside a task there is nothing to wait for.
        client = self._make_client() if self._is_nested else await loop.run_in_executor(None, self._make_client)
        client.operations.engine.tasks.waits_for_permission = self._is_nested
        self._get_loop = asyncio.get_running_loop
        self._delivery = Delivery(loop)
        self._make_future = AsyncFuture
        self._loop, self._client = loop, client
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.connect().__await__()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def disconnect(self) -> None:
        """End the session. Unanswered futures raise ClientQuitException. Idempotent."""
        if self._client is not None:
            await in_thread(self._client.disconnect)

    async def shutdown(self) -> None:
        """Stop the scheduler and its workers, and disconnect. Raises ValueError when the scheduler is protected."""
        await in_thread(self._own().shutdown)

    async def clear(self) -> None:
        """End this client's futures, which raise ClientCancelledException, and make its references invalid."""
        await in_thread(self._own().clear)

    # --- tasks

    def with_options(self, **options: Unpack[TaskOptions]) -> Self:
        """Return this client with options for all of its calls, as `Client.with_options`. It must be connected."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._client = self._own().with_options(**options)
        return other

    def as_completed(
        self, futures: Iterable[AsyncFuture[V]], timeout: float | None = None
    ) -> AsyncIterator[AsyncFuture[V]]:
        """Return an asynchronous iterator over the futures as they end, those first that have ended; each comes once.

        After `timeout` seconds it raises TimeoutError. Raises TypeError for what is no future of an AsyncClient.
        """
        from scaler.client.async_many import completed_futures
        from scaler.client.gathering import checked_futures

        self._own()
        return completed_futures(checked_futures(futures, self._make_future), timeout)

    @overload
    async def gather(
        self, futures: AsyncFuture[V], timeout: float | None = None, *, return_exceptions: Literal[False] = False
    ) -> V: ...

    @overload
    async def gather(
        self,
        futures: list[AsyncFuture[V]] | Iterator[AsyncFuture[V]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[V]: ...

    @overload
    async def gather(
        self,
        futures: dict[K, AsyncFuture[V]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> dict[K, V]: ...

    @overload
    async def gather(
        self,
        futures: tuple[AsyncFuture[A], AsyncFuture[B]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[A, B]: ...

    @overload
    async def gather(
        self,
        futures: tuple[AsyncFuture[A], AsyncFuture[B], AsyncFuture[C]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[A, B, C]: ...

    @overload
    async def gather(
        self,
        futures: tuple[AsyncFuture[V], ...],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[V, ...]: ...

    @overload
    async def gather(
        self, futures: set[AsyncFuture[V]], timeout: float | None = None, *, return_exceptions: Literal[False] = False
    ) -> set[V]: ...

    @overload
    async def gather(
        self, futures: list[AsyncFuture[V]], timeout: float | None = None, *, return_exceptions: Literal[True]
    ) -> list[V | BaseException]: ...

    @overload
    async def gather(self, futures: Any, timeout: float | None = None, *, return_exceptions: bool = False) -> Any: ...

    async def gather(self, futures: Any, timeout: float | None = None, *, return_exceptions: bool = False) -> Any:
        """Return `futures` with results in place of the futures, as `Client.gather`. Cancelled, it cancels all of them."""
        from scaler.client.async_many import gathered

        self._own()
        return await gathered(futures, timeout, return_exceptions)

    async def cancel(self, futures: Any, timeout: float | None = None) -> None:
        """Cancel one future, or all in any nesting, and stop their tasks, running or not.

        With `timeout`, wait up to so many seconds for the confirmation that none of the tasks runs any more.
        """
        from scaler.client.gathering import found_futures

        client = self._own()
        pending = [future for future in found_futures(futures, self._make_future)[1] if not future.done()]
        for future in pending:
            future.cancel()
        if timeout is not None:
            await in_thread(partial(client.owner.cancel, [future.task for future in pending], timeout))

    @overload
    async def get(
        self,
        graph: Graph,
        keys: list[K],
        block: Literal[True] = True,
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> dict[K, Any]: ...

    @overload
    async def get(
        self,
        graph: Graph,
        keys: list[K],
        block: Literal[False],
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> dict[K, AsyncFuture[Any]]: ...

    @overload
    async def get(
        self,
        graph: Graph,
        keys: Keys,
        block: Literal[True] = True,
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> dict[Any, Any]: ...

    @overload
    async def get(
        self,
        graph: Graph,
        keys: Keys,
        block: Literal[False],
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> dict[Any, AsyncFuture[Any]]: ...

    @overload
    async def get(
        self,
        graph: Graph,
        keys: Keys,
        block: bool,
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> dict[Any, Any]: ...

    async def get(
        self,
        graph: Mapping[Any, Any],
        keys: Iterable[Any] | Hashable,
        block: bool = True,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> dict[Any, Any]:
        """Compute a graph and return the values of `keys`, or with `block=False` their futures, as `Client.get`.

        Raises what a value raises, as soon as one fails; the others are cancelled then, and where this is cancelled.
        """
        from scaler.client.async_many import all_or_none, with_tasks

        client = self._own()
        try:
            tasks = client.get(graph, keys, False, capabilities, **options)
        except SerializationError:
            graph, found = with_tasks(dict(graph))
            if not found:
                raise
            tasks = client.get(graph, keys, False, capabilities, **options)
        futures = {key: self._make_future(task, self._delivery) for key, task in tasks.items()}
        return await all_or_none(futures) if block else dict(futures)

    async def send_object(self, obj: V, name: str | None = None) -> ObjectReference[V]:
        """Store `obj` once, for many tasks, as `Client.send_object`; in a thread, which reads `obj` until this returns."""
        return await in_thread(partial(self._own().send_object, obj, name))

    # --- locks and jobs

    def lock(self, name: str, *, timeout: float = 600.0) -> AsyncNamedLock:
        """Return a lock for `async with` that one block in the whole cluster holds at a time, as `Client.lock`."""
        return self.semaphore(name, 1, timeout=timeout)

    def semaphore(self, name: str, count: int, *, timeout: float = 600.0) -> AsyncNamedLock:
        """Return a semaphore for `async with`, which `count` blocks hold at a time, as `Client.semaphore`."""
        from scaler.client.async_locks import AsyncNamedLock
        from scaler.client.locks import checked_lock

        return AsyncNamedLock(self._own().operations, *checked_lock(name, count, timeout))

    def job(self, name: str, *, keep: float | str | timedelta | None = None) -> AsyncJobBlock:
        """Return an `async with` block whose tasks belong to a job, as `Client.job`.

        It counts for what the coroutine submits by `submit` and `submit_verbose`, and for the asyncio tasks that it starts in the
        block, until the block ends.
        """
        from scaler.client.async_jobs import AsyncJobBlock

        return AsyncJobBlock(self._own().source, self._as_async, name, keep)

    def jobs(self) -> AsyncJobs:
        """Return the jobs at the scheduler: `await client.jobs().get(name)`, `names()` and `statuses()`. See `docs/jobs.md`."""
        from scaler.client.async_jobs import AsyncJobs

        return AsyncJobs(self._own().source, self._as_async)

    def _as_async(self, task: ScalerFuture[Any]) -> AsyncFuture[Any]:
        return self._make_future(task, self._delivery)

    # --- of the client

    @property
    def client(self) -> Client:
        """The plain client underneath, for what has no coroutine here. Its methods may block the event loop."""
        return self._own()

    @property
    def identity(self) -> bytes:
        """As `Client.identity`."""
        return self._connected().identity

    @property
    def name(self) -> str | None:
        """As `Client.name`."""
        return self._connected().name

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return self._connected().address

    @property
    def dashboard_url(self) -> str | None:
        """As `Client.dashboard_url`."""
        return self._connected().dashboard_url

    def dashboard(self, width: int | str = "100%", height: int | str = 600) -> Any:
        """As `Client.dashboard`."""
        return self._connected().dashboard(width, height)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'not connected yet' if self._client is None else repr(self._client)}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "an AsyncClient cannot be copied or sent: inside a task, AsyncClient() is one of the same cluster"
        )

    # --- internal

    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError(
                "this AsyncClient is not connected yet: use `async with client`, or `await client.connect()`"
            )
        return self._client

    def _own(self) -> Client:
        """Return the plain client. Raises RuntimeError unless the running event loop is the one this is connected in."""
        client = self._client
        if client is None:
            return self._connected()
        try:
            if self._get_loop() is self._loop:
                return client
            where = "another event loop runs here"
        except RuntimeError:
            where = "no event loop runs in this thread"
        raise RuntimeError(
            f"an AsyncClient is used in the event loop in which it connected, and {where}: "
            "make one AsyncClient for each loop, or use a Client, which any thread may use"
        )
