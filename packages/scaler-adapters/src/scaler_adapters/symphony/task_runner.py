"""What runs inside a Symphony service: one Scaler task, from payload bytes to payload bytes.

This module travels by value inside each task: a service that was deployed for Scaler needs `cloudpickle` and nothing of
ours. So it imports the standard library only. What payloads mean, `scaler_protocol.payloads.execution`, comes along as source
with all that it imports, and is imported only once it is there.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity


_PROVIDED = "_provided_by_scaler"
"""An attribute of modules that were made here."""


class RemoteTask(NamedTuple):
    """A task with everything it needs. Payloads and buffers are bytes."""

    function: bytes
    arguments: bytes
    inputs: Sequence[bytes]
    serializer: bytes
    """Body of the serializer class; empty for none."""
    objects: Mapping[bytes, Sequence[bytes]]
    """Buffers of the objects named, by id."""
    is_chunk: bool
    number: int
    depth: int
    scheduler_address: str
    object_storage_address: str
    """The adapter's setting; empty where clients inside the task ask the scheduler, whose object storage may move."""
    carried: tuple[int, ...] = ()
    """What the task carries (see `batch_rows.CARRIED`)."""
    security_dir: str = ""
    """Where this host has the worker's key, for clients inside the task; empty without keys."""
    identity_prefix: bytes = b""
    """How the ids of clients inside the task begin."""
    client: bytes = b""
    """The id of the client that submitted the task."""
    retried_after: tuple[str, ...] = ()
    """Full names of exception classes after which the scheduler may try it again."""
    profile: tuple[float, int, bytes] | None = None
    """Where a profile is taken: for how many seconds more, samples a second, and the id of the task's function."""


class RemoteResult(NamedTuple):
    """What became of it. Times in microseconds."""

    status: int
    payload: bytes
    buffers: Sequence[bytes]
    """Those of the object that the payload names, where it is an object: it is still to be stored."""
    duration: int
    figures: Mapping[str, int]
    """What else was measured, by the names of columns of `Reported`."""
    profile: tuple[str, int, int, tuple[Any, ...]] | None = None
    """What was sampled: the process, samples, microseconds the sampler has used so far, and the fields of a `CallTable`."""


def run_task_with(modules: Mapping[str, bytes], *fields: Any) -> tuple[Any, ...]:
    """As `run_task`, with compressed sources of modules of ours that payloads name and that may not be installed here."""
    _provide(modules)
    return run_task(*fields)


def _provide(modules: Mapping[str, bytes]) -> None:
    """Make modules from their sources, in this order, where they cannot be imported."""
    try:
        for name in modules:
            importlib.import_module(name)
    except ImportError:
        for name, source in modules.items():
            if hasattr(sys.modules.get(name), _PROVIDED):
                # By an earlier task that came with fewer of them.
                continue
            parent = name.rpartition(".")[0]
            while parent and parent not in sys.modules:
                package = sys.modules[parent] = types.ModuleType(parent)
                package.__path__ = []
                parent = parent.rpartition(".")[0]
            module = sys.modules[name] = sys.modules.get(name) or types.ModuleType(name)
            exec(compile(zlib.decompress(source), f"<{name}>", "exec"), module.__dict__)
            setattr(module, _PROVIDED, True)


def run_task(*fields: Any) -> tuple[Any, ...]:
    """Run the task of these fields of `RemoteTask` and return the fields of a `RemoteResult`. Never raises."""
    task = RemoteTask(*fields)
    process = os.getpid()
    started, cpu_started = time.perf_counter(), time.process_time()
    sampler = None
    if task.profile is not None:
        sampler = _sampler()
        sampler.begin(*task.profile)
    with _task_context(task):
        # Inside: a context manager may not be able to pass an exception on that forbids assignments.
        status, payload, buffers = _execute(task)
    if os.getpid() != process:
        # A process that the task has forked came back out of its code: only the one that was handed the task answers.
        os._exit(status)
    duration = int((time.perf_counter() - started) * 1e6)
    cpu_time = int((time.process_time() - cpu_started) * 1e6)
    figures = {"cpu_times": cpu_time, "memory_peaks": _memory_peak_bytes()}
    profile = None
    if sampler is not None:
        # Here: the agent's core imports this module, and has no sockets.
        import socket

        samples, cost, calls = sampler.end()
        profile = f"{socket.gethostname()}:{process}", samples, cost, tuple(calls)
    return tuple(RemoteResult(status, payload, buffers, duration, figures, profile))


def _sampler() -> Any:
    """Return the sampler of this process, which outlives its tasks while a profile is taken."""
    from scaler_protocol.payloads.execution import Execution
    from scaler_protocol.runtime.task_sampler import sampler_of_this_process

    boundary = Execution.run.__code__
    # A folder, or where modules were made from their sources, how their names begin.
    own = boundary.co_filename.removesuffix("payloads/execution.py").removesuffix("payloads.execution>")
    # Threads of clients inside tasks begin in this module.
    return sampler_of_this_process(boundary, (own, run_task.__code__.co_filename))


