"""`AsyncClient`: a client for programs on asyncio. Around a plain `Client`, whose thread does the work.

Imports asyncio only once it connects, so that `import scaler` stays light.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Hashable, Iterable, Mapping
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from scaler.client.client import Client
from scaler.client.object_reference import ObjectReference
from scaler.errors import SerializationError
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from scaler.client.async_future import AsyncFuture, Delivery
    from scaler.client.map_run import MapRun
    from scaler.client.mapped_items import MappedItems

R = TypeVar("R")
V = TypeVar("V")


class AsyncClient:
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
        )
        self._is_nested = address is None
        self._client: Client | None = None
        self._loop: AbstractEventLoop | None = None
        self._get_loop: Callable[[], AbstractEventLoop]
        self._delivery: Delivery
        self._make_future: type[AsyncFuture]

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
            await _in_thread(self._client.disconnect)

    async def shutdown(self) -> None:
        """Stop the scheduler and its workers, and disconnect. Raises ValueError when the scheduler is protected."""
        await _in_thread(self._own().shutdown)

    async def clear(self) -> None:
        """End this client's futures, which raise ClientCancelledException, and make its references invalid."""
        await _in_thread(self._own().clear)

    # --- tasks

    @overload
    def submit(self, fn: Callable[..., Coroutine[Any, Any, R]], /, *args: Any, **kwargs: Any) -> AsyncFuture[R]: ...

    @overload
    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> AsyncFuture[R]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncFuture[Any]:
        """Run `fn(*args, **kwargs)` on a worker and return its future at once: await that for the result.

        Where the scheduler limits waiting tasks, those beyond the limit wait in this client until it permits them. Raises
        SerializationError for what cannot be sent, DisconnectedError while no scheduler answers.
        """
        client = self._own()
        submit = client.operations.submit
        try:
            task = submit(client, fn, args, kwargs)
        except SerializationError as error:
            task = submit(client, fn, *_with_tasks(error, args, kwargs))
        return self._make_future(task, self._delivery)

    def submit_verbose(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, int] | None = None,
    ) -> AsyncFuture:
        """As `submit`, on a worker with these capabilities, such as `{"gpu": -1}`; -1 means: any amount."""
        client = self._own()
        try:
            task = client.submit_verbose(fn, args, kwargs, capabilities)
        except SerializationError as error:
            task = client.submit_verbose(fn, *_with_tasks(error, args, kwargs), capabilities)
        return self._make_future(task, self._delivery)

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
            await _in_thread(partial(client.owner.cancel, [future.task for future in pending], timeout))

    async def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        capabilities: Mapping[str, int] | None = None,
        timeout: float | None = None,
        ordered: bool = True,
    ) -> list[Any]:
        """Return `list(map(fn, *iterables))`, computed by the workers, as `Client.map`. Cancelled, it cancels what is left."""
        from scaler.client.async_many import run_map
        from scaler.client.mapped_items import called_items

        return await run_map(self._map_run(fn, called_items("map", iterables), capabilities, ordered), timeout)

    async def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        capabilities: Mapping[str, int] | None = None,
        *,
        timeout: float | None = None,
        ordered: bool = True,
    ) -> list[Any]:
        """As `map`, for an iterable of argument tuples."""
        from scaler.client.async_many import run_map
        from scaler.client.mapped_items import starred_items

        return await run_map(self._map_run(fn, starred_items(iterable), capabilities, ordered), timeout)

    def imap(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        capabilities: Mapping[str, int] | None = None,
    ) -> AsyncIterator[Any]:
        """Return an asynchronous iterator over `map(fn, *iterables)`, for any number of items, as `Client.imap`.

        Leave it early inside `async with contextlib.aclosing(…)`, which cancels what is left at once.
        """
        return self._imap(fn, iterables, buffersize, capabilities, True)

    def imap_unordered(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        capabilities: Mapping[str, int] | None = None,
    ) -> AsyncIterator[Any]:
        """As `imap`, with results as they come."""
        return self._imap(fn, iterables, buffersize, capabilities, False)

    async def get(
        self,
        graph: Mapping[Any, Any],
        keys: Iterable[Any] | Hashable,
        block: bool = True,
        capabilities: Mapping[str, int] | None = None,
    ) -> dict[Any, Any]:
        """Compute a graph and return the values of `keys`, or with `block=False` their futures, as `Client.get`.

        Raises what a value raises, as soon as one fails; the others are cancelled then, and where this is cancelled.
        """
        from scaler.client.async_many import all_or_none, with_tasks

        client = self._own()
        try:
            tasks = client.get(graph, keys, False, capabilities)
        except SerializationError:
            graph, found = with_tasks(dict(graph))
            if not found:
                raise
            tasks = client.get(graph, keys, False, capabilities)
        futures = {key: self._make_future(task, self._delivery) for key, task in tasks.items()}
        return await all_or_none(futures) if block else dict(futures)

    async def send_object(self, obj: Any, name: str | None = None) -> ObjectReference:
        """Store `obj` once, for many tasks, as `Client.send_object`; in a thread, which reads `obj` until this returns."""
        return await _in_thread(partial(self._own().send_object, obj, name))

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
    def address(self) -> str:
        """The scheduler's address."""
        return self._connected().address

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

    def _map_run(
        self, fn: Callable[..., Any], items: MappedItems, capabilities: Mapping[str, int] | None, ordered: bool
    ) -> MapRun:
        from scaler.client.async_many import plain

        client = self._own()
        return client.operations.map_run(client, fn, plain(items), capabilities, ordered, {})

    def _imap(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        buffersize: int | None,
        capabilities: Mapping[str, int] | None,
        ordered: bool,
    ) -> AsyncIterator[Any]:
        from scaler.client.async_many import iterate_map
        from scaler.client.checks import checked_buffersize
        from scaler.client.mapped_items import called_items

        size = checked_buffersize(buffersize)
        return iterate_map(self._map_run(fn, called_items("imap", iterables), capabilities, ordered), size)


def _with_tasks(error: SerializationError, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return arguments with plain futures in place of asyncio's. Raises `error` where there are none."""
    from scaler.client.async_many import with_tasks

    (plain_args, plain_kwargs), found = with_tasks((tuple(args), dict(kwargs or {})))
    if not found:
        raise error
    return plain_args, plain_kwargs


async def _in_thread(call: Callable[[], V]) -> V:
    """Call what blocks, in a thread."""
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, call)
