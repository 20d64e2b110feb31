"""The client's methods that call functions on workers. Apart from `Client` for the room that their signatures take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, overload

from scaler.client.future import FutureOwner, ScalerFuture
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from typing import Concatenate, Unpack

    from scaler.client.operations import Operations
    from scaler.client.signatures import (
        A,
        Args,
        B,
        C,
        Capabilities,
        Coro,
        Given,
        GivenItems,
        K,
        Kwargs,
        LazyOptions,
        MapOptions,
        P,
        Remote,
        RemoteDict,
        RemoteList,
        StarOptions,
        TaskOptions,
        Ts,
        V,
        Variadic,
    )
    from scaler_protocol.wire.call_options import CallOptions


class ClientCalls:
    """See the module. A `FutureSource`."""

    operations: Operations
    """What the methods call. For other modules of this package."""
    owner: FutureOwner
    serializer: AnySerializer | None
    profiling: bool
    submit_call: Callable[..., ScalerFuture[Any]]
    """What `submit` does: takes a client, the function and its arguments. For other modules of this package."""
    _options: CallOptions | None = None
    """What all calls ask for, unless they say otherwise; None: nothing."""
    _origin: Self | None = None
    """The client that this one is, with options; None where it is that itself."""

    @property
    def source(self) -> Self:
        """The client whose futures these are."""
        return self if self._origin is None else self._origin

    def options_of(self, call: str, given: Mapping[str, Any]) -> CallOptions:
        """Return what a call with these keywords asks for. For other modules of this package, as `source`."""
        own = self.operations.no_options if self._options is None else self._options
        if self.operations.jobs is not None and call != "with_options":
            own = self.operations.jobs.options_here(own)
        return own.with_given(given, call) if given else own

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

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ScalerFuture[Any]:
        """Run `fn(*args, **kwargs)` on a worker and return its future.

        Raises SerializationError for what cannot be sent, DisconnectedError while no scheduler answers, and
        TooManyTasksError where the scheduler limits waiting tasks and none finished for `timeout_seconds`.

        Keywords are the function's. Where it cannot take one that is an option of calls, such as `label`, this raises TypeError.
        Where `fn` takes no argument `profiling`, `profiling=True` measures this task, see `ScalerFuture.profiling_info`.
        """
        return self.submit_call(self, fn, args, kwargs)

    @overload
    def submit_verbose(
        self,
        fn: Callable[..., Coro[V]],
        args: Args = (),
        kwargs: Kwargs = None,
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> ScalerFuture[V]: ...

    @overload
    def submit_verbose(
        self,
        fn: Callable[..., V],
        args: Args = (),
        kwargs: Kwargs = None,
        capabilities: Capabilities = None,
        **options: Unpack[TaskOptions],
    ) -> ScalerFuture[V]: ...

    def submit_verbose(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> ScalerFuture:
        """As `submit`, on a worker with these capabilities, such as `{"gpu": -1}`; -1 means: any amount.

        `options`: `label`, `retries`, `priority` and others, see `Client.with_options`; also of the other methods here. Raises
        TypeError and ValueError for capabilities that are no names with integers of 64 bits, and for options that do not exist or
        have impossible values.
        """
        own = self.options_of("submit_verbose", options)
        return self.operations.submit_verbose(self.source, fn, args, kwargs, capabilities, own)

    @overload
    def map(self, fn: Callable[[A], Coro[V]], a: Iterable[Remote[A]], /, **options: Unpack[MapOptions]) -> list[V]: ...

    @overload
    def map(self, fn: Callable[[A], V], a: Iterable[Remote[A]], /, **options: Unpack[MapOptions]) -> list[V]: ...

    @overload
    def map(self, fn: Callable[[A], Coro[V]], a: GivenItems[A], /, **options: Unpack[MapOptions]) -> list[V]: ...

    @overload
    def map(self, fn: Callable[[A], V], a: GivenItems[A], /, **options: Unpack[MapOptions]) -> list[V]: ...

    @overload
    def map(
        self, fn: Callable[[A, B], Coro[V]], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[MapOptions]
    ) -> list[V]: ...

    @overload
    def map(
        self, fn: Callable[[A, B], V], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[MapOptions]
    ) -> list[V]: ...

    @overload
    def map(
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
    def map(
        self,
        fn: Callable[..., V],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[MapOptions],
    ) -> list[V]: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        capabilities: Mapping[str, int] | None = None,
        progress: bool = False,
        timeout: float | None = None,
        ordered: bool = True,
        **options: Any,
    ) -> list[Any]:
        """Return `list(map(fn, *iterables))`, computed by the workers.

        Items are sent in chunks, whose size follows how long they take; they are taken from the iterables little by
        little. Raises what the first failing item raised; what is left is cancelled then. `progress` shows a bar that
        counts items; it needs tqdm (`scaler-client[progress]`), and raises ImportError without it. An item that is a
        future, or has some inside, is a task of its own, which runs when their results are there.

        After `timeout` seconds, it cancels what is left and raises TimeoutError. With `ordered=False`, results are in the order
        in which chunks end, and the first failure that is known is raised at once.

        For programs written for version 1.13 or earlier: where `fn` cannot take one argument, tuples in a single iterable are
        its arguments, with a DeprecationWarning. Use `starmap`.
        """
        own = self.options_of("map", options)
        return self.operations.map(self.source, fn, iterables, capabilities, progress, timeout, ordered, own)

    @overload
    def starmap(
        self,
        fn: Callable[[*Ts], Coro[V]],
        iterable: Iterable[tuple[*Ts]],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    def starmap(
        self,
        fn: Callable[[*Ts], V],
        iterable: Iterable[tuple[*Ts]],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    def starmap(
        self,
        fn: Callable[[A, B], Coro[V]],
        iterable: Iterable[tuple[Given[A], Given[B]]],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    def starmap(
        self,
        fn: Callable[[A, B], V],
        iterable: Iterable[tuple[Given[A], Given[B]]],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., Coro[V]],
        iterable: Iterable[list[Any]],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., V],
        iterable: Iterable[list[Any]],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[StarOptions],
    ) -> list[V]: ...

    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        capabilities: Mapping[str, int] | None = None,
        progress: bool = False,
        *,
        timeout: float | None = None,
        ordered: bool = True,
        **options: Any,
    ) -> list[Any]:
        """As `map`, for an iterable of argument tuples."""
        own = self.options_of("starmap", options)
        return self.operations.starmap(self.source, fn, iterable, capabilities, progress, timeout, ordered, own)

    @overload
    def imap(self, fn: Callable[[A], Coro[V]], a: GivenItems[A], /, **options: Unpack[LazyOptions]) -> Iterator[V]: ...

    @overload
    def imap(self, fn: Callable[[A], V], a: GivenItems[A], /, **options: Unpack[LazyOptions]) -> Iterator[V]: ...

    @overload
    def imap(
        self, fn: Callable[[A, B], Coro[V]], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[LazyOptions]
    ) -> Iterator[V]: ...

    @overload
    def imap(
        self, fn: Callable[[A, B], V], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[LazyOptions]
    ) -> Iterator[V]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., Coro[V]],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[LazyOptions],
    ) -> Iterator[V]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., V],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[LazyOptions],
    ) -> Iterator[V]: ...

    def imap(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Return an iterator over `map(fn, *iterables)`, for any number of items: memory does not grow with them.

        Items are taken, and sent in chunks as in `map`, while results are taken: `buffersize` of them at most beyond the
        results taken, else up to 1,024 chunks that have 256 MiB. Nothing begins before the first result is asked for. What a
        call or an iterable raises comes in its turn, after which the iterator has ended. One that is closed or dropped cancels
        what is left.
        """
        own = self.options_of("imap", options)
        source = self.source
        return self.operations.imap(source, fn, iterables, capabilities, buffersize, ordered=True, options=own)

    @overload
    def imap_unordered(
        self, fn: Callable[[A], Coro[V]], a: GivenItems[A], /, **options: Unpack[LazyOptions]
    ) -> Iterator[V]: ...

    @overload
    def imap_unordered(
        self, fn: Callable[[A], V], a: GivenItems[A], /, **options: Unpack[LazyOptions]
    ) -> Iterator[V]: ...

    @overload
    def imap_unordered(
        self, fn: Callable[[A, B], Coro[V]], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[LazyOptions]
    ) -> Iterator[V]: ...

    @overload
    def imap_unordered(
        self, fn: Callable[[A, B], V], a: GivenItems[A], b: GivenItems[B], /, **options: Unpack[LazyOptions]
    ) -> Iterator[V]: ...

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., Coro[V]],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[LazyOptions],
    ) -> Iterator[V]: ...

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., V],
        a: GivenItems[Any],
        b: GivenItems[Any],
        c: GivenItems[Any],
        /,
        *more: GivenItems[Any],
        **options: Unpack[LazyOptions],
    ) -> Iterator[V]: ...

    def imap_unordered(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """As `imap`, with results as they come: an item that takes long does not hold up those after it."""
        own = self.options_of("imap_unordered", options)
        source = self.source
        return self.operations.imap(source, fn, iterables, capabilities, buffersize, ordered=False, options=own)
