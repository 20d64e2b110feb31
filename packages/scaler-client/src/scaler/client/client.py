"""`Client`: what applications use. What it does is in `scaler.client.operations`, imported with the first client."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from scaler.client.client_calls import ClientCalls
from scaler.client.future import ScalerFuture
from scaler.client.object_reference import ObjectReference
from scaler.client.worker_calls import WorkerCalls
from scaler.serialization.serializer import AnySerializer

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Literal, Unpack

    from scaler.client.graph_template import GraphTemplate
    from scaler.client.jobs import JobBlock, Jobs
    from scaler.client.locks import NamedLock
    from scaler.client.operations import Operations
    from scaler.client.signatures import A, B, C, Capabilities, Graph, K, Keys, TaskOptions
    from scaler_protocol.wire.call_options import CallOptions

V = TypeVar("V")


class ClientViews:
    """What people see of a client: its text, its table in a notebook, the pages of its cluster. Apart for its size."""

    operations: Operations

    @property
    def identity(self) -> bytes:
        """See `Client`."""
        raise NotImplementedError

    @property
    def name(self) -> str | None:
        """See `Client`."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """See `Client`."""
        raise NotImplementedError

    @property
    def dashboard_url(self) -> str | None:
        """Where a browser on this machine shows the cluster, as in http://127.0.0.1:50001; None where nowhere is known.

        The scheduler says so, if it was told (`scaler_scheduler --dashboard-url`, `SchedulerClusterCombo(dashboard=True)`). None
        too for pages that only the scheduler's own machine reaches, when the client connects from elsewhere.
        """
        return self.operations.dashboard_url

    def dashboard(self, width: int | str = "100%", height: int | str = 600) -> Any:
        """Return the pages of the cluster as a frame: at the end of a notebook's cell they are shown below it, live.

        `width`, `height`: in pixels, or a text such as "100%". Raises ValueError where `dashboard_url` is None, and ImportError
        without IPython. A `scaler_ui` that was started by hand needs `--allowed-frames` with the notebook's address.
        """
        from scaler.client.notebook import framed

        return framed(self.dashboard_url, width, height)

    def __repr__(self) -> str:
        from scaler_protocol.runtime.counted import counted

        facts = self.operations.facts()
        name = "" if self.name is None else f"{self.name!r} "
        return (
            f"<{type(self).__name__} {name}{self.identity.hex()[:8]} of {self.address}: {facts['state']}, "
            f"{counted(int(str(facts['unanswered tasks'])), 'unanswered task')}>"
        )

    def _repr_html_(self) -> str:
        """For notebooks."""
        from scaler.client.notebook import facts_table

        known_as = self.identity.hex()[:8] if self.name is None else f"{self.name} ({self.identity.hex()[:8]})"
        facts = {"scheduler": self.address, "client": known_as, **self.operations.facts()}
        return facts_table(type(self).__name__, facts)


class ClientLocks:
    """The client's methods for coordination. Apart from `Client` for its size."""

    operations: Operations

    def lock(self, name: str, *, timeout: float = 600.0) -> NamedLock:
        """Return a lock that one block in the whole cluster holds at a time, under this name.

            with client.lock("prices.csv", timeout=60):
                ...

        Waits for `timeout` seconds, ten minutes by default, in the order in which others have asked; a task keeps its slot
        meanwhile. The lock is freed when the block ends, when its process dies, and when its client is gone. Raises
        LockTimeoutError when it is not free in time; LockLostError at the end of a block that did not hold it all the time.
        `docs/coordination.md` says what is guaranteed and what is not.
        """
        from scaler.client.locks import named_lock

        return named_lock(self.operations, name, 1, timeout)

    def semaphore(self, name: str, count: int, *, timeout: float = 600.0) -> NamedLock:
        """Return a semaphore, which `count` blocks in the whole cluster hold at a time. Else as `lock`.

        Locks and semaphores share their names: all who use a name at the same time must give the same `count`, and a lock is
        a semaphore of 1. Raises LockError, in the block's beginning, where they do not.
        """
        from scaler.client.locks import named_lock

        return named_lock(self.operations, name, count, timeout)


