"""The methods of `AsyncClient` that reach every worker. Apart from it for the room that their signatures take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from scaler.client.client import Client

if TYPE_CHECKING:
    from scaler.client.signatures import Args, Coro, Kwargs, P, V


class AsyncWorkerCalls:
    """See the module."""

    @overload
    async def run(self, fn: Callable[P, Coro[V]], /, *args: P.args, **kwargs: P.kwargs) -> dict[str, V]: ...

    @overload
    async def run(self, fn: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> dict[str, V]: ...

    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call `fn(*args, **kwargs)` once on every worker that is connected now; return what it returns, by the workers' names.

        For set-up and inspection. On each worker it waits for the running task, and goes ahead of all others. Waits a minute:
        `run_verbose` takes a timeout. If no worker is connected, it waits for the first one.

        Raises WorkerRunError if the call fails on a worker, or has not ended there in time: the error has the results of all
        others. Raises NoWorkerError where there is no worker. `docs/workers.md` has the rest.
        """
        return await self.run_verbose(fn, args, kwargs)

    @overload
    async def run_verbose(
        self,
        fn: Callable[..., Coro[V]],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[False] = False,
    ) -> dict[str, V]: ...

    @overload
    async def run_verbose(
        self,
        fn: Callable[..., V],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[False] = False,
    ) -> dict[str, V]: ...

    @overload
    async def run_verbose(
        self,
        fn: Callable[..., Coro[V]],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[True],
    ) -> dict[str, V | BaseException]: ...

    @overload
    async def run_verbose(
        self,
        fn: Callable[..., V],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[True],
    ) -> dict[str, V | BaseException]: ...

    async def run_verbose(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 60.0,
        return_exceptions: bool = False,
    ) -> dict[str, Any]:
        """As `run`, with a timeout in seconds. `return_exceptions`: exceptions stand for the workers that raise them.

        Futures and references may be among the arguments: the results of futures are waited for.
        """
        from scaler.client.async_many import run_everywhere

        return await run_everywhere(self._own(), fn, args, kwargs, timeout, return_exceptions)

    # --- internal

    def _own(self) -> Client:
        """Return the plain client, see `AsyncClient`."""
        raise NotImplementedError