def _execute(task: RemoteTask) -> tuple[int, bytes, tuple[bytes, ...]]:
    """Return status, payload, and the buffers of the object that the payload names, if it names one."""
    from scaler_protocol.payloads import main_module
    from scaler_protocol.payloads.by_value.classes import set_scope
    from scaler_protocol.payloads.execution import Execution, TaskPayloads
    from scaler_protocol.payloads.values import ObjectUnavailableError
    from scaler_protocol.wire.status import Status

    def open_scope() -> None:
        scope = object()
        set_scope(lambda: scope)

    def fetch(object_id: bytes) -> list[memoryview]:
        buffers = task.objects.get(bytes(object_id))
        if buffers is None:
            raise ObjectUnavailableError(Status.MISSING_OBJECT, f"object {object_id.hex()} did not come with the task")
        # A copy: values restored from these buffers may be changed by the task.
        return [memoryview(bytearray(buffer)) for buffer in buffers]

    # A service process runs one task at a time.
    main_module.install()
    payloads = TaskPayloads(
        task.function, task.arguments, task.inputs, task.serializer, task.is_chunk, task.retried_after
    )
    status, outcome = Execution(fetch, open_scope, _environments(task)).run(payloads)
    return int(status), outcome.payload, tuple(bytes(buffer) for buffer in outcome.buffers)


def _environments(task: RemoteTask) -> Any:
    """Return the environments of this process, which outlive its tasks."""
    from scaler_protocol.payloads.environments import environments_of_this_process
    from scaler_protocol.runtime.worker_plugins import PluginWorker

    return environments_of_this_process(PluginWorker(f"symphony-{os.getpid()}", task.scheduler_address))


def _memory_peak_bytes() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _task_context(task: RemoteTask) -> Any:
    """Lets clients inside the task know where they are, where Scaler is installed at all."""
    try:
        from scaler_protocol.runtime import task_context
    except ImportError:
        yield
        return
    # A service process runs many tasks; clients made in an earlier one go on over the line they have.
    context: Any = task_context.current_task_context()
    if not hasattr(context, "begin_task") or not context.serves(task):
        context = _make_context(task)
    context.begin_task(task)
    task_context.set_task_context(context)
    try:
        yield
    finally:
        context.end_task()


def _make_context(task: RemoteTask) -> Any:
    """A task context whose clients reach the scheduler over a connection of their own: there is no agent on this host."""
    import threading

    from scaler_protocol.payloads.environments import body_in_this_process
    from scaler_protocol.transport import DealerLink
    from scaler_protocol.wire import messages as m
    from scaler_protocol.wire.codec import encode
    from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope

    class DirectContext:
        def __init__(self) -> None:
            self.scheduler_address = task.scheduler_address
            self.object_storage_address = task.object_storage_address
            self.security_dir = task.security_dir
            self.storage_gate = ""
            self.identity_prefix = task.identity_prefix
            self.depth = task.depth
            self.client = task.client
            self.task_number: int | None = None
            self.task_index = 0
            self.carried: tuple[int, ...] = ()
            self._links: dict[bytes, DealerLink] = {}

        def serves(self, task: RemoteTask) -> bool:
            """Whether the task comes from where this context's clients are connected to."""
            addresses = self.scheduler_address, self.object_storage_address
            return addresses == (task.scheduler_address, task.object_storage_address)

        @property
        def environment(self) -> bytes:
            return body_in_this_process()

        def begin_task(self, task: RemoteTask) -> None:
            self.client, self.task_number, self.depth, self.carried = task.client, task.number, task.depth, task.carried
            self.task_index += 1

        def end_task(self) -> None:
            self.client, self.task_number, self.carried = b"", None, ()

        def _keys(self) -> PeerSecurity | None:
            """The worker's key, with which clients inside tasks connect themselves; None without keys."""
            if not self.security_dir:
                return None
            from scaler_protocol.security.authority import KeyRole
            from scaler_protocol.security.directory import load_peer

            return load_peer(Path(self.security_dir), KeyRole.WORKER)

        def report_progress(self, done: float, total: float, note: str) -> None:
            """Nothing carries it: a task's messages to the agent are its result and those of clients inside it."""

        def open_relay(
            self, client: bytes, receiver: Callable[[list[Any]], None], attendant: Callable[[], None], module: str
        ) -> None:
            link = self._links[client] = DealerLink(self.scheduler_address, client, self._keys())

            def receive() -> None:
                while client in self._links:
                    # Not longer: nobody wakes this thread when the client is closed.
                    if link.has_received or link.wait(0.5):
                        for frames in link.receive(256):
                            receiver(frames)
                        if link.refusal is not None:
                            receiver([encode_envelope(UNSEQUENCED), *encode(m.Refused(str(link.refusal)))])
                            return
                    else:
                        attendant()

            threading.Thread(target=receive, daemon=True, name="scaler-nested-client").start()

        def on_canceled(self, client: bytes, receiver: Callable[[], None]) -> None:
            """A task that is cancelled here runs to its end."""

        def relay(self, client: bytes, frames: Sequence[Any]) -> None:
            self._links[client].send(frames)

        def prepare_relay(self, client: bytes, messages: Sequence[Sequence[Any]]) -> None:
            """Everything goes through `relay`."""

        def note_prepared(self) -> None:
            return

        def put_off(self) -> bool:
            return False

        def close_relay(self, client: bytes) -> None:
            link = self._links.pop(client, None)
            if link is not None:
                link.close()

        def enter_blocked(self) -> None:
            return

        def exit_blocked(self) -> None:
            return

        def note_unfinished(self, client: bytes, unfinished: bool) -> None:
            # Deeper tasks always start here, however those above them wait.
            return

    return DirectContext()