class Client(ClientCalls, WorkerCalls, ClientLocks, ClientViews):
    """Submits Python functions to a cluster and gives futures for what they return.

        with Client("tcp://127.0.0.1:2345") as client:
            print(client.submit(math.sqrt, 16).result())

    Any number of threads may use one client, inside a running event loop too. What is submitted is what runs: arguments
    and functions are copied before `submit` returns. Inside a task the address may be left out.
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
        """Connect, and return once the scheduler has answered.

        `address`: of the scheduler, such as `tcp://127.0.0.1:2345`; or a connection file, such as `cluster.scaler`, which
        `scaler_keys connect` writes. May be left out inside a task only.
        `profiling`: measure CPU time and memory of each task, see `ScalerFuture.profiling_info`.
        `timeout_seconds`: how long the scheduler may be silent before unanswered futures fail with DisconnectedError.
        `heartbeat_interval_seconds`: how often the client says that it lives.
        `serializer`: a `Serializer` for functions, arguments and results; by default pickle and cloudpickle.
        `stream_output`: write what tasks print to stdout and stderr of this process, and give what they log, from INFO up
        unless they say otherwise, to this process's loggers of the same names; records then carry `task_id`. Up to a
        mebibyte from each task.
        `object_storage_address`: where large values go; by default what the scheduler says.
        `security`: the security directory with this client's key, or its connection file or key file, for a cluster with
        keys; see `docs/security.md`.
        `detached`: inside a task, what this client submits goes on when the task is cancelled; see `docs/nesting.md`.
        `name`: what people call it, such as "pricing": monitors, metrics and logs show it. Up to 100 characters; several
        clients may have the same. A client inside a task is shown under the name of the one that submitted the task.
        `group`: whose share of the cluster its tasks use, where the scheduler has groups (`--share`); by default that of the
        group "default", and with keys that of the group with the key's name. A client inside a task is in the group of the one
        that submitted the task. See `docs/shares.md`.

        Raises DisconnectedError when nobody answers in time, ConnectionRefusedByScheduler when the scheduler will not
        have us, ValueError for an address that is none, or for none outside a task; TypeError and ValueError for other
        settings that cannot be used.
        """

        from scaler.client.operations import Operations
        from scaler.client.security import resolved

        scheduler, keys = resolved(address, security)
        self.profiling = profiling
        self._settings: dict[str, Any] = {
            "profiling": profiling,
            "timeout_seconds": timeout_seconds,
            "heartbeat_interval_seconds": heartbeat_interval_seconds,
            "serializer": serializer,
            "stream_output": stream_output,
            "object_storage_address": object_storage_address,
            "security": keys,
            "detached": detached,
            "name": name,
            "group": group,
        }
        self.operations = Operations(scheduler, **self._settings, holder=self)
        self.serializer = self.operations.serializer
        self.submit_call = self.operations.submit
        self.owner = self.operations.engine.futures
        finalizer = weakref.finalize(self, self.operations.forget)
        # At exit the engines end by themselves, in good order.
        finalizer.atexit = False

    def with_options(self, **options: Unpack[TaskOptions]) -> Self:
        """Return this client with options for all of its calls; it is the same session, and the same futures.

            nightly = client.with_options(label="nightly", tags={"desk": "rates"})
            nightly.submit(price, book)

        A call may have options of its own: `client.map(price, books, label="nightly")`. They take the place of these; tags are
        joined by name. None leaves an option as it is.

        `label`: what the work is called, one line of up to 100 characters. `tags`: up to 20 names, of up to 100 characters, with
        values, of up to 200. Monitors show them with each task, and metrics count tasks by label; see `docs/names.md`.

        `retries`: how often a task that has failed runs again, or a `Retries`, which says more. `timeout_seconds`: how long each
        attempt may run. `deadline_seconds`: how long after it was submitted a task ends. `priority`: which tasks of this client
        go first. `idempotent=False`: a task never runs twice, and ends with an error where it may have begun and its worker is
        lost. `worker`, `host`: the only worker or host that may run the tasks, by name; `host=Prefer("name")`: where they go as
        long as it takes tasks. See `docs/options.md`.
        `detached=True` with `name`: the task belongs to the job of that name and goes on when this
        program has ended, see `docs/jobs.md`; for single calls only.

        Raises TypeError for options that do not exist, TypeError and ValueError for impossible values.
        """
        own = self.options_of("with_options", options)
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._options, other._origin = own, self.source
        submit, source = self.operations.submit_with, self.source
        other.submit_call = lambda _, fn, args, kwargs: submit(own, source, fn, args, kwargs)
        return other

    def job(self, name: str, *, keep: float | str | timedelta | None = None) -> JobBlock:
        """Return a `with` block whose tasks belong to a job: they go on when this program has ended.

            with client.job("overnight", keep="7d"):
                for book in books:
                    client.submit(price, book)

        It counts for what this thread submits through this client, by `submit` and `submit_verbose`. Leaving the block waits
        until the scheduler has the tasks, not for their results. Another program finds them by `client.jobs()["overnight"]`.

        A job that exists is taken up again: of tasks with the same function and the same arguments, only those run that have no
        result. `keep`: how long it is kept after its last task has ended, such as "12h", "7d", or seconds. See `docs/jobs.md`.

        Raises JobError where the name is another owner's, or a limit is reached; also at the end of the block, where a task was
        refused. Raises TypeError and ValueError for names and times that are none.
        """
        from scaler.client.jobs import JobBlock

        return JobBlock(self.source, name, keep)

    def jobs(self) -> Jobs:
        """Return the jobs at the scheduler, a mapping of names to jobs: each has `status`, `results`, `as_completed`, `cancel`
        and `forget`. See `docs/jobs.md`.
        """
        from scaler.client.jobs import Jobs

        return Jobs(self.source)

    def as_completed(
        self, futures: Iterable[ScalerFuture[V]], timeout: float | None = None
    ) -> Iterator[ScalerFuture[V]]:
        """Return an iterator over the futures as they end, those first that have ended; each comes once.

        After `timeout` seconds, counted from this call, it raises TimeoutError. Raises TypeError for what is no future.
        """
        from scaler.client.gathering import completed_futures

        return completed_futures(futures, timeout)

    @overload
    def gather(
        self, futures: ScalerFuture[V], timeout: float | None = None, *, return_exceptions: Literal[False] = False
    ) -> V: ...

    @overload
    def gather(
        self,
        futures: list[ScalerFuture[V]] | Iterator[ScalerFuture[V]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[V]: ...

    @overload
    def gather(
        self,
        futures: dict[K, ScalerFuture[V]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> dict[K, V]: ...

    @overload
    def gather(
        self,
        futures: tuple[ScalerFuture[A], ScalerFuture[B]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[A, B]: ...

    @overload
    def gather(
        self,
        futures: tuple[ScalerFuture[A], ScalerFuture[B], ScalerFuture[C]],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[A, B, C]: ...

    @overload
    def gather(
        self,
        futures: tuple[ScalerFuture[V], ...],
        timeout: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> tuple[V, ...]: ...

    @overload
    def gather(
        self, futures: set[ScalerFuture[V]], timeout: float | None = None, *, return_exceptions: Literal[False] = False
    ) -> set[V]: ...

    @overload
    def gather(
        self, futures: list[ScalerFuture[V]], timeout: float | None = None, *, return_exceptions: Literal[True]
    ) -> list[V | BaseException]: ...

    @overload
    def gather(self, futures: Any, timeout: float | None = None, *, return_exceptions: bool = False) -> Any: ...

    def gather(self, futures: Any, timeout: float | None = None, *, return_exceptions: bool = False) -> Any:
        """Return `futures` with results in place of the futures: one, or any nesting of them.

            prices, (low, high) = client.gather([{"A": first, "B": second}, (third, fourth)])

        Futures are looked for in lists, tuples, sets, frozensets and values of dictionaries; an iterator gives a list. Raises
        what a future raises, as soon as one fails: the others go on. With `return_exceptions`, exceptions stand for the
        futures that raise them. Raises TimeoutError after `timeout` seconds.
        """
        from scaler.client.gathering import gathered

        return gathered(futures, timeout, return_exceptions)

    @overload
    def get(
        self,
        graph: Graph,
        keys: list[K],
        block: Literal[True] = True,
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[TaskOptions],
    ) -> dict[K, Any]: ...

    @overload
    def get(
        self,
        graph: Graph,
        keys: list[K],
        block: Literal[False],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[TaskOptions],
    ) -> dict[K, ScalerFuture[Any]]: ...

    @overload
    def get(
        self,
        graph: Graph,
        keys: Keys,
        block: Literal[True] = True,
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[TaskOptions],
    ) -> dict[Any, Any]: ...

    @overload
    def get(
        self,
        graph: Graph,
        keys: Keys,
        block: Literal[False],
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[TaskOptions],
    ) -> dict[Any, ScalerFuture[Any]]: ...

    @overload
    def get(
        self,
        graph: Graph,
        keys: Keys,
        block: bool,
        capabilities: Capabilities = None,
        progress: bool = False,
        **options: Unpack[TaskOptions],
    ) -> dict[Any, Any]: ...

    def get(
        self,
        graph: Mapping[Any, Any],
        keys: Iterable[Any] | Hashable,
        block: bool = True,
        capabilities: Mapping[str, int] | None = None,
        progress: bool = False,
        **options: Any,
    ) -> dict[Any, Any]:
        """Compute a graph and return the values of `keys`, in their order, as a dictionary.

        A graph is a dictionary as Dask describes it: a value is a task, that is a tuple of a callable and its arguments;
        or the key of another node; or a list of such; or anything else, which stands for itself. Arguments may be nested
        lists, tuples, dictionaries and tasks. Dask's own task objects (`dask.Task` and its kin) are refused.

        As in Dask, whatever equals a key names its node, inside data too: in `{"columns": ["a"], "a": 1}` the value of
        "columns" is `[1]`, and True names the node of a key 1. Give data that might equal keys other names, or pass it
        through `send_object`.

        `keys` is an iterable of keys. A text, or anything else that is a key of the graph by itself, asks for that one
        alone: `get(graph, "total")` is `{"total": …}`, and so for a tuple that is a key. Lists of lists, which Dask answers
        with lists of lists, are refused. With `block=False` the values are futures. Futures in the graph, as nodes or inside of
        them, stand for their results. `progress` shows a bar that counts nodes, as in `map`; not with `block=False`, where
        `scaler.progress(futures)` shows one.

        Raises, before anything runs: GraphCycleError, also a `graphlib.CycleError`; GraphKeyError, also a KeyError, for keys
        that are missing or asked for twice; GraphError, also a ValueError, for what else cannot be computed; TypeError
        where a function cannot take its arguments.
        """
        own = self.options_of("get", options)
        return self.operations.get(self.source, graph, keys, block, capabilities, progress, own)

    def prepare(
        self,
        graph: Mapping[Any, Any],
        keys: Iterable[Any] | Hashable,
        capabilities: Mapping[str, int] | None = None,
        *,
        node_seconds: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> GraphTemplate:
        """Return a template of what `get(graph, keys)` computes, for graphs that run often.

            template = client.prepare(graph, ["price"])
            for rate in rates:
                template.run({"rate": rate})

        The graph is checked, ordered and pickled once, here: what becomes of it or its values afterwards changes nothing.
        `template.run(inputs)` runs it with other values in place of some nodes. Futures inside of the graph are refused with
        SerializationError; else it takes what `get` takes, and raises what `get` raises before anything runs.

        `node_seconds`: about how long a node runs. Where it is said, nodes that only one other node needs run in the task of
        that one, as long as a task has no more than about 10 ms of work: far faster for graphs of very short nodes. A value
        then goes from one to the other as it is, without being pickled; and nodes that run in one task are tried again,
        cancelled and limited in time together.
        """
        own = self.options_of("prepare", options)
        return self.operations.prepare(self.source, graph, keys, capabilities, node_seconds, own)

    def send_object(self, obj: V, name: str | None = None) -> ObjectReference[V]:
        """Store `obj` once, for many tasks: the reference stands for it as an argument, an item or a graph's node.

        The object lives as long as a reference to it, or an unfinished task that needs it: keep the reference while you use
        it. `reference.release()`, or leaving `with client.send_object(obj) as reference:`, ends it early.

        `name` is for people, 1,000 bytes at most. While storage has no room, this waits for `timeout_seconds`. A small object,
        or one for a storage on another host, travels on after this returns: should storage refuse it, using the reference
        raises ObjectStorageException, or the tasks that use it fail with that.

        Raises SerializationError for what cannot be pickled or has more than 16 GiB, ObjectStorageException where there is
        no storage, or no room in it.
        """
        return self.operations.send_object(obj, name)

    def trace(self, path: str | PathLike[str]) -> AbstractContextManager[None]:
        """Record where and when this client's tasks run, for as long as the block lasts, and write it to `path`.

            with client.trace("trace.json"):
                client.map(work, items)

        The file is a Chrome trace: https://ui.perfetto.dev opens it. Each worker has a track; a bar says function, task, worker,
        pid, how long it waited and how long it ran. A map chunk is one bar. When more happens than the scheduler tells
        monitors, some tasks are left out, and the log and the file say so. Entering and leaving take a second or two each. A
        block that raises is written as well, without that wait.

        With keys, the security directory must have one of the role monitor or operator. Raises ValueError where it has none,
        DisconnectedError where the scheduler's monitor address cannot be reached, OSError for the file.
        """
        from scaler.client.security import read_keys
        from scaler.client.trace import record

        engine = self.operations.engine
        self.operations.require_open()
        return record(
            path,
            self.identity,
            self.operations.monitor_address,
            engine.timeout_seconds,
            lambda: engine.unusable,
            read_keys(self._settings["security"], "monitor", "operator"),
        )

    def clear(self) -> None:
        """Cancel this client's futures and make its references invalid. The client stays usable."""
        self.operations.clear(self.source)

    def disconnect(self) -> None:
        """End the session. Unanswered futures are cancelled, with ClientQuitException. Idempotent."""
        self.operations.disconnect(self.source)

    def shutdown(self) -> None:
        """Stop the scheduler and its workers, and disconnect. Idempotent.

        Unanswered futures are cancelled, with ClientShutdownException. Raises ValueError when the scheduler is protected.
        """
        self.operations.shut_down(self.source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    @property
    def identity(self) -> bytes:
        """The client's incarnation, 16 bytes: what the scheduler and its monitors know it by."""
        return self.operations.engine.client_id

    @property
    def name(self) -> str | None:
        """What people call the client; None where it was given no name."""
        return self.operations.name

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return self.operations.address

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickled inside a task it speaks through the task's worker; elsewhere it connects as the original did."""
        arguments = type(self), self.address, self._settings
        return _restore, arguments if self._options is None else (*arguments, self._options)


def _restore(
    client_type: type[Client], address: str, settings: dict[str, Any], options: CallOptions | None = None
) -> Client:
    """Make the client that a pickled one stands for, here."""
    from scaler_protocol.runtime.task_context import current_task_context

    client = client_type(None if current_task_context() is not None else address, **settings)
    if options is None:
        return client
    return client.with_options(**options.given)
