"""What a `Client` does. Apart from it, because this needs everything, and `import scaler` should not.

One object per client: its serializer, flags, surroundings and references, on an engine that others may share.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from scaler import errors
from scaler.client.checks import (
    checked_address,
    checked_addresses,
    checked_arguments,
    checked_buffersize,
    checked_capabilities,
    checked_client_name,
    checked_object_name,
    checked_serializer,
    checked_switch,
)
from scaler.client.connection_engine import ConnectionEngine
from scaler.client.engine import Engine
from scaler.client.future import FutureSource, ScalerFuture
from scaler.client.gathering import gathered
from scaler.client.graph_progress import get_with_progress
from scaler.client.graph_run import submit_graph
from scaler.client.graph_template import GraphTemplate, prepare_graph
from scaler.client.joined_rows import JOINED_NODES_MAX, JOINED_SECONDS
from scaler.client.kept_future import KeptFuture
from scaler.client.linked_calls import held_by, require_own, submit_linked
from scaler.client.linked_items import LinkedItems
from scaler.client.map_run import MapRun
from scaler.client.mapped_items import MappedItems, called_items, starred_items
from scaler.client.nested_engine import NestedEngine
from scaler.client.object_reference import ObjectReference
from scaler.client.object_uses import take_out_inner
from scaler.client.older_calls import OPTION_NAMES, mapped_items, refuse_options, without_profiling
from scaler.client.progress import ProgressBar
from scaler.client.reference_table import ReferenceGroup
from scaler.client.seconds import checked_seconds, checked_timeout
from scaler.client.security import read_keys
from scaler.client.surroundings import Surroundings
from scaler.client.worker_lists import connected_workers
from scaler.client.worker_run import WorkerRun, checked_run_seconds, submitted_everywhere
from scaler.core import effects
from scaler.core.tasks import TaskGroup
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.address import reached_beside, url_reached_beside
from scaler_protocol.runtime.names import default_client_name, name_of, user_name
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.runtime.task_context import current_task_context
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried, carry
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions
from scaler_protocol.wire.text import writable

if TYPE_CHECKING:
    from scaler.client.jobs import ClientJobs
    from scaler.client.worker_setup import WorkerSetup

SHUTDOWN_SECONDS = 10.0


class Operations:
    """See the module. Methods that make futures take the client these belong to."""

    no_options = NO_OPTIONS
    """What a call asks for that has no options."""

    def __init__(
        self,
        address: str | None,
        *,
        profiling: bool,
        timeout_seconds: float,
        heartbeat_interval_seconds: float,
        serializer: AnySerializer | None,
        stream_output: bool,
        object_storage_address: str | None,
        security: str | None,
        detached: bool,
        name: str | None,
        group: str | None,
        holder: object,
    ) -> None:
        """`holder`: the client, see `ConnectionEngine`."""
        timeout_seconds = checked_seconds("timeout_seconds", timeout_seconds)
        heartbeat_interval_seconds = checked_seconds("heartbeat_interval_seconds", heartbeat_interval_seconds)
        profiling, stream_output, detached = (
            checked_switch("profiling", profiling),
            checked_switch("stream_output", stream_output),
            checked_switch("detached", detached),
        )
        serializer = checked_serializer(serializer)
        self.name = checked_client_name(name)
        """What people call the client, or None."""
        group = checked_client_name(group, "group") or ""
        if address is not None:
            address = checked_addresses("address", address)
        if object_storage_address is not None:
            checked_address("object_storage_address", object_storage_address)
        self.engine: Engine
        context = current_task_context()
        if address is not None and security is None and context is not None and context.storage_gate:
            # Inside a task that may not read the worker's key: for the same cluster, the agent carries all messages.
            address = None if address == context.scheduler_address else address
        if address is not None:
            keys = read_keys(security, "client", "operator")
            if keys is None and context is not None and address == context.scheduler_address:
                # Inside a task, of the same cluster: with the worker's key.
                keys = read_keys(context.security_dir or None, "worker")
            self.engine = ConnectionEngine(
                address,
                _hello(
                    self.name, group, timeout_seconds, stream_output, keys.identity_prefix if keys is not None else b""
                ),
                timeout_seconds=timeout_seconds,
                heartbeat_seconds=heartbeat_interval_seconds,
                object_address=object_storage_address,
                security=keys,
                holder=holder,
            )
            self.address = address
        else:
            if context is None:
                raise ValueError(
                    "Client() needs the scheduler's address, such as tcp://127.0.0.1:2345; "
                    "it may be left out inside a task"
                )
            self.engine = NestedEngine.of(context, object_storage_address, detached=detached)
            self.address = context.scheduler_address
        self.security = security
        """Where the client's keys are, or None."""
        self.serializer = serializer
        """The client's own, or None."""
        self._flags = (m.TaskFlag.PROFILE if profiling else 0) | (m.TaskFlag.STREAM_OUTPUT if stream_output else 0)
        self.inherits = context is not None and self.address == context.scheduler_address
        """Whether its tasks find what the task finds in which it was made."""
        self.surroundings = Surroundings(
            self.engine, serializer, self._flags, context.environment if context is not None and self.inherits else b""
        )
        self._references = ReferenceGroup()
        """This client's references."""
        self._setup_lock = threading.Lock()
        self._worker_setup: WorkerSetup | None = None
        self.jobs: ClientJobs | None = None
        """What the client does about jobs, from the first one on."""
        self._closed: errors.ScalerError | None = None
        self._has_left = False

    # --- tasks

    def submit_with(
        self,
        options: CallOptions,
        client: FutureSource,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> ScalerFuture:
        """As `submit`, for a client with options."""
        if kwargs and not OPTION_NAMES.isdisjoint(kwargs):
            refuse_options(fn, args, kwargs)
        others = without_profiling(fn, args, kwargs) if kwargs and "profiling" in kwargs else None
        here = self._here()
        if self.jobs is not None:
            options = self.jobs.options_here(options)
        if options.detached:
            return self.client_jobs().submit(client, options, fn, args, kwargs if others is None else others)
        if others is None:
            return self._submit(client, here, here.group(m.TaskKind.CALL, (), options=options), fn, args, kwargs)
        flags = self._flags & ~m.TaskFlag.PROFILE | (m.TaskFlag.PROFILE if kwargs["profiling"] else 0)
        return self._submit(client, here, here.group(m.TaskKind.CALL, (), flags, options), fn, args, others)

    def submit(
        self, client: FutureSource, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ScalerFuture:
        """See `Client.submit`."""
        if kwargs and not OPTION_NAMES.isdisjoint(kwargs):
            refuse_options(fn, args, kwargs)
        if kwargs and "profiling" in kwargs:
            others = without_profiling(fn, args, kwargs)
            if others is not None:
                flags = self._flags & ~m.TaskFlag.PROFILE | (m.TaskFlag.PROFILE if kwargs["profiling"] else 0)
                here = self._here()
                return self._submit(client, here, here.group(m.TaskKind.CALL, (), flags), fn, args, others)
        if current_task_context() is None:
            here = self.surroundings
            return self._submit(client, here, here.plain_group, fn, args, kwargs)
        here = self._here()
        return self._submit(client, here, here.group(m.TaskKind.CALL, ()), fn, args, kwargs)

    def submit_verbose(
        self,
        client: FutureSource,
        fn: Callable[..., Any],
        args: Any,
        kwargs: Any,
        capabilities: Mapping[str, int] | None,
        options: CallOptions = NO_OPTIONS,
        **carried: int,
    ) -> ScalerFuture:
        """See `Client.submit_verbose`. `carried`: what the task carries, by the names of columns, see `carry`."""
        positional, keyword = checked_arguments(args, kwargs)
        if options.detached:
            allowed = checked_capabilities(capabilities)
            return self.client_jobs().submit(client, options, fn, positional, keyword, allowed)
        here = self._here()
        group = here.group(m.TaskKind.CALL, checked_capabilities(capabilities), options=options)
        return self._submit(client, here, group, fn, positional, keyword, carry(carried))

    def submit_pinned(
        self,
        client: FutureSource,
        pin: m.Capabilities,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        options: CallOptions = NO_OPTIONS,
    ) -> ScalerFuture:
        """Submit a call for one worker, see `connected_workers`."""
        here = self._here()
        return self._submit(client, here, here.group(m.TaskKind.CALL, pin, options=options), fn, args, kwargs or {})

    def _submit(
        self,
        client: FutureSource,
        here: Surroundings,
        group: TaskGroup,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        carried: Carried = (),
    ) -> ScalerFuture:
        engine = self.engine
        if self._closed is not None or engine.forked:
            self.require_open()
        packer = here.packer
        function = packer.called_function(fn)
        objects = function.objects
        try:
            if function.check is not None:
                function.check(*args, **kwargs)
            packed = function.pack(fn, args, kwargs)
            if packed.inputs is not None:
                objects = (*packed.objects, *objects)
                require_own(client, function, packed.inputs)
        except BaseException:
            engine.objects.release(objects)
            raise
        if packed.inputs is not None and packed.inputs.futures:
            return submit_linked(engine, packer, client, group, function, packed, objects, carried)
        future = ScalerFuture(client)
        if packed.inputs is not None:
            # All of them are done, and their values go along.
            objects, inner = take_out_inner(objects)
            held = (*inner, *held_by(packed.inputs.seen))
            if held:
                future.hold_until_restored(held)
        elif packed.objects or objects:
            objects, inner = take_out_inner((*packed.objects, *objects))
            if inner:
                future.hold_until_restored(inner)
        try:
            engine.tasks.submit(group, function, packed.payload, objects, future, carried)
        except BaseException:
            if not future.number:
                engine.objects.release(objects)
            raise
        return future

    def begin_run(
        self, client: FutureSource, fn: Callable[..., Any], args: Any, kwargs: Any, timeout: Any, options: CallOptions
    ) -> WorkerRun:
        """Submit a call on every worker, once it is known which there are."""
        seconds, began = checked_run_seconds(timeout), time.monotonic()
        self.require_open()
        positional, keyword = gathered(checked_arguments(args, kwargs), seconds, return_exceptions=False)
        workers = connected_workers(self.engine, began + seconds)
        cancel = self.engine.futures.cancel

        def submit(pin: m.Capabilities) -> ScalerFuture:
            return self.submit_pinned(client, pin, fn, positional, keyword, options)

        return WorkerRun(submitted_everywhere(workers, submit, cancel), seconds, began, cancel)

    def run(
        self,
        client: FutureSource,
        fn: Callable[..., Any],
        args: Any,
        kwargs: Any,
        timeout: Any,
        return_exceptions: bool,
        options: CallOptions = NO_OPTIONS,
    ) -> dict[str, Any]:
        """See `Client.run_verbose`."""
        return_exceptions = checked_switch("return_exceptions", return_exceptions)
        run = self.begin_run(client, fn, args, kwargs, timeout, options)
        with self.engine.waiting.blocking():
            run.wait()
        return run.outcomes(return_exceptions)

    def map(
        self,
        client: FutureSource,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        capabilities: Mapping[str, int] | None,
        progress: bool,
        timeout: float | None = None,
        ordered: bool = True,
        options: CallOptions = NO_OPTIONS,
        **carried: int,
    ) -> list[Any]:
        """See `Client.map`. `carried`: what each chunk carries, as for `submit_verbose`."""
        return self._map(
            client, fn, mapped_items(fn, iterables), capabilities, progress, timeout, ordered, options, carried
        )

    def starmap(
        self,
        client: FutureSource,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        capabilities: Mapping[str, int] | None,
        progress: bool,
        timeout: float | None = None,
        ordered: bool = True,
        options: CallOptions = NO_OPTIONS,
        **carried: int,
    ) -> list[Any]:
        """See `Client.starmap`. `carried` as for `map`."""
        return self._map(
            client, fn, starred_items(iterable), capabilities, progress, timeout, ordered, options, carried
        )

    def imap(
        self,
        client: FutureSource,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        capabilities: Mapping[str, int] | None,
        buffersize: int | None,
        *,
        ordered: bool,
        options: CallOptions = NO_OPTIONS,
    ) -> Iterator[Any]:
        """See `Client.imap` and `Client.imap_unordered`."""
        items = called_items("imap", iterables)
        run = self.map_run(client, fn, items, capabilities, ordered, options, {})
        return run.iterate(checked_buffersize(buffersize))

    def _map(
        self,
        client: FutureSource,
        fn: Callable[..., Any],
        items: MappedItems,
        capabilities: Mapping[str, int] | None,
        progress: bool,
        timeout: float | None,
        ordered: bool,
        options: CallOptions,
        carried: Mapping[str, int],
    ) -> list[Any]:
        seconds = checked_timeout(timeout) if timeout is not None else None
        in_order = checked_switch("ordered", ordered)
        make_run = partial(self.map_run, client, fn, items, capabilities, in_order, options, carried)
        if not progress:
            return make_run().run(seconds)
        self.require_open()
        with ProgressBar(items.total, name_of(fn).rpartition(".")[2]) as bar:
            return make_run(bar.advance).run(seconds)

    def map_run(
        self,
        client: FutureSource,
        fn: Callable[..., Any],
        items: MappedItems,
        capabilities: Mapping[str, int] | None,
        ordered: bool,
        options: CallOptions,
        carried: Mapping[str, int],
        on_items_done: Callable[[int], None] | None = None,
    ) -> MapRun:
        """Return a map that has not begun."""
        self.require_open()
        allowed = checked_capabilities(capabilities)
        here = self._here()
        group = here.group(m.TaskKind.MAP_CHUNK, allowed, options=options)
        calls = here.group(m.TaskKind.CALL, allowed, options=options)
        columns = carry(carried)
        return MapRun(
            self.engine,
            here.packer,
            group,
            fn,
            star=items.star,
            serializer=self.serializer,
            carried=columns,
            linked=LinkedItems(self.engine, here.packer, client, calls, columns, star=items.star),
            items=items.items,
            total=items.total,
            ordered=ordered,
            on_items_done=on_items_done,
            is_per_item=options.is_per_item,
        )

    def get(
        self,
        client: FutureSource,
        graph: Mapping[Any, Any],
        keys: Any,
        block: bool,
        capabilities: Mapping[str, int] | None,
        progress: bool = False,
        options: CallOptions = NO_OPTIONS,
        **carried: int,
    ) -> dict[Any, Any]:
        """See `Client.get`. `carried`: what each row carries, as for `submit_verbose`."""
        self.require_open()
        here = self._here()
        submit = partial(
            submit_graph,
            self.engine,
            here.packer,
            group=here.group(m.TaskKind.CALL, checked_capabilities(capabilities), options=options),
            client=client,
            carried=carry(carried),
        )
        if not progress:
            futures = submit(graph, keys)
            return self.results_of(futures) if block else dict(futures)
        if not block:
            raise ValueError("progress=True waits for the results: with block=False, use scaler.progress(futures)")
        with self.engine.waiting.blocking():
            return get_with_progress(graph, keys, submit, lambda left: self.engine.futures.cancel(left, None))

    def results_of(self, futures: Mapping[Any, ScalerFuture]) -> dict[Any, Any]:
        """Wait for the results of a graph. Raises what the first one raises that fails; the others are cancelled then."""
        for future in futures.values():
            # Else those that are large would be fetched one after the other.
            future.is_wanted = True
        try:
            with self.engine.waiting.blocking():
                return {key: future.result() for key, future in futures.items()}
        except BaseException:
            pending = [future for future in futures.values() if not future.done()]
            if pending:
                self.engine.futures.cancel(pending, None)
            raise

    def prepare(
        self,
        client: FutureSource,
        graph: Mapping[Any, Any],
        keys: Any,
        capabilities: Mapping[str, int] | None,
        node_seconds: float | None,
        options: CallOptions = NO_OPTIONS,
    ) -> GraphTemplate:
        """See `Client.prepare`."""
        self.require_open()
        allowed = checked_capabilities(capabilities)
        nodes_max = 1
        if node_seconds is not None:
            nodes_max = int(min(JOINED_SECONDS / checked_seconds("node_seconds", node_seconds), JOINED_NODES_MAX))
        if self.serializer is not None:
            # Expressions are pickled without it.
            nodes_max = 1
        here = self._here()
        prepared = prepare_graph(self.engine, here.packer, graph, keys, client, nodes_max)
        group = partial(here.group, m.TaskKind.CALL, allowed, options=options)
        return GraphTemplate(self, here.packer, prepared, client, group)

    def get_kept(
        self,
        client: FutureSource,
        graph: Mapping[Any, Any],
        keys: Any,
        capabilities: Mapping[str, int] | None,
        options: CallOptions = NO_OPTIONS,
    ) -> dict[Any, KeptFuture]:
        """As `get` without waiting. Values that are objects in storage stay there: the futures have references to them."""
        self.require_open()
        here = self._here()
        futures = submit_graph(
            self.engine,
            here.packer,
            graph,
            keys,
            group=here.group(m.TaskKind.CALL, checked_capabilities(capabilities), options=options),
            client=client,
            carried=carry({}),
            make_kept=lambda: KeptFuture(client, self.engine.objects, self._references),
        )
        return cast(dict[Any, KeptFuture], futures)

    # --- objects

    def send_object(self, value: Any, name: str | None) -> ObjectReference:
        """See `Client.send_object`."""
        self.require_open()
        return self.engine.objects.send_object(value, checked_object_name(name), self._references)

    # --- ends

    def clear(self, client: FutureSource) -> None:
        """See `Client.clear`."""
        self.require_open()
        self._end_futures(client, errors.ClientCancelledException("the client was cleared"))
        # Once this returns, none is valid.
        self.engine.ask(partial(self.engine.objects.drop_references, self._references))

    def disconnect(self, client: FutureSource) -> None:
        """See `Client.disconnect`."""
        self._close(client, effects.Cause.CLOSED, errors.ClientQuitException("the client was disconnected"))

    def shut_down(self, client: FutureSource) -> None:
        """See `Client.shutdown`."""
        if self._closed is not None:
            return
        engine = self.engine
        engine.check_process()
        if not isinstance(engine, ConnectionEngine):
            raise ValueError("the cluster cannot be shut down from inside one of its tasks")
        if engine.welcome is not None and engine.welcome.protected:
            if engine.storage_security() is not None:
                why = "it is protected, or the key of this client is not an operator's"
                raise ValueError(f"the scheduler at {self.address} does not let this client shut it down: {why}")
            raise ValueError(f"the scheduler at {self.address} is protected: clients cannot shut it down")
        engine.shut_down_cluster(f"client {engine.client_id.hex()[:8]} asked for it", SHUTDOWN_SECONDS)
        error = errors.ClientShutdownException("the cluster was shut down by this client")
        self._close(client, effects.Cause.SHUT_DOWN, error)

    def forget(self) -> None:
        """Nobody holds the client or one of its futures any more. Called with any lock held, from any thread."""
        if isinstance(self.engine, ConnectionEngine):
            self.engine.close_when_idle()

    def require_open(self) -> None:
        """Raise ClientForkedError in a forked child, or what the client was closed with."""
        self.engine.check_process()
        if self._closed is not None:
            raise self._closed.with_traceback(None)

    @property
    def monitor_address(self) -> str:
        """Where monitors reach the scheduler; empty if it has not said so."""
        welcome = self.engine.welcome
        return "" if welcome is None else reached_beside(welcome.monitor_address, self.engine.address_in_use)

    @property
    def dashboard_url(self) -> str | None:
        """See `Client.dashboard_url`. Inside a task it waits for the session, which begins while the task goes on."""
        engine = self.engine
        if engine.welcome is None and not (engine.forked or engine.must_not_wait()):
            with contextlib.suppress(errors.ScalerError):
                engine.wait_connected(engine.timeout_seconds)
        return self._known_dashboard_url()

    def _known_dashboard_url(self) -> str | None:
        welcome = self.engine.welcome
        return None if welcome is None else url_reached_beside(welcome.dashboard_url, self.engine.address_in_use)

    def facts(self) -> dict[str, object]:
        """What there is to say of the connection, for people. Works in every state, in a forked child too."""
        engine = self.engine
        unusable = self._closed or engine.unusable
        if engine.forked:
            state = "belongs to the process this one was forked from"
        elif self._closed is not None:
            state = "closed"
        else:
            state = "connected" if unusable is None else f"not usable: {unusable}"
        facts: dict[str, object] = {"state": state, "unanswered tasks": engine.unanswered_count}
        if engine.welcome is not None:
            facts["monitors connect to"] = self.monitor_address
            facts["dashboard"] = self._known_dashboard_url() or ""
            facts["version of the scheduler"] = engine.welcome.software_version
        return facts

    def _close(self, client: FutureSource, cause: effects.Cause, error: errors.ScalerError) -> None:
        # In a forked child the session is the parent's, and stays: leaving a `with` block there is no mistake.
        if self._has_left or self.engine.forked:
            return
        if self._closed is None:
            if self.jobs is not None and cause is effects.Cause.CLOSED:
                self.jobs.settle_before_end()
            self._closed = error
        # All of it can be done again, where the first time was interrupted.
        if isinstance(self.engine, ConnectionEngine):
            self.engine.close(cause, str(self._closed))
        else:
            # Other clients of this process share the engine.
            self._end_futures(client, self._closed)
            self.engine.steps.do(partial(self.engine.objects.drop_references, self._references))
        if self.jobs is not None:
            self.jobs.close()
        self._has_left = True

    def unanswered(self, client: FutureSource) -> list[ScalerFuture]:
        """Return the futures of this client that are not done."""
        tokens = self.engine.tasks.unanswered_tokens()
        return [token for token in tokens if isinstance(token, ScalerFuture) and token.client is client]

    def _end_futures(self, client: FutureSource, error: errors.ScalerError) -> None:
        mine = self.unanswered(client)
        if mine:
            self.engine.futures.end(mine, error)

    # --- internal

    def _here(self) -> Surroundings:
        """Return what tasks that are submitted now share: inside a task, the environment is that task's."""
        here = self.surroundings
        if self.inherits:
            context = current_task_context()
            if context is not None and context.environment != here.environment:
                here = Surroundings(self.engine, self.serializer, self._flags, context.environment)
                self.surroundings = here
        return here

    @property
    def worker_setup(self) -> WorkerSetup:
        """Worker plugins and uploaded modules of this client."""
        from scaler.client.worker_setup import WorkerSetup

        with self._setup_lock:
            # One for all threads: it counts what it sends, and workers go by that.
            if self._worker_setup is None:
                self._worker_setup = WorkerSetup(self)
            return self._worker_setup

    def client_jobs(self) -> ClientJobs:
        """Return what the client does about jobs."""
        from scaler.client.jobs import ClientJobs

        with self._setup_lock:
            if self.jobs is None:
                self.jobs = ClientJobs(self)
            return self.jobs

    def surround(self, environment: bytes, held: tuple[bytes, ...]) -> None:
        """Have the tasks that are submitted from now on find another environment, which names objects that are `held`."""
        self.surroundings = Surroundings(self.engine, self.serializer, self._flags, environment, held)


def _hello(
    name: str | None, group: str, timeout_seconds: float, stream_output: bool, identity_prefix: bytes
) -> m.Hello:
    hostname = writable(socket.gethostname())
    return m.Hello(
        role=m.Role.CLIENT,
        name=name or default_client_name(hostname, os.getpid()),
        incarnation=new_id(identity_prefix),
        hostname=hostname,
        pid=os.getpid(),
        stream_output=stream_output,
        timeout_seconds=timeout_seconds,
        group=group,
        user=user_name(),
    )
