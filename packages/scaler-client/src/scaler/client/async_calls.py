"""The methods of `AsyncClient` that call functions on workers. Apart from it for the room that their signatures take."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from scaler.client.client import Client
from scaler.errors import SerializationError

if TYPE_CHECKING:
    from typing import Concatenate, Unpack

    from scaler.client.async_future import AsyncFuture, Delivery
    from scaler.client.map_run import MapRun
    from scaler.client.mapped_items import MappedItems
    from scaler.client.signatures import (
        A,
        Args,
        B,
        C,
        Capabilities,
        Coro,
        K,
        Kwargs,
        LazyOptions,
        P,
        StarOptions,
        TaskOptions,
        Ts,
        V,
        Variadic,
    )
    from scaler.client.signatures import AsyncGiven as Given
    from scaler.client.signatures import AsyncGivenItems as GivenItems
    from scaler.client.signatures import AsyncLazyItems as LazyItems
    from scaler.client.signatures import AsyncMapOptions as MapOptions
    from scaler.client.signatures import AsyncRemote as Remote
    from scaler.client.signatures import AsyncRemoteDict as RemoteDict
    from scaler.client.signatures import AsyncRemoteList as RemoteList


class AsyncCalls:
    """See the module."""

    _delivery: Delivery
    _make_future: type[AsyncFuture]

    @overload
    def submit(self, fn: Variadic[A, Coro[V]], a: Remote[A], /, *args: Given[A]) -> AsyncFuture[V]: ...

    @overload
    def submit(self, fn: Variadic[A, V], a: Remote[A], /, *args: Given[A]) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[A, P], Coro[V]], a: Remote[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[A, P], V], a: Remote[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self,
        fn: Callable[Concatenate[A, B, P], Coro[V]],
        a: Given[A],
        b: Remote[B],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[A, B, P], V], a: Given[A], b: Remote[B], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncFuture[V]: ...

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
    ) -> AsyncFuture[V]: ...

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
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[list[A], P], Coro[V]], a: RemoteList[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[list[A], P], V], a: RemoteList[A], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self,
        fn: Callable[Concatenate[dict[K, A], P], Coro[V]],
        a: RemoteDict[K, A],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(
        self, fn: Callable[Concatenate[dict[K, A], P], V], a: RemoteDict[K, A], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncFuture[V]: ...

    @overload
    def submit(self, fn: Callable[P, Coro[V]], /, *args: P.args, **kwargs: P.kwargs) -> AsyncFuture[V]: ...

    @overload
    def submit(self, fn: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> AsyncFuture[V]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncFuture[Any]:
        """Run `fn(*args, **kwargs)` on a worker and return its future at once: await that for the result.

        Where the scheduler limits waiting tasks, those beyond the limit wait in this client until it permits them. Raises
        SerializationError for what cannot be sent, DisconnectedError while no scheduler answers.
        """
        client = self._own()
        submit = client.submit_call
        try:
            task = submit(client, fn, args, kwargs)
        except SerializationError as error:
            task = submit(client, fn, *with_plain_futures(error, args, kwargs))
        return self._make_future(task, self._delivery)

    @overload
    def submit_verbose(
        self,
        fn: Callable[..., Coro[V]],
        args: Args = (),
        kwargs: Kwargs = None,
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> AsyncFuture[V]: ...

    @overload
    def submit_verbose(
        self,
        fn: Callable[..., V],
        args: Args = (),
        kwargs: Kwargs = None,
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> AsyncFuture[V]: ...

    def submit_verbose(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> AsyncFuture:
        """As `submit`, on a worker with these capabilities, such as `{"gpu": -1}`; -1 means: any amount.

        `options`: `label` and `tags`, see `Client.with_options`; also of the other methods here.
        """
        client = self._own()
        try:
            task = client.submit_verbose(fn, args, kwargs, capabilities, **options)
        except SerializationError as error:
            task = client.submit_verbose(fn, *with_plain_futures(error, args, kwargs), capabilities, **options)
        return self._make_future(task, self._delivery)

    @overload
    async def map(
        self, fn: Callable[[A], Coro[V]], a: Iterable[Remote[A]], /, **options: Unpack[MapOptions]
    ) -> list[V]: ...

    @overload
    async def map(self, fn: Callable[[A], V], a: Iterable[Remote[A]], /, **options: Unpack[MapOptions]) -> list[V]: ...

    @overload
    async def map(self, fn: Callable[[A], Coro[V]], a: GivenItems[A], /, **options: Unpack[MapOptions]) -> list[V]: ...

    @overload
    async def map(self, fn: Callable[[A], V], a: GivenItems[A], /, **options: Unpack[MapOptions]) -> list[V]: ...

    @overload
    async def map(
        self, fn: Callable[[A, B], Coro[V]], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[MapOptions]
    ) -> list[V]: ...

    @overload
    async def map(
        self, fn: Callable[[A, B], V], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[MapOptions]
    ) -> list[V]: ...

    @overload
    async def map(
        self,
        fn: Callable[..., Coro[V]],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[MapOptions],
    ) -> list[V]: ...

    @overload
    async def map(
        self,
        fn: Callable[..., V],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[MapOptions],
    ) -> list[V]: ...

    async def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        capabilities: Mapping[str, int] | None = None,
        timeout: float | None = None,
        ordered: bool = True,
        **options: Any,
    ) -> list[Any]:
        """Return `list(map(fn, *iterables))`, computed by the workers. Cancelled, it cancels what is left.

        As `Client.map`, except that it never unpacks tuples: no program of an earlier version calls it.
        """
        from scaler.client.async_many import run_map
        from scaler.client.mapped_items import called_items

        items = called_items("map", iterables)
        return await run_map(self._map_run("map", options, fn, items, capabilities, ordered), timeout)

    @overload
    async def starmap(
        self,
        fn: Callable[[*Ts], Coro[V]],
        iterable: Iterable[tuple[*Ts]],
        capabilities: Capabilities = None,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    async def starmap(
        self,
        fn: Callable[[*Ts], V],
        iterable: Iterable[tuple[*Ts]],
        capabilities: Capabilities = None,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    async def starmap(
        self,
        fn: Callable[[A, B], Coro[V]],
        iterable: Iterable[tuple[Given[A], Given[B]]],
        capabilities: Capabilities = None,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    async def starmap(
        self,
        fn: Callable[[A, B], V],
        iterable: Iterable[tuple[Given[A], Given[B]]],
        capabilities: Capabilities = None,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    async def starmap(
        self,
        fn: Callable[..., Coro[V]],
        iterable: Iterable[list[Any]],
        capabilities: Capabilities = None,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    async def starmap(
        self,
        fn: Callable[..., V],
        iterable: Iterable[list[Any]],
        capabilities: Capabilities = None,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    async def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        capabilities: Mapping[str, int] | None = None,
        *,
        timeout: float | None = None,
        ordered: bool = True,
        **options: Any,
    ) -> list[Any]:
        """As `map`, for an iterable of argument tuples."""
        from scaler.client.async_many import run_map
        from scaler.client.mapped_items import starred_items

        items = starred_items(iterable)
        return await run_map(self._map_run("starmap", options, fn, items, capabilities, ordered), timeout)

    @overload
    def imap(
        self, fn: Callable[[A], Coro[V]], a: LazyItems[A], /, **options: Unpack[LazyOptions]
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap(self, fn: Callable[[A], V], a: LazyItems[A], /, **options: Unpack[LazyOptions]) -> AsyncGenerator[V]: ...

    @overload
    def imap(
        self, fn: Callable[[A, B], Coro[V]], a: LazyItems[A], b: LazyItems[B], /, **options: Unpack[LazyOptions]
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap(
        self, fn: Callable[[A, B], V], a: LazyItems[A], b: LazyItems[B], /, **options: Unpack[LazyOptions]
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., Coro[V]],
        a: LazyItems[Any],
        b: LazyItems[Any],
        c: LazyItems[Any],
        /,
        *more: LazyItems[Any],
        **options: Unpack[LazyOptions],
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., V],
        a: LazyItems[Any],
        b: LazyItems[Any],
        c: LazyItems[Any],
        /,
        *more: LazyItems[Any],
        **options: Unpack[LazyOptions],
    ) -> AsyncGenerator[V]: ...

    def imap(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any]:
        """Return an asynchronous iterator over `map(fn, *iterables)`, for any number of items, as `Client.imap`.

        Iterables may be asynchronous: items are awaited, in a task, as they are wanted, and sent as they come.

        Leave it early inside `async with contextlib.aclosing(…)`, which cancels what is left at once.
        """
        from scaler.client.async_many import lazy_map

        make_run = partial(self._map_run, "imap", options, fn, capabilities=capabilities, ordered=True)
        return lazy_map(make_run, iterables, buffersize)

    @overload
    def imap_unordered(
        self, fn: Callable[[A], Coro[V]], a: LazyItems[A], /, **options: Unpack[LazyOptions]
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap_unordered(
        self, fn: Callable[[A], V], a: LazyItems[A], /, **options: Unpack[LazyOptions]
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap_unordered(
        self, fn: Callable[[A, B], Coro[V]], a: LazyItems[A], b: LazyItems[B], /, **options: Unpack[LazyOptions]
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap_unordered(
        self, fn: Callable[[A, B], V], a: LazyItems[A], b: LazyItems[B], /, **options: Unpack[LazyOptions]
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., Coro[V]],
        a: LazyItems[Any],
        b: LazyItems[Any],
        c: LazyItems[Any],
        /,
        *more: LazyItems[Any],
        **options: Unpack[LazyOptions],
    ) -> AsyncGenerator[V]: ...

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., V],
        a: LazyItems[Any],
        b: LazyItems[Any],
        c: LazyItems[Any],
        /,
        *more: LazyItems[Any],
        **options: Unpack[LazyOptions],
    ) -> AsyncGenerator[V]: ...

    def imap_unordered(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any]:
        """As `imap`, with results as they come."""
        from scaler.client.async_many import lazy_map

        make_run = partial(self._map_run, "imap_unordered", options, fn, capabilities=capabilities, ordered=False)
        return lazy_map(make_run, iterables, buffersize)

    # --- internal

    def _own(self) -> Client:
        """Return the plain client, see `AsyncClient`."""
        raise NotImplementedError

    def _map_run(
        self,
        call: str,
        options: Mapping[str, Any],
        fn: Callable[..., Any],
        items: MappedItems,
        capabilities: Mapping[str, int] | None,
        ordered: bool,
    ) -> MapRun:
        from scaler.client.async_many import plain

        client = self._own()
        own = client.options_of(call, options)
        return client.operations.map_run(client.source, fn, plain(items), capabilities, ordered, own, {})


def with_plain_futures(error: SerializationError, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return arguments with plain futures in place of asyncio's. Raises `error` where there are none."""
    from scaler.client.async_many import with_tasks

    (plain_args, plain_kwargs), found = with_tasks((tuple(args), dict(kwargs or {})))
    if not found:
        raise error
    return plain_args, plain_kwargs
