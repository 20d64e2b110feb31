"""`Client`: what applications use."""

from __future__ import annotations

import operator
import os
import socket
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from scaler import errors
from scaler.client.connection_engine import ConnectionEngine
from scaler.client.engine import Engine
from scaler.client.future import ScalerFuture
from scaler.client.graph_run import submit_graph
from scaler.client.map_run import MapRun
from scaler.client.nested_engine import NestedEngine
from scaler.client.object_reference import ObjectReference
from scaler.core import effects as e
from scaler.core.tasks import TaskGroup
from scaler.serialization.arguments import Packer
from scaler.serialization.results import AnySerializer
from scaler_protocol import messages as m
from scaler_protocol.address import Address
from scaler_protocol.random_ids import new_id
from scaler_protocol.task_context import current_task_context

SHUTDOWN_SECONDS = 10.0


class Client:
    """Submits Python functions to a cluster and gives futures for what they return.

        with Client("tcp://127.0.0.1:2345") as client:
            print(client.submit(math.sqrt, 16).result())

    Any number of threads may use one client, inside a running event loop too. What is submitted is what runs: arguments
    and functions are copied before `submit` returns. Inside a task the address may be left out.
    """

    def __init__(
        self,
        address: str | None = None,
        profiling: bool = False,
        timeout_seconds: float = 60,
        heartbeat_interval_seconds: float = 2,
        serializer: AnySerializer | None = None,
        stream_output: bool = False,
        object_storage_address: str | None = None,
    ) -> None:
        """Connect, and return once the scheduler has answered.

        `address`: of the scheduler, such as `tcp://127.0.0.1:2345`. May be left out inside a task only.
        `profiling`: measure CPU time and memory of each task, see `ScalerFuture.profiling_info`.
        `timeout_seconds`: how long the scheduler may be silent before unanswered futures fail with DisconnectedError.
        `heartbeat_interval_seconds`: how often the client says that it lives.
        `serializer`: a `Serializer` for functions, arguments and results; by default pickle and cloudpickle.
        `stream_output`: write what tasks print to stdout and stderr of this process.
        `object_storage_address`: where large values go; by default what the scheduler says.

        Raises DisconnectedError when nobody answers in time, ConnectionRefusedByScheduler when the scheduler will not
        have us, ValueError for an address that is none, or for none outside a task.
        """
        if timeout_seconds <= 0 or heartbeat_interval_seconds <= 0:
            raise ValueError("timeout_seconds and heartbeat_interval_seconds must be greater than 0")
        self._settings: dict[str, Any] = {
            "profiling": profiling,
            "timeout_seconds": timeout_seconds,
            "heartbeat_interval_seconds": heartbeat_interval_seconds,
            "serializer": serializer,
            "stream_output": stream_output,
            "object_storage_address": object_storage_address,
        }
        context = current_task_context()
        if address is None and context is None:
            raise ValueError(
                "Client() needs the scheduler's address, such as tcp://127.0.0.1:2345; it may be left out inside a task"
            )
        for text in (address, object_storage_address):
            if text is not None and not Address.parse(text).can_be_connected:
                raise ValueError(f"{text!r} is no address to connect to: it needs a host and a port other than 0")
        engine: Engine
        if address is not None:
            hello = _hello(timeout_seconds, stream_output)
            engine = ConnectionEngine(
                address,
                hello,
                timeout_seconds=timeout_seconds,
                heartbeat_seconds=heartbeat_interval_seconds,
                object_address=object_storage_address,
            )
            self._address = address
        else:
            assert context is not None
            engine = NestedEngine.of(context, object_storage_address)
            self._address = context.scheduler_address
        self._adopt(engine)

    def _adopt(self, engine: Engine) -> None:
        self._engine = self.owner = engine
        self.serializer: AnySerializer | None = self._settings["serializer"]
        self.profiling: bool = self._settings["profiling"]
        self._packer = Packer(engine, self.serializer)
        self._flags = (m.TaskFlag.PROFILE if self.profiling else 0) | (
            m.TaskFlag.STREAM_OUTPUT if self._settings["stream_output"] else 0
        )
        self._groups: dict[tuple[int, int, m.Capabilities], TaskGroup] = {}
        self._plain_group = self._group(m.TaskKind.CALL, ())
        self._references: Counter[bytes] = Counter()
        self._closed: errors.ScalerError | None = None
        self._lock = threading.Lock()
        if isinstance(engine, ConnectionEngine):
            self._finalizer = weakref.finalize(self, engine.close_when_idle)
            self._finalizer.atexit = False

    # --- tasks

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ScalerFuture:
        """Run `fn(*args, **kwargs)` on a worker and return its future."""
        return self._submit(self._group_now(), fn, args, kwargs)

    def submit_verbose(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, int] | None = None,
    ) -> ScalerFuture:
        """As `submit`, on a worker with these capabilities, such as `{"gpu": -1}`; -1 means: any amount."""
        group = self._group(m.TaskKind.CALL, _capabilities(capabilities))
        return self._submit(group, fn, tuple(args), dict(kwargs or {}))

    def _submit(
        self, group: TaskGroup, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ScalerFuture:
        engine = self._engine
        if self._closed is not None or engine.forked:
            self._require_open()
        packer = self._packer
        function = packer.function(fn)
        objects = function.objects
        try:
            packed = packer.call(fn, args, kwargs)
        except BaseException:
            engine.release(objects)
            raise
        if packed.objects:
            objects = (*packed.objects, *objects)
        future = ScalerFuture(self)
        try:
            engine.submit(group, function, packed.payload, objects, future)
        except BaseException:
            if not future.number:
                engine.release(objects)
            raise
        return future

    def map(
        self, fn: Callable[..., Any], /, *iterables: Iterable[Any], capabilities: Mapping[str, int] | None = None
    ) -> list[Any]:
        """Return `list(map(fn, *iterables))`, computed by the workers.

        Items are sent in chunks, whose size follows how long they take; they are taken from the iterables little by
        little. Raises what the first failing item raised; what is left is cancelled then.
        """
        if not iterables:
            raise TypeError("map() needs at least one iterable")
        totals = [operator.length_hint(iterable, -1) for iterable in iterables]
        total = min(totals) if min(totals) >= 0 else None
        if len(iterables) == 1:
            return self._map(fn, iter(iterables[0]), total, False, capabilities)
        return self._map(fn, zip(*iterables, strict=False), total, True, capabilities)

    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        capabilities: Mapping[str, int] | None = None,
    ) -> list[Any]:
        """As `map`, for an iterable of argument tuples."""
        total = operator.length_hint(iterable, -1)
        return self._map(fn, map(tuple, iterable), total if total >= 0 else None, True, capabilities)

    def _map(
        self,
        fn: Callable[..., Any],
        items: Iterator[Any],
        total: int | None,
        star: bool,
        capabilities: Mapping[str, int] | None,
    ) -> list[Any]:
        self._require_open()
        group = self._group(m.TaskKind.MAP_CHUNK, _capabilities(capabilities))
        run = MapRun(self._engine, self._packer, group, fn, star=star, serializer=self.serializer)
        return run.run(items, total)

    def get(
        self,
        graph: Mapping[Hashable, Any],
        keys: Sequence[Hashable],
        block: bool = True,
        capabilities: Mapping[str, int] | None = None,
    ) -> dict[Hashable, Any]:
        """Compute a graph and return the values of `keys`, in their order.

        A graph is a dictionary as Dask describes it: a value is a task, that is a tuple of a callable and its arguments;
        or the key of another node; or a list of such; or anything else, which stands for itself. Arguments may be nested
        lists, tuples and tasks. With `block=False` the values are futures.

        Raises GraphError before anything runs, for cycles, duplicate keys and (GraphKeyError) missing ones.
        """
        self._require_open()
        futures = submit_graph(
            self._engine,
            self._packer,
            graph,
            keys,
            group=self._group(m.TaskKind.CALL, _capabilities(capabilities)),
            make_future=lambda: ScalerFuture(self),
        )
        if not block:
            return dict(futures)
        try:
            return {key: future.result() for key, future in futures.items()}
        except BaseException:
            self._engine.cancel([future for future in futures.values() if not future.done()], None)
            raise

    # --- objects

    def send_object(self, obj: Any, name: str | None = None) -> ObjectReference:
        """Store `obj` once, for many tasks: the reference stands for it as an argument, an item or a graph's node.

        `name` is for people. Raises SerializationError, or ObjectStorageException when storage does not take it.
        """
        self._require_open()
        reference = self._engine.send_object(obj, name or "")
        with self._lock:
            self._references[reference.object_id] += 1
        return reference

    # --- ends

    def clear(self) -> None:
        """Cancel this client's futures and make its references invalid. The client stays usable."""
        self._require_open()
        self._cancel_all(errors.ClientCancelledException("the client was cleared"))
        with self._lock:
            references, self._references = self._references, Counter()
        self._engine.drop_references(list(references.elements()))

    def disconnect(self) -> None:
        """End the session. Unanswered futures fail with ClientQuitException. Idempotent."""
        self._close(e.Cause.CLOSED, errors.ClientQuitException("the client was disconnected"))

    def shutdown(self) -> None:
        """Stop the scheduler and its workers, and disconnect. Idempotent.

        Unanswered futures fail with ClientShutdownException. Raises ValueError when the scheduler is protected.
        """
        if self._closed is not None:
            return
        engine = self._engine
        welcome = engine.welcome
        if welcome is not None and welcome.protected:
            raise ValueError(f"the scheduler at {self._address} is protected: clients cannot shut it down")
        if not isinstance(engine, ConnectionEngine):
            raise ValueError("the cluster cannot be shut down from inside one of its tasks")
        engine.check_process()
        engine.shut_down_cluster(f"client {self.identity.hex()[:8]} asked for it", SHUTDOWN_SECONDS)
        self._close(e.Cause.SHUT_DOWN, errors.ClientShutdownException("the cluster was shut down by this client"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    @property
    def identity(self) -> bytes:
        """The client's incarnation, 16 bytes: what the scheduler and its monitors know it by."""
        return self._engine.client_id

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return self._address

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.identity.hex()[:8]} of {self._address}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickled inside a task it speaks through the task's worker; elsewhere it connects as the original did."""
        return _restore, (self._address, self._settings)

    def _close(self, cause: e.Cause, error: errors.ScalerError) -> None:
        if self._closed is not None:
            return
        self._engine.check_process()
        if isinstance(self._engine, ConnectionEngine):
            self._closed = error
            self._engine.close(cause, str(error))
            return
        # Other clients of this process share the engine.
        self._cancel_all(error)
        with self._lock:
            references, self._references = self._references, Counter()
        self._engine.drop_references(list(references.elements()))
        self._closed = error

    def _cancel_all(self, error: errors.ScalerError) -> None:
        mine = {
            number: token
            for number, token in self._engine.unanswered()
            if isinstance(token, ScalerFuture) and token.client is self
        }
        for number in self._engine.cancel_numbers(list(mine)):
            if isinstance(error, errors.ClientCancelledException):
                mine[number].end_cancelled(error)
            else:
                mine[number].end_failed(error)

    # --- inside

    def _require_open(self) -> None:
        self._engine.check_process()
        if self._closed is not None:
            raise self._closed

    def _depth(self) -> int:
        context = current_task_context()
        return 0 if context is None else context.depth + 1

    def _group_now(self) -> TaskGroup:
        if current_task_context() is None:
            return self._plain_group
        return self._group(m.TaskKind.CALL, ())

    def _group(self, kind: int, capabilities: m.Capabilities) -> TaskGroup:
        key = (kind, self._depth(), capabilities)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._engine.group(
                kind=kind,
                depth=key[1],
                capabilities=capabilities,
                serializer=self._packer.serializer_function,
                flags=self._flags,
            )
        return group


def _restore(address: str, settings: dict[str, Any]) -> Client:
    """Make the client that a pickled one stands for, here."""
    return Client(None if current_task_context() is not None else address, **settings)


def _hello(timeout_seconds: float, stream_output: bool) -> m.Hello:
    hostname = socket.gethostname()
    return m.Hello(
        role=m.Role.CLIENT,
        name=f"client|{hostname}|{os.getpid()}",
        incarnation=new_id(),
        hostname=hostname,
        pid=os.getpid(),
        stream_output=stream_output,
        timeout_seconds=timeout_seconds,
    )


def _capabilities(capabilities: Mapping[str, int] | None) -> m.Capabilities:
    """Return capabilities as tasks carry them. Raises TypeError for what is no mapping of names to integers."""
    if not capabilities:
        return ()
    if not all(isinstance(name, str) and isinstance(value, int) for name, value in capabilities.items()):
        raise TypeError(f"capabilities are names with integers, such as {{'gpu': -1}}, not {capabilities!r}")
    return tuple(sorted(capabilities.items()))
