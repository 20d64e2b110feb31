"""A processor: takes tasks, runs them one after another, and answers in batches.

Two threads. The *main thread* runs the tasks, and alone reads the task channel (`task_loop`, `execution`). The *control thread*
reads the control channel (cancel, take back, messages for clients inside tasks). It also sends results that wait while the main
thread is in a task that takes longer than expected (`control_thread`). It sleeps unless there is something to do.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import getpid
from typing import TYPE_CHECKING

from scaler_protocol.payloads import main_module
from scaler_protocol.payloads.by_value.classes import set_scope
from scaler_protocol.payloads.environments import Environments
from scaler_protocol.runtime.task_context import RelayAttendant, RelayReceiver, set_task_context
from scaler_protocol.runtime.worker_plugins import PluginWorker
from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.envelope import Frame
from scaler_worker.fences.cpu_time import CpuTime
from scaler_worker.processor.blocking import Blocking
from scaler_worker.processor.chain_results import ChainResults
from scaler_worker.processor.changes import watch
from scaler_worker.processor.channel import AgentGoneError, Channel
from scaler_worker.processor.control_thread import Awakening, ControlThread
from scaler_worker.processor.execution import TaskExecution
from scaler_worker.processor.failed_arguments import FailedArguments
from scaler_worker.processor.failures import FailureWriter
from scaler_worker.processor.forked import leave
from scaler_worker.processor.functions import FunctionTable
from scaler_worker.processor.host_objects import HostObjects
from scaler_worker.processor.imported_sources import ImportedSources
from scaler_worker.processor.inbox import Inbox
from scaler_worker.processor.kept_output import KeptOutput, Writer
from scaler_worker.processor.memory import Housekeeping
from scaler_worker.processor.module_search import import_ahead, worker_name
from scaler_worker.processor.nested_clients import NestedClients
from scaler_worker.processor.object_reader import ObjectReader
from scaler_worker.processor.options import ProcessorOptions
from scaler_worker.processor.output import OutputCapture, install_logging
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.placed_payloads import PlacedPayloads
from scaler_worker.processor.preload import PreloadError, run_preload
from scaler_worker.processor.process_state import ProcessState
from scaler_worker.processor.progress import ProgressReports
from scaler_worker.processor.records import FALSE, PID_BYTES, TRUE, Bytes, Kind, output_parts
from scaler_worker.processor.result_buffer import ResultBuffer
from scaler_worker.processor.retirement import RetiredError
from scaler_worker.processor.running_task import CANCEL_SIGNAL, RunningTask
from scaler_worker.processor.sampler import Sampler
from scaler_worker.processor.streams import TaskStreams
from scaler_worker.processor.task_loop import TaskLoop, row_just_ended
from scaler_worker.processor.task_memory import measured
from scaler_worker.processor.task_threads import TaskThreads
from scaler_worker.processor.time_limit import TimeLimit

if TYPE_CHECKING:
    from scaler_protocol.runtime.task_context import Outlet

logger = logging.getLogger(__name__)

START_FAILED_STATUS = 3
"""Exit status of a processor whose preload failed."""

AHEAD_SECONDS = 0.1
"""A processor that has had nothing to do for so long imports what its tasks will most likely need."""

TEARDOWN_SECONDS = 10.0
"""How long worker plugins may take to be torn down, all of a process together; then the process ends without."""

STDERR = 2

_AGENT_GONE = AgentGoneError
"""No other name, nor `contextlib`, while a task runs: it may have replaced what it finds in modules."""

RETIRED_STATUS = 0
BROKEN_STATUS = 4
"""Exit status of a processor that cannot answer any more: what a task has done to it reached its channel, or its loop."""


@contextlib.contextmanager
def _limited_in_time(environments: Environments) -> Iterator[None]:
    """End this process if the block takes too long, and there are plugins: the code of their `teardown` may wait for ever."""
    if environments.has_plugins:
        # Needs neither the interpreter's lock nor a signal. What it writes is in the agent's log.
        faulthandler.dump_traceback_later(TEARDOWN_SECONDS, exit=True, file=STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class Processor:
    """One processor, from its start to its end; a `TaskContext` for the code it runs."""

    def __init__(
        self,
        options: ProcessorOptions,
        tasks: Channel,
        control: Channel,
        page: RunningPage,
        open_kept: Callable[[Callable[[], Writer | None], RunningTask], KeptOutput] | None = None,
    ) -> None:
        """`open_kept` opens what keeps the output of tasks; it is given what says which task writes, and the running one.

        None: nothing is kept.
        """
        self._options = options
        self._tasks = tasks
        self._control_channel = control
        self._pid = getpid()
        self._state: ProcessState | None = None
        """There is none before the processor takes its first task."""
        self._housekeeping = Housekeeping(
            options.garbage_collect_interval_seconds, options.trim_memory_threshold_bytes, tasks.give_back_idle
        )
        awakening = Awakening()
        limit = TimeLimit(awakening.keep_awake)
        self._running = RunningTask(page, limit, awakening.keep_awake)
        self._threads = TaskThreads(self._running, row_just_ended)
        self._capture = OutputCapture(self._send_output, self._threads.works_for, awakening.look_soon)
        self._kept = open_kept(self._threads.writer, self._running) if open_kept is not None else None
        self._streams = TaskStreams(self._capture, self._kept)
        self._placed = PlacedPayloads(self._running)
        self._results = ResultBuffer(tasks.send)
        self._environments = Environments(
            PluginWorker(worker_name(), options.scheduler_address), self._shielded, self._describe_environments
        )
        self._described = ""
        self._functions = FunctionTable(self._environments)
        chain_results = ChainResults()
        self._inbox = Inbox(tasks, self._functions, chain_results)
        self._clients = NestedClients(tasks, self._send, self._results, awakening.wake, awakening.alarm)
        self._progress = ProgressReports(self._running, self._threads, self._send_untold, awakening.wake)
        self.report_progress = self._progress.report
        """Told how far the running task is."""
        self._blocking = Blocking(self._running, self._inbox, self._results, self._clients, self._capture)
        objects = HostObjects(options.object_folders)
        failed_arguments = (
            FailedArguments(self._kept, limit) if self._kept is not None and not options.hides_arguments else None
        )
        self._execution = TaskExecution(
            self._running,
            self._functions,
            chain_results,
            ObjectReader(objects, tasks, self._running, self._inbox, self._results),
            objects,
            self._results,
            FailureWriter(limit, options.fences.memory_note),
            self._capture,
            self._blocking,
            self._clients,
            self._send,
            self._placed,
            self._environments,
            failed_arguments,
        )
        self._cpu_time = CpuTime(options.fences.cpu_seconds) if options.fences.cpu_seconds else None
        self._loop = TaskLoop(
            tasks,
            self._inbox,
            self._functions,
            chain_results,
            self._results,
            self._blocking,
            awakening,
            self._look_after if self._cpu_time is None else partial(self._look_after_and_renew, self._cpu_time),
            ImportedSources(),
            measured(self._execution.run, page) if options.enforce_memory else self._execution.run,
            failed_arguments,
        )
        self._sampler = Sampler(self._running, TaskExecution.run.__code__, tasks.send)
        self._control = ControlThread(
            control,
            awakening,
            self._running,
            self._inbox,
            self._results,
            self._clients,
            self._capture,
            limit,
            self._progress,
            self._sampler,
        )

    # --- TaskContext

    @property
    def scheduler_address(self) -> str:
        """The scheduler's address, as the agent has it."""
        return self._options.scheduler_address

    @property
    def identity_prefix(self) -> bytes:
        """How the ids of clients in this process begin: with keys, the fingerprint of the worker's."""
        return bytes.fromhex(self._options.identity_prefix)

    @property
    def security_dir(self) -> str:
        """Where the worker's key is; empty without keys, and where this process may not read it."""
        return self._options.security_dir

    @property
    def storage_gate(self) -> str:
        """Where the agent carries large values for clients in this process; empty if they do so themselves."""
        return self._options.storage_gate

    @property
    def object_storage_address(self) -> str:
        """The address of object storage now; empty: there is none."""
        return self._control.storage_address

    @property
    def depth(self) -> int:
        """How deeply the running task is nested."""
        row = self._running.row
        return row.tasks.depth if row is not None else 0

    @property
    def client(self) -> bytes:
        """The client that submitted the running task; empty between tasks."""
        row = self._running.row
        return row.tasks.client if row is not None else b""

    @property
    def task_number(self) -> int | None:
        """The number of the running task; None between tasks."""
        row = self._running.row
        return row.tasks.numbers[row.position] if row is not None else None

    @property
    def task_index(self) -> int:
        """Tells the running task from those before; -1 between tasks."""
        row = self._running.row
        return row.task_index if row is not None else -1

    @property
    def carried(self) -> Carried:
        """What the running task carries; empty between tasks."""
        row = self._running.row
        return row.tasks.carried[row.position] if row is not None and row.tasks.carried else ()

    @property
    def options(self) -> bytes:
        """What the running task asks for; empty for nothing, between tasks, and in a thread that an earlier task has left."""
        row = self._threads.row()
        return row.tasks.options if row is not None else b""

    @property
    def devices(self) -> tuple[str, ...]:
        """The GPUs that the running task has been granted; none in a thread that an earlier task has left."""
        row = self._threads.row()
        return tuple(row.tasks.devices.decode().split(",")) if row is not None and row.tasks.devices else ()

    @property
    def environment(self) -> bytes:
        """The body of the running task's environment; empty where it has none."""
        return self._environments.body

    def open_relay(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        """Register a client inside the task; `receiver` gets its messages."""
        self._clients.open(client, receiver, attendant, module)

    def on_canceled(self, client: bytes, receiver: Callable[[], None]) -> None:
        """Have `receiver` called when a task is cancelled."""
        self._clients.on_canceled(client, receiver)

    def relay(self, client: bytes, frames: Sequence[Frame]) -> None:
        """Send a message of such a client."""
        self._clients.relay(client, frames)

    def prepare_relay(self, client: bytes, messages: Sequence[Sequence[Frame]]) -> tuple[Outlet, bytes, int] | None:
        """Return what sends messages with one system call, and the packet; None if that is impossible now."""
        if not self._running.is_current_thread():
            return None
        record = self._clients.prepare(client, messages)
        packet = self._tasks.prepare(*record) if record is not None else None
        return None if packet is None else (self._tasks, packet, self._tasks.write_flag)

    def note_prepared(self) -> None:
        """Note that a prepared message has been sent."""
        self._clients.note_prepared()

    def put_off(self) -> bool:
        """Have the attendants called soon, where the task's thread asks for it."""
        if not self._running.is_current_thread():
            return False
        self._clients.put_off()
        return True

    def close_relay(self, client: bytes) -> None:
        """Remove a client inside the task."""
        self._clients.close(client)

    def note_unfinished(self, client: bytes, unfinished: bool) -> None:
        """Note whether a client inside the task has unanswered tasks."""
        self._clients.note(client, unfinished)

    def enter_blocked(self) -> None:
        """The task begins to wait for tasks of its own."""
        self._blocking.enter()

    def exit_blocked(self) -> None:
        """The task goes on."""
        self._blocking.exit()

    # --- life

    def run(self) -> int:
        """Work until the agent closes the task channel; return the exit status."""
        signal.signal(CANCEL_SIGNAL, self._running.on_signal)
        install_logging(self._capture, self._kept)
        os.register_at_fork(before=self._streams.flush, after_in_child=self._become_fork)
        self._control.start()
        watch(self._threads.note)
        main_module.install()
        set_task_context(self)
        set_scope(self._class_scope)
        if self._options.preload:
            try:
                run_preload(self._options.preload)
            except PreloadError as error:
                logger.error("%s", error)
                self._tasks.send(Kind.START_FAILED, [str(error).encode("utf-8", "replace")])
                return START_FAILED_STATUS
        gc.freeze()
        self._tasks.send(Kind.READY, [self._pid.to_bytes(PID_BYTES, "little")])
        if self._options.task_modules and not self._tasks.waited_for(AHEAD_SECONDS):
            import_ahead(self._options.task_modules)
            gc.freeze()
        if self._cpu_time is not None:
            self._cpu_time.begin()
        self._state = ProcessState(self._streams)
        self._sampler.begin(self._state.switch_interval)
        try:
            while True:
                kind, body = self._tasks.receive()
                # The only other kind, an answer about an object nobody waits for any more, is late.
                self._inbox.take_in(kind, body)
                self._loop.run(self._state)
                if self._inbox.gone_clients:
                    self._end_environments()
                    self._look_after(self._state)
                self._placed.close()
                self._housekeeping.run()
        except BaseException as error:
            return self._end(error)

    def _look_after(self, state: ProcessState) -> None:
        """Put back what tasks have changed of the process; raise RetiredError where that is not possible."""
        fault = state.restore()
        if not (self._tasks.is_intact and self._control_channel.is_intact):
            fault = "a task closed the channels of its processor"
        elif not self._control.is_alive():
            fault = "a task ended a thread of its processor"
        if fault:
            raise RetiredError(fault)

    def _look_after_and_renew(self, cpu_time: CpuTime, state: ProcessState) -> None:
        """The same where the CPU time of each task is limited."""
        self._look_after(state)
        fault = cpu_time.renew()
        if fault:
            raise RetiredError(fault)

    def _describe_environments(self) -> None:
        """Tell the agent which worker plugins and uploaded modules there are, for people."""
        description = self._environments.description
        if description != self._described:
            self._described = description
            self._tasks.send(Kind.ENVIRONMENT, [description.encode("utf-8", "replace")])

    def _end_environments(self) -> None:
        """Tear down the worker plugins of clients that have left."""
        gone = self._inbox.gone_clients
        if not self._environments.has_plugins_of(gone):
            while gone:
                self._environments.end(gone.pop())
            return
        # Nobody waits for this, and what takes its time is no task.
        self._results.flush()
        self._tasks.send(Kind.TEARDOWN, [TRUE])
        with _limited_in_time(self._environments):
            while gone:
                self._environments.end(gone.pop())
        self._tasks.send(Kind.TEARDOWN, [FALSE])

    def _end_all_environments(self) -> None:
        """Tear down all worker plugins: the process ends. Another one sets up its own."""
        if self._environments.has_plugins:
            with _limited_in_time(self._environments):
                self._environments.end_all()

    def _end(self, error: BaseException) -> int:
        """Return the exit status of a processor that cannot go on. What it has not begun is given to others by the agent.

        Nothing but the agent's leaving, or what a task has done to this process, gets here: a signal handler that raises between
        tasks, an exception set from another thread, built-in functions that are gone.
        """
        if self._running.is_forked:
            leave(error)
        if isinstance(error, AgentGoneError) and self._tasks.is_intact:
            self._end_all_environments()
            return 0
        # Not its text: an exception of a user's may do anything when it is printed.
        fault = error.fault if isinstance(error, RetiredError) else f"{type(error).__name__} came between two tasks"
        try:
            if self._state is not None:
                self._state.restore()
            self._results.flush()
            self._end_all_environments()
            self._tasks.send(Kind.RETIRED, [fault.encode(errors="replace")])
        except BaseException:
            self._streams.stderr.write(f"the processor cannot go on: {fault}\n")
            return BROKEN_STATUS
        return RETIRED_STATUS

    def _become_fork(self) -> None:
        """In a process that a task has forked from this one: only the one that was handed the task answers."""
        self._running.is_forked = True
        self._tasks.abandon()
        self._control_channel.abandon()
        self._capture.abandon()
        self._streams.abandon()
        if self._kept is not None:
            self._kept.abandon()
        self._clients.abandon()
        self._results.abandon()
        self._inbox.abandon()
        # For the agent it is not in a task: a client made here connects by itself.
        set_task_context(None)
        self._execution.chunks.abandon()

    # --- for its parts

    def _class_scope(self) -> tuple[int, int]:
        """Return what a task, or a call that restores its function, has to itself (see `by_value.classes`)."""
        row = self._running.row
        return -1 if row is None else row.task_index, self._functions.calls_restored

    def _send_untold(self, kind: Kind, parts: Sequence[Bytes]) -> None:
        # As with output: the channel's end is noticed with the result.
        try:
            self._send(kind, parts)
        except _AGENT_GONE:
            return

    def _send_output(self, index: int, stream: int, data: bytes, dropped_bytes: int) -> None:
        # As with the process's own streams, nobody's `print` fails here: the channel's end is noticed with the result.
        try:
            self._send(Kind.OUTPUT, output_parts(index, stream, data, dropped_bytes))
        except _AGENT_GONE:
            return

    def _shielded(self, action: Callable[[], None]) -> None:
        """Do what a task that is cancelled must not leave half done."""
        was_in_code = self._running.leave_code()
        try:
            action()
        finally:
            self._running.return_to_code(was_in_code)

    def _send(self, kind: Kind, parts: Sequence[Bytes] = ()) -> None:
        """Send a record, from inside a task too, and from any thread."""
        was_in_code = self._running.leave_code()
        try:
            self._tasks.send(kind, parts)
        finally:
            self._running.return_to_code(was_in_code)
