"""What type checkers are told of calls on workers. Imported by them alone: nothing here exists while a program runs.

A value that lies on the cluster may be given in place of an argument. Each method has one signature for each place where such
a value may be. Signatures that take them come first: a function of anything would else seem to get the future itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Coroutine, Hashable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, ParamSpec, Protocol, TypeAlias, TypedDict, TypeVar, TypeVarTuple

from scaler.client.async_future import AsyncFuture
from scaler.client.future import ScalerFuture
from scaler.client.object_reference import ObjectReference
from scaler_protocol.wire.call_options import Prefer, Retries

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
V = TypeVar("V")
"""What a function returns."""
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
K = TypeVar("K")
"""The key of a dictionary."""

Coro: TypeAlias = Coroutine[Any, Any, V]
"""What a coroutine function returns. Its future has the value."""

Remote: TypeAlias = ScalerFuture[A] | ObjectReference[A]
"""What stands for a value on the cluster."""
Given: TypeAlias = A | ScalerFuture[A] | ObjectReference[A]
"""An argument: the value, or what stands for it."""
RemoteList: TypeAlias = Sequence[ScalerFuture[A] | ObjectReference[A]]
RemoteDict: TypeAlias = Mapping[K, ScalerFuture[A] | ObjectReference[A]]
GivenItems: TypeAlias = Iterable[A | ScalerFuture[A] | ObjectReference[A]]
"""What a function is mapped over."""

AsyncRemote: TypeAlias = AsyncFuture[A] | ScalerFuture[A] | ObjectReference[A]
AsyncGiven: TypeAlias = A | AsyncFuture[A] | ScalerFuture[A] | ObjectReference[A]
AsyncRemoteList: TypeAlias = Sequence[AsyncFuture[A] | ScalerFuture[A] | ObjectReference[A]]
AsyncRemoteDict: TypeAlias = Mapping[K, AsyncFuture[A] | ScalerFuture[A] | ObjectReference[A]]
AsyncGivenItems: TypeAlias = Iterable[A | AsyncFuture[A] | ScalerFuture[A] | ObjectReference[A]]
AsyncLazyItems: TypeAlias = (
    AsyncGivenItems[A] | AsyncIterable[A | AsyncFuture[A] | ScalerFuture[A] | ObjectReference[A]]
)

_A = TypeVar("_A", contravariant=True)
_V = TypeVar("_V", covariant=True)


class Variadic(Protocol[_A, _V]):
    """A function of any number of arguments of a type."""

    def __call__(self, *args: _A) -> _V:
        """Call it."""


Graph: TypeAlias = Mapping[Any, Any]
Keys: TypeAlias = Iterable[Any] | Hashable

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = Mapping[str, Any] | None
Capabilities: TypeAlias = Mapping[str, int] | None
Paths: TypeAlias = str | PathLike[str] | Iterable[str | PathLike[str]]


class TaskOptions(TypedDict, total=False):
    """What any call may ask for, as keywords: see `Client.with_options`."""

    label: str | None
    tags: Mapping[str, str] | None
    retries: int | Retries | None
    timeout_seconds: float | None
    deadline_seconds: float | None
    priority: int | None
    idempotent: bool | None
    worker: str | None
    host: str | Prefer | None
    detached: bool | None
    name: str | None
    resources: Mapping[str, int | float | str] | str | None


class LazyOptions(TaskOptions, total=False):
    """Keywords of `imap` and `imap_unordered`."""

    buffersize: int | None
    capabilities: Capabilities


class StarOptions(TaskOptions, total=False):
    """What `starmap` takes by name only."""

    timeout: float | None
    ordered: bool


class AsyncMapOptions(StarOptions, total=False):
    """Keywords of `AsyncClient.map`."""

    capabilities: Capabilities


class MapOptions(AsyncMapOptions, total=False):
    """Keywords of `Client.map`."""

    progress: bool


class ExecutorMapOptions(TaskOptions, total=False):
    """Keywords of `ScalerExecutor.map`."""

    timeout: float | None
    chunksize: int
    buffersize: int | None
