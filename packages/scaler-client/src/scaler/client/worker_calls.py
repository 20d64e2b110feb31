"""The methods of `Client` that reach every worker. Apart from it for the room that their signatures take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from scaler.client.future import FutureOwner, FutureSource
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from scaler.client.operations import Operations
    from scaler.client.signatures import Args, Coro, Kwargs, P, Paths, V
    from scaler_protocol.wire.call_options import CallOptions


class WorkerCalls:
    """See the module. A `FutureSource`, as all of a client is."""

    operations: Operations
    owner: FutureOwner
    serializer: AnySerializer | None
    profiling: bool

    @property
    def source(self) -> FutureSource:
        """The client whose futures these are, see `ClientCalls`."""
        raise NotImplementedError

    def options_of(self, call: str, given: Mapping[str, Any]) -> CallOptions:
        """Return what a call with these keywords asks for, see `ClientCalls`."""
        raise NotImplementedError

    @overload
    def run(self, fn: Callable[P, Coro[V]], /, *args: P.args, **kwargs: P.kwargs) -> dict[str, V]: ...

    @overload
    def run(self, fn: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> dict[str, V]: ...

    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call `fn(*args, **kwargs)` once on every worker that is connected now; return what it returns, by the workers' names.

        For set-up and inspection. On each worker it waits for the running task, and goes ahead of all others. Waits a minute:
        `run_verbose` takes a timeout. If no worker is connected, it waits for the first one.

        Raises WorkerRunError if the call fails on a worker, or has not ended there in time: the error has the results of all
        others. Raises NoWorkerError where there is no worker. `docs/workers.md` has the rest.
        """
        return self.run_verbose(fn, args, kwargs)

    @overload
    def run_verbose(
        self,
        fn: Callable[..., Coro[V]],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[False] = False,
    ) -> dict[str, V]: ...

    @overload
    def run_verbose(
        self,
        fn: Callable[..., V],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[False] = False,
    ) -> dict[str, V]: ...

    @overload
    def run_verbose(
        self,
        fn: Callable[..., Coro[V]],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[True],
    ) -> dict[str, V | BaseException]: ...

    @overload
    def run_verbose(
        self,
        fn: Callable[..., V],
        args: Args = (),
        kwargs: Kwargs = None,
        *,
        timeout: float = 60.0,
        return_exceptions: Literal[True],
    ) -> dict[str, V | BaseException]: ...

    def run_verbose(
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
        return self.operations.run(
            self.source, fn, args, kwargs, timeout, return_exceptions, self.options_of("run_verbose", {})
        )

    def register_worker_plugin(self, plugin: Any, name: str | None = None, *, timeout: float = 60.0) -> list[str]:
        """Have `plugin.setup(worker)` called in every process that runs tasks of this client, before its first task there.

        That goes for tasks that are submitted from now on, by this client and inside its tasks; also on workers that join later,
        and in processes that take the place of others. `plugin.teardown(worker)` is called when the client leaves. Waits for the
        workers that are connected and returns the names of those on which the plugin is set up; others, busy ones say, set it up
        before their next task. `name` is the plugin's `name` by default, or that of its class. A plugin of the same name and the
        same content is left as it is; one of other content is torn down first.

        If the set-up fails on a worker, raises WorkerRunError with the errors of each, and the plugin is not registered. Where it
        fails later, on a worker that has joined, tasks end with WorkerPluginError. `docs/plugins.md` has the rest.
        """
        return self.operations.worker_setup.register(self.source, plugin, name, timeout)

    def unregister_worker_plugin(self, name: str, *, timeout: float = 60.0) -> list[str]:
        """Have a plugin torn down, where it is set up. Returns the names of the workers that have done so in time.

        Others do so before their next task of this client. Raises ValueError where no plugin of this name is registered.
        """
        return self.operations.worker_setup.unregister(self.source, name, timeout)

    def worker_plugins(self) -> dict[str, Any]:
        """Return the plugins that are registered, by their names. They are this client's objects, which nobody has set up."""
        return self.operations.worker_setup.plugins

    def upload_modules(self, paths: Paths) -> None:
        """Let tasks that are submitted from now on import these modules, on whichever worker.

            client.upload_modules(["pricing.py", "models/", "dist/tools-1.0-py3-none-any.whl"])

        A path is a `.py` file, the folder of a package, or a `.zip`, `.whl` or `.egg`, of pure Python. To upload a path again
        after an edit has the tasks that are submitted afterwards run the new code; all uploaded modules are imported afresh then.
        Tasks of other clients do not see them. They go before modules of the same name that are installed on workers.

        Raises ValueError for what cannot be imported from an archive, FileNotFoundError, TypeError for what is no path.
        """
        self.operations.worker_setup.upload(paths)
