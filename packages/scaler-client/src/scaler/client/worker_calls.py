"""What programs have for their workers: methods of `Client` that reach each of them, plugins, functions that only they import.

Apart from `Client` for the room that the signatures take; in one module because `import scaler` imports it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from scaler.client.future import FutureOwner, FutureSource
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from scaler.client.operations import Operations
    from scaler.client.signatures import Args, Coro, Kwargs, P, Paths, V
    from scaler_protocol.runtime.worker_plugins import PluginWorker
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


def by_name(name: str) -> Callable[..., Any]:
    """Return a function that calls the function of this name where it runs, and imports it there: "package.module:function".

    For functions that this program cannot import, or should not: `client.submit(scaler.by_name("pricing.models:value"), 5)`.
    Arguments and results are pickled as always. If the name leads nowhere, the task raises what the import raises,
    AttributeError, or TypeError for what cannot be called. Nobody here knows its arguments, so all keywords of `submit` are
    its own, `profiling=True` too: to measure such tasks, make the client with `profiling=True`. Raises ValueError at once for
    what is no such name.
    """
    # Not with `import scaler`: it takes as long as a third of all else.
    from scaler_protocol.payloads.plain import call_named, check_name

    check_name(name)
    return functools.partial(call_named, name)


def worker_plugin(name: str) -> Any:
    """Return the plugin of this name that was set up in this process for the client of the running task.

    It is the object whose `setup` was called: what that has stored on it is there. Raises KeyError where there is none, as
    outside tasks.
    """
    from scaler_protocol.runtime.worker_plugins import plugin_here

    return plugin_here(name)


class WorkerPlugin:
    """Set up in every process that runs tasks of a client, and torn down when the client leaves.

        class Database(WorkerPlugin):
            name = "database"

            def setup(self, worker):
                self.connection = connect()

            def teardown(self, worker):
                self.connection.close()

        client.register_worker_plugin(Database())

    Tasks find the object by `scaler.worker_plugin("database")`. A plugin need not be derived from this class: an object with one
    of the two methods will do. Both may be coroutine functions.
    """

    name: str | None = None
    """The name under which it is registered, where none is given; None: the name of its class."""

    def setup(self, worker: PluginWorker) -> object:
        """Called in each process before the first task of the client that is submitted after the registration."""

    def teardown(self, worker: PluginWorker) -> object:
        """Called when the client leaves, or the plugin is unregistered or replaced, or the process ends in order."""
