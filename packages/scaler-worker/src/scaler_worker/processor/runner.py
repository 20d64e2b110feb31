"""The processor's main loop: take tasks, run them one after another, answer in batches.

Two threads. The *main thread* runs the tasks and is the only one that reads the task channel. The *control thread* reads the
control channel (cancel, take back, messages for clients inside tasks) and sends results that wait while the main thread is
stuck in a task that takes longer than was thought; it sleeps unless there is something to do.

Results are buffered, because a packet costs as much as several tasks: they go out when there is nothing more to do, when they
are `FLUSH_RESULTS_MAX`, when others went out `FLUSH_SECONDS` ago (so the first one after a pause goes at once), before a
function that is known to be slow or not known, and at the latest after `LATEST_FLUSH_SECONDS`.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from os import eventfd_read, eventfd_write, getpid
from pickle import dumps, loads
from signal import pthread_kill
from sys import setprofile, settrace
from threading import get_ident
from time import perf_counter, process_time
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from scaler_protocol.failures import named_failure_payload
from scaler_protocol.ids import NO_ID
from scaler_protocol.payloads.by_value.classes import set_scope
from scaler_protocol.payloads.expressions import CallFailedError
from scaler_protocol.payloads.framing import FAILURE_KEPT_BYTES_MAX, PICKLED, unframe_function
from scaler_protocol.payloads.values import (
    NotRestoredError,
    ObjectUnavailableError,
    Outcome,
    Serializer,
    dump_pickle,
    dump_result,
    inline_or_object,
    load_arguments,
    load_chunk,
    load_value,
    serialized,
    unavailable_object,
)
from scaler_protocol.runtime.coroutines import awaiting, cancel_running, completed, is_cancellation
from scaler_protocol.runtime.task_context import RelayAttendant, RelayReceiver, set_task_context
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire.envelope import Frame
from scaler_protocol.wire.messages import Status, TaskFlag, TaskKind
from scaler_worker.processor.changes import CHANGES, watch
from scaler_worker.processor.channel import AgentGoneError, Channel
from scaler_worker.processor.descriptors import moved_out_of_reach
from scaler_worker.processor.failures import (
    FailureWriter,
    NotSerializableError,
    shown_failure,
)
from scaler_worker.processor.forked import leave
from scaler_worker.processor.host_objects import HostObjects, PlaceGoneError
from scaler_worker.processor.inside_clients import InsideClients
from scaler_worker.processor.memory import Housekeeping, peak_bytes, reset_peak
from scaler_worker.processor.options import ProcessorOptions
from scaler_worker.processor.output import OutputCapture, install_logging
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.preload import PreloadError, run_preload
from scaler_worker.processor.process_state import ProcessState
from scaler_worker.processor.records import (
    PID_BYTES,
    Bytes,
    Extra,
    Kind,
    Result,
    Tasks,
    chunk_failures_parts,
    given_back_parts,
    object_wanted_parts,
    one_result_parts,
    output_parts,
    read_cancel,
    read_object_answer,
    read_one_task,
    read_tasks,
    results_parts,
)
from scaler_worker.processor.streams import TaskStreams
from scaler_worker.processor.time_limit import TimeLimit, is_importing
from scaler_worker.processor.unchanged import Restoring

if TYPE_CHECKING:
    from scaler_protocol.transport.dealer import Outlet

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.004
FLUSH_AHEAD_SECONDS = 0.010
"""How long results wait for others: the second where the work that lies ahead lasts longer than they have waited."""

FLUSH_RESULTS_MAX = 256
LATEST_FLUSH_SECONDS = 0.016
SLOW_SECONDS = 0.002
"""Functions that take longer have earlier results sent before they run."""

AWAKE_TICKS = 10
"""Times `LATEST_FLUSH_SECONDS` the control thread stays awake without finding anything."""

CANCEL_SIGNAL = signal.SIGRTMIN + 3
"""Interrupts the main thread to look whether its task was cancelled, or its exception takes too long to describe.

Hardly any library uses it.
"""

OBJECT_TRIES = 3

START_FAILED_STATUS = 3
"""Exit status of a processor whose preload failed."""

RETIRED_STATUS = 0
BROKEN_STATUS = 4
"""Exit status of a processor that cannot answer any more: what a task has done to it reached its channel, or its loop."""

QUICK_MICROSECONDS = 500
LOOK_AFTER_SECONDS = 0.01
"""What a task has left of its process is looked for at once where it was seen to change something (`changes`), was the first of
its function, has failed, or took longer. What was not seen of a quick one is looked for after so long, as looking costs as much
as such a task. The time in which a task waits for tasks of its own does not count: others use the processor then."""

UNDESCRIBED = named_failure_payload("Exception", "the task raised an exception that cannot be described")

CALL, MAP_CHUNK = int(TaskKind.CALL), int(TaskKind.MAP_CHUNK)
PROFILE, STREAM_OUTPUT = int(TaskFlag.PROFILE), int(TaskFlag.STREAM_OUTPUT)
SUCCESS, FAILED, CANCELED = int(Status.SUCCESS), int(Status.FAILED), int(Status.CANCELED)

_INLINE_TYPES = frozenset((type(None), bool, int, float))
"""Results whose pickle is small for certain, and needs no look at buffers."""


class TaskCanceled(BaseException):
    """Raised inside a task that is to end."""


@dataclass(slots=True, eq=False)
class Function:
    """A loaded function and what is known of its speed. `seconds` is infinite until it has run."""

    id: bytes
    call: Callable[..., Any]
    seconds: float = float("inf")
    item_call: Callable[..., Any] | None = None
    """As `call`, for the items of map chunks, where there have been any: it awaits what a coroutine function makes."""


class Row(NamedTuple):
    """A task that waits for its turn. `position` is its row in `tasks`."""

    task_index: int
    position: int
    function: bytes
    payload: bytes
    tasks: Tasks


class Processor:
    """One processor: a `TaskContext` for the code it runs."""

    def __init__(self, options: ProcessorOptions, tasks: Channel, control: Channel, page: RunningPage) -> None:
        self._options = options
        self._tasks = tasks
        self._control = control
        self._page = page
        self._objects = HostObjects(options.object_folder)
        self._housekeeping = Housekeeping(options.garbage_collect_interval_seconds, options.trim_memory_threshold_bytes)
        self._capture = OutputCapture(self._send_output)
        self._streams = TaskStreams(self._capture)
        self._state: ProcessState | None = None
        """Until the preload is done there is none."""
        self._pid = getpid()
        self._is_forked = False
        """In a process that a task has forked from this one."""
        self._items: Any = None
        """The iterator over the items of the map chunk that runs."""
        self._bodies: dict[bytes, bytes] = {}
        self._functions: dict[bytes, Function] = {}
        self._serializers: dict[bytes, Serializer] = {}
        # Rows move under this lock only when several do at once; the main thread takes single ones without it.
        self._rows: deque[Row] = deque()
        self._rows_lock = threading.Lock()
        self._generation = 0
        self._next_index = 0
        self._came_alone = False
        self._current: Row | None = None
        self._inside = False
        """Whether the main thread is inside a task's code, where `TaskCanceled` may be raised."""
        self._cancels: dict[int, tuple[int, str]] = {}
        self._readers: dict[int, int] = {}
        """How many inputs of tasks here are the result of the task with this index, which has not ended."""
        self._kept: dict[int, bytes] = {}
        """Results by index, until the last input that is one of them was read."""
        self._calls_restored = 0
        self._blocked_depth = 0
        self._blocked_at = 0.0
        self._blocked_seconds = 0.0
        """How long the running task, or the last one, has waited for tasks of its own."""
        self._buffer: deque[Result] = deque()
        self._flush_lock = threading.Lock()
        self._flushed_at = 0.0
        self._looked_after_at = 0.0
        self._wake_descriptor = moved_out_of_reach(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._control_awake = False
        self._clients = InsideClients(self._send, self._wake_control)
        self._postponed = False
        """Whether the main thread was signalled while it imported something."""
        self._limit = TimeLimit(self._keep_control_awake)
        self._failures = FailureWriter(self._limit)
        self._storage_address = ""
        self._main_thread = threading.main_thread().ident or 0
        self._control_thread = threading.Thread(target=self._serve_control, name="scaler-control", daemon=True)

    # --- TaskContext

    @property
    def scheduler_address(self) -> str:
        return self._options.scheduler_address

    @property
    def object_storage_address(self) -> str:
        return self._storage_address

    @property
    def depth(self) -> int:
        row = self._current
        return row.tasks.depth if row is not None else 0

    @property
    def task_number(self) -> int | None:
        row = self._current
        return row.tasks.numbers[row.position] if row is not None else None

    def open_relay(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        self._clients.open(client, receiver, attendant, module)

    def relay(self, client: bytes, frames: Sequence[Frame]) -> None:
        self._clients.relay(client, frames)

    def prepare_relay(self, client: bytes, frames: Sequence[Frame]) -> tuple[Outlet, bytes, int] | None:
        if get_ident() != self._main_thread:
            return None
        record = self._clients.prepare(client, frames)
        packet = self._tasks.prepare(*record) if record is not None else None
        return None if packet is None else (self._tasks, packet, self._tasks.write_flag)

    def note_prepared(self) -> None:
        self._clients.note_prepared()

    def close_relay(self, client: bytes) -> None:
        self._clients.close(client)

    def note_unfinished(self, client: bytes, unfinished: bool) -> None:
        self._clients.note(client, unfinished)

    def enter_blocked(self) -> None:
        row = self._current
        if get_ident() != self._main_thread or row is None:
            # Other threads of a task may wait without the task standing still.
            return
        self._blocked_depth += 1
        if self._blocked_depth > 1:
            return
        self._blocked_at = perf_counter()
        inside = self._leave_task()
        try:
            self._capture.flush()
            self._flush()
            self._clients.enter_blocked()
            with self._rows_lock:
                self._generation += 1
                self._rows.clear()
                self._next_index = row.task_index + 1
                self._tasks.send(Kind.BLOCKED, given_back_parts(self._generation, self._next_index))
        finally:
            self._return_to_task(inside)

    def exit_blocked(self) -> None:
        if get_ident() != self._main_thread or not self._blocked_depth:
            return
        self._blocked_depth -= 1
        if not self._blocked_depth:
            self._blocked_seconds += perf_counter() - self._blocked_at
            self._clients.exit_blocked()

    # --- life

    def run(self) -> int:
        """Work until the agent closes the task channel; return the exit status."""
        signal.signal(CANCEL_SIGNAL, self._on_cancel_signal)
        install_logging(self._capture)
        os.register_at_fork(before=self._streams.flush, after_in_child=self._become_fork)
        self._control_thread.start()
        watch()
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
        self._state = ProcessState(self._streams)
        self._tasks.send(Kind.READY, [self._pid.to_bytes(PID_BYTES, "little")])
        try:
            while True:
                kind, body = self._tasks.receive()
                # The only other kind, an answer about an object nobody waits for any more, is late.
                self._take_in(kind, body)
                self._run_rows(self._state)
                self._housekeeping.run()
        except BaseException as error:
            return self._end(error)

    def _end(self, error: BaseException) -> int:
        """Return the exit status of a processor that cannot go on. What it has not begun is given to others by the agent.

        Nothing but the agent's leaving, or what a task has done to this process, gets here: a signal handler that raises between
        tasks, an exception set from another thread, built-in functions that are gone.
        """
        if self._is_forked:
            leave(error)
        if isinstance(error, AgentGoneError) and self._tasks.is_intact:
            return 0
        # Not its text: an exception of a user's may do anything when it is printed.
        fault = error.fault if isinstance(error, _RetiredError) else f"{type(error).__name__} came between two tasks"
        try:
            if self._state is not None:
                self._state.restore()
            self._flush()
            self._tasks.send(Kind.RETIRED, [fault.encode(errors="replace")])
        except BaseException:
            self._streams.stderr.write(f"the processor cannot go on: {fault}\n")
            return BROKEN_STATUS
        return RETIRED_STATUS

    def _become_fork(self) -> None:
        """In a process that a task has forked from this one: only the one that was handed the task answers."""
        self._is_forked = True
        self._tasks.abandon()
        self._control.abandon()
        self._capture.abandon()
        self._streams.abandon()
        self._clients.abandon()
        self._flush_lock = threading.Lock()
        self._rows_lock = threading.Lock()
        self._buffer.clear()
        self._rows.clear()
        # For the agent it is not in a task: a client made here connects by itself.
        set_task_context(None)
        if self._items is not None:
            # Beyond its end: there are no further items for the built-in `map`, which would go on with them otherwise.
            self._items.__setstate__(sys.maxsize)

    def _take_in(self, kind: int, body: bytes) -> bool:
        """Have the tasks of a record wait for their turn; return whether it was one of tasks."""
        if kind == Kind.ONE_TASK:
            tasks = read_one_task(body)
            self._came_alone = True
            with self._rows_lock:
                if tasks.generation == self._generation:
                    row = (tasks.first_index, 0, tasks.functions[0], tasks.payloads[0], tasks)
                    self._rows.append(new_tuple(Row, row))
                    self._next_index = tasks.first_index + 1
            return True
        if kind == Kind.TASKS:
            self._take_in_many(read_tasks(body))
            return True
        return False

    def _take_in_many(self, tasks: Tasks) -> None:
        for function in tasks.forgotten:
            self._bodies.pop(function, None)
            self._functions.pop(function, None)
            self._serializers.pop(function, None)
        # Bodies are kept even when the tasks are void: the agent counts them as delivered.
        self._bodies.update(tasks.new_functions)
        functions: Iterable[bytes]
        if len(tasks.function_indexes):
            table = tasks.functions
            functions = [table[index] for index in tasks.function_indexes]
        else:
            functions = itertools.repeat(tasks.functions[0])
        positions = range(len(tasks.payloads))
        first = tasks.first_index
        self._came_alone = len(positions) == 1
        rows = map(
            Row._make,
            zip(
                range(first, first + len(positions)),
                positions,
                functions,
                tasks.payloads,
                itertools.repeat(tasks),
                strict=False,
            ),
        )
        with self._rows_lock:
            if tasks.generation == self._generation:
                self._rows.extend(rows)
                self._next_index = first + len(positions)
        for inputs in tasks.inputs.values():
            for source in inputs:
                if type(source) is int:
                    self._readers[source] = self._readers.get(source, 0) + 1

    # --- running tasks

    def _run_rows(self, state: ProcessState) -> None:
        rows = self._rows
        buffer = self._buffer
        is_due = False
        ended_at = 0.0
        while True:
            try:
                row = rows.popleft()
            except IndexError:
                break
            function = self._functions.get(row.function)
            if buffer and (function is None or function.seconds > SLOW_SECONDS):
                self._flush()
            result, ended_at = self._run_row(row, function, state)
            buffer.append(result)
            if self._readers and row.task_index in self._readers and (result[3] is None or not result[3].status):
                self._kept[row.task_index] = result[1]
            waited = ended_at - self._flushed_at
            if len(buffer) >= FLUSH_RESULTS_MAX or (
                waited >= FLUSH_SECONDS
                and (waited >= FLUSH_AHEAD_SECONDS or len(rows) * self._seconds_of(row.function) < waited)
            ):
                self._flush()
            elif not self._control_awake:
                self._keep_control_awake()
            took = result[2]
            if self._blocked_seconds:
                took -= int(self._blocked_seconds * 1e6)
                self._blocked_seconds = 0.0
            if function is None or took >= QUICK_MICROSECONDS or result[3] is not None or state.may_have_changed():
                is_due = True
                if rows:
                    # Before the next task can feel what this one has left.
                    self._look_after(state)
                    is_due = False
        # Whoever was to read these was taken back.
        self._readers.clear()
        self._kept.clear()
        # What is here already is more work for certain; what may come is not. A task that came alone is not kept waiting.
        if buffer and (self._came_alone or not self._tasks.has_waiting()):
            self._flush()
        # Behind the answer, which so need not wait for it.
        if is_due or ended_at >= self._looked_after_at + LOOK_AFTER_SECONDS:
            self._looked_after_at = ended_at
            self._look_after(state)

    def _look_after(self, state: ProcessState) -> None:
        """Put back what tasks have changed of the process; raise _RetiredError where that is not possible."""
        fault = state.restore()
        if not (self._tasks.is_intact and self._control.is_intact):
            fault = "a task closed the channels of its processor"
        elif not self._control_thread.is_alive():
            fault = "a task ended a thread of its processor"
        if fault:
            raise _RetiredError(fault)

    def _keep_control_awake(self) -> None:
        """Have the control thread look around every few milliseconds, as long as there is something to look after."""
        if not self._control_awake:
            self._control_awake = True
            eventfd_write(self._wake_descriptor, 1)

    def _seconds_of(self, function_id: bytes) -> float:
        """How long a task of this function takes; 0 where nobody knows."""
        function = self._functions.get(function_id)
        return function.seconds if function is not None and function.seconds < float("inf") else 0.0

    def _run_row(self, row: Row, function: Function | None, state: ProcessState) -> tuple[Result, float]:
        """Run one task; return its result and when it ended. Never raises because of what the task does."""
        index = row.task_index
        started_at = perf_counter()
        self._current = row
        try:
            # In this order: a cancel that is not in the table when we look finds the task running, and signals.
            self._inside = True
            self._page.word[0] = index + 1
            if self._cancels and index in self._cancels:
                raise TaskCanceled
            tasks = row.tasks
            if function is None:
                function = self._load_function(row)
            if tasks.kind == CALL and not tasks.flags and not tasks.serializer and row.payload[:1] == PICKLED:
                # The way of nearly all small tasks: no more than unpickle, call, pickle.
                args, kwargs = self._unpickle(row.payload)
                if self._is_forked:
                    leave(None)
                started_at = perf_counter()
                value = copy_context().run(function.call, *args, **kwargs)
                ended_at = perf_counter()
                if self._is_forked:
                    leave(None)
                if CHANGES.noted:
                    # What a task traces or profiles with could raise inside the processor.
                    settrace(state.trace)
                    setprofile(state.profile)
                if type(value) in _INLINE_TYPES:
                    self._inside = False
                    result: Result = (index, PICKLED + dumps(value, 5), int((ended_at - started_at) * 1e6), None)
                else:
                    if type(value) is CoroutineType:
                        value = completed(value)
                        ended_at = perf_counter()
                        if self._is_forked:
                            leave(None)
                    result = self._result(row, started_at, ended_at, self._dump(value, None))
                    self._inside = False
            else:
                result, ended_at = self._run_other(row, function, state)
                self._inside = False
            seconds = ended_at - started_at
            known = function.seconds
            function.seconds = seconds if known == float("inf") else known * 0.8 + seconds * 0.2
        except BaseException as error:
            # The signal may come once more while this runs.
            self._inside = False
            if self._is_forked:
                leave(error)
            ended_at = perf_counter()
            settrace(state.trace)
            setprofile(state.profile)
            try:
                result = self._end_badly(row, error, started_at, ended_at)
            except AgentGoneError:
                raise
            except BaseException:
                # Exceptions are objects of the user's too.
                result = (index, UNDESCRIBED, int((ended_at - started_at) * 1e6), Extra(FAILED))
        finally:
            self._current = None
            if self._cancels:
                self._cancels.pop(index, None)
        if self._blocked_depth:
            # A wait that was interrupted from outside.
            self._blocked_depth = 1
            self.exit_blocked()
        return result, ended_at

    def _run_other(self, row: Row, function: Function, state: ProcessState) -> tuple[Result, float]:
        """Run a task that is a map chunk, is profiled or listened to, or has arguments from elsewhere."""
        tasks = row.tasks
        serializer = self._serializer(tasks.serializer)
        profiled = tasks.flags & PROFILE
        if tasks.flags & STREAM_OUTPUT:
            self._capture.begin(row.task_index)
        try:
            if tasks.kind == MAP_CHUNK:
                try:
                    chunk = load_chunk(row.payload, self._fetch)
                except Exception as error:
                    raise NotRestoredError("the arguments", error) from error
            else:
                inputs = self._inputs(tasks.inputs[row.position]) if row.position in tasks.inputs else ()
                args, kwargs = self._load_arguments(row.payload, inputs, serializer)
            if profiled:
                reset_peak()
                cpu_started_at = process_time()
            if self._is_forked:
                leave(None)
            started_at = perf_counter()
            if tasks.kind == MAP_CHUNK:
                values, failures = copy_context().run(self._run_chunk, chunk, function, serializer)
            else:
                value = completed(copy_context().run(function.call, *args, **kwargs))
            ended_at = perf_counter()
            if self._is_forked:
                leave(None)
            settrace(state.trace)
            setprofile(state.profile)
        finally:
            self._capture.end()
        is_chunk = tasks.kind == MAP_CHUNK
        outcome = self._dump_chunk(values, failures, serializer) if is_chunk else self._dump(value, serializer)
        if is_chunk and failures:
            first = shown_failure(failures[min(failures)])
            self._send(Kind.CHUNK_FAILURES, chunk_failures_parts(row.task_index, len(failures), first))
        cpu_time = int((process_time() - cpu_started_at) * 1e6) if profiled else 0
        return (
            self._result(row, started_at, ended_at, outcome, cpu_time, peak_bytes() if profiled else 0),
            ended_at,
        )

    def _run_chunk(
        self,
        chunk: tuple[bool, Sequence[Any]] | list[bytes],
        function: Function,
        serializer: Serializer | None,
    ) -> tuple[list[Any], dict[int, bytes]]:
        """Return the values of all items and the failures by item."""
        failures: dict[int, bytes] = {}
        if function.item_call is None:
            function.item_call = awaiting(function.call)
        call = function.item_call
        if isinstance(chunk, list):

            def call_item(payload: bytes) -> Any:
                args, kwargs = self._load_arguments(payload, (), serializer)
                value = call(*args, **kwargs)
                return value if serializer is None else serialized(value, serializer)

            return self._map_all(map, call_item, chunk, failures), failures
        star, items = chunk
        return self._map_all(itertools.starmap if star else map, call, items, failures), failures

    def _map_all(
        self,
        mapper: Callable[..., Iterable[Any]],
        call: Callable[..., Any],
        items: Sequence[Any],
        failures: dict[int, bytes],
    ) -> list[Any]:
        """Call for every item at the speed of the built-in `map`; where one fails, note it and go on with the next."""
        values: list[Any] = []
        total = len(items)
        iterator = self._items = iter(items if type(items) in (list, tuple) else list(items))
        while len(values) < total:
            try:
                # Keeps what came before an exception.
                values.extend(mapper(call, iterator))
                if self._is_forked:
                    leave(None)
                if len(values) < total:
                    raise RuntimeError("the function raised StopIteration, which would end the loop over its items")
            except (AgentGoneError, TaskCanceled) as error:
                if self._is_forked:
                    leave(error)
                raise
            except BaseException as error:
                if self._is_forked:
                    leave(error)
                failures[len(values)] = self._failures.item(error, not failures)
                values.append(None)
                self._check_canceled()
        self._items = None
        return values

    def _check_canceled(self) -> None:
        row = self._current
        if row is not None and row.task_index in self._cancels:
            self._inside = False
            raise TaskCanceled

    def _dump_chunk(self, values: list[Any], failures: dict[int, bytes], serializer: Serializer | None) -> Outcome:
        try:
            return dump_result((values, failures), None)
        except TaskCanceled:
            raise
        except BaseException:
            # Find out which ones it is that cannot be pickled; the others are not to suffer.
            for index, value in enumerate(values):
                try:
                    # Of a function that is none of coroutines itself, and makes some.
                    values[index] = value = completed(value)
                except TaskCanceled:
                    raise
                except BaseException as error:
                    failures[index] = self._failures.payload(error)
                    values[index] = value = None
                try:
                    dump_pickle(value)
                except TaskCanceled:
                    raise
                except BaseException as error:
                    failures[index] = self._failures.not_serializable(value, error)
                    values[index] = None
            return dump_result((values, failures), None)

    def _result(
        self, row: Row, started_at: float, ended_at: float, outcome: Outcome, cpu_time: int = 0, memory_peak: int = 0
    ) -> Result:
        size = 0
        if outcome.object_id:
            try:
                size = self._objects.write(outcome.object_id, outcome.buffers)
            except OSError as error:
                text = f"a large result could not be kept on the worker's host: {error}"
                return row.task_index, text.encode("utf-8", "replace"), 0, Extra(Status.STORAGE_FAILED)
        extra = None
        if outcome.object_id or cpu_time or memory_peak:
            measured = {"cpu_times": cpu_time, "memory_peaks": memory_peak} if cpu_time or memory_peak else {}
            extra = Extra(SUCCESS, measured, outcome.object_id, size)
        return row.task_index, outcome.payload, int((ended_at - started_at) * 1e6), extra

    def _end_badly(self, row: Row, error: BaseException, started_at: float, ended_at: float) -> Result:
        microseconds = int((ended_at - started_at) * 1e6)
        # By its type alone: `isinstance` asks the exception for its `__class__`, which may be a property that raises.
        kind = type(error)
        if issubclass(kind, AgentGoneError):
            raise error
        if kind is TaskCanceled or (row.task_index in self._cancels and is_cancellation(error)):
            status, text = self._cancels.get(row.task_index, (CANCELED, ""))
            return row.task_index, text.encode("utf-8", "replace"), microseconds, Extra(status)
        if kind is _SkippedError:
            return row.task_index, b"", 0, Extra(Status.SKIPPED)
        unavailable = unavailable_object(error)
        if unavailable is not None:
            return row.task_index, str(unavailable).encode("utf-8", "replace"), microseconds, Extra(unavailable.status)
        return self._failed(row, self._failures.payload(error), microseconds)

    def _failed(self, row: Row, payload: bytes, microseconds: int) -> Result:
        """Return the result of a task with this failure payload; a large one goes into storage as large values do."""
        if len(payload) > FAILURE_KEPT_BYTES_MAX:
            self._send(Kind.CHUNK_FAILURES, chunk_failures_parts(row.task_index, 0, shown_failure(payload)))
        outcome = inline_or_object(payload)
        if not outcome.object_id:
            return row.task_index, payload, microseconds, Extra(FAILED)
        try:
            size = self._objects.write(outcome.object_id, outcome.buffers)
        except OSError:
            return row.task_index, shown_failure(payload), microseconds, Extra(FAILED)
        return row.task_index, outcome.payload, microseconds, Extra(FAILED, {}, outcome.object_id, size)

    def _unpickle(self, payload: bytes) -> tuple[Sequence[Any], dict[str, Any]]:
        try:
            # A copy, because to make a view takes longer: such a payload is small.
            args, kwargs = loads(payload[1:])
        except Exception as error:
            raise NotRestoredError("the arguments", error) from error
        return args, kwargs

    def _load_arguments(
        self, payload: bytes, inputs: Sequence[bytes], serializer: Serializer | None
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        try:
            return load_arguments(payload, inputs, serializer, self._fetch)
        except CallFailedError as failed:
            error_of_call = failed.error
        except Exception as error:
            raise NotRestoredError("the arguments", error) from error
        # Behind the handler: within it, the interpreter would take what it handles for this one's context.
        raise error_of_call

    def _inputs(self, inputs: Sequence[bytes | int]) -> list[bytes]:
        """Return the payloads of a task's inputs. Raises `_SkippedError` where one has not come about."""
        payloads: list[bytes] = []
        for source in inputs:
            if type(source) is bytes:
                payloads.append(source)
                continue
            assert type(source) is int
            payload = self._kept.get(source)
            if payload is None:
                raise _SkippedError
            payloads.append(payload)
            self._readers[source] -= 1
            if not self._readers[source]:
                del self._readers[source], self._kept[source]
        return payloads

    def _load_function(self, row: Row) -> Function:
        serializer = self._serializer(row.tasks.serializer)
        per_call, body = unframe_function(self._bodies[row.function])

        def load() -> Callable[..., Any]:
            try:
                loaded: Callable[..., Any] = load_value(body, serializer, self._fetch)
            except Exception as error:
                raise NotRestoredError("the function", error) from error
            return loaded

        restoring = Restoring(load)

        def restore_and_call(*args: Any, **kwargs: Any) -> Any:
            # A scope of its own: classes are what they are for the function, whatever the arguments say of them.
            self._calls_restored += 1
            return completed(restoring.function()(*args, **kwargs))

        function = self._functions[row.function] = Function(row.function, restore_and_call if per_call else load())
        return function

    def _class_scope(self) -> tuple[int, int]:
        """Return what a task, or a call that restores its function, has to itself (see `by_value.classes`)."""
        row = self._current
        return -1 if row is None else row.task_index, self._calls_restored

    def _serializer(self, function: bytes) -> Serializer | None:
        if function == NO_ID:
            return None
        serializer = self._serializers.get(function)
        if serializer is None:
            try:
                serializer = self._serializers[function] = load_value(self._bodies[function], None, self._fetch)
            except Exception as error:
                raise NotRestoredError("the serializer", error) from error
        return serializer

    def _dump(self, value: Any, serializer: Serializer | None) -> Outcome:
        try:
            return dump_result(value, serializer)
        except Exception as error:
            raise NotSerializableError(self._failures.not_serializable(value, error)) from None

    # --- objects

    def _fetch(self, object_id: bytes) -> Sequence[memoryview]:
        """Return an object's buffers, mapped; have the agent get them where this host does not have them."""
        for _ in range(OBJECT_TRIES):
            place_gone = False
            try:
                buffers = self._objects.read(object_id)
                if buffers is not None:
                    return buffers
            except PlaceGoneError:
                place_gone = True
            inside = self._leave_task()
            try:
                self._flush()
                self._tasks.send(Kind.OBJECT_WANTED, object_wanted_parts(object_id, place_gone))
            finally:
                self._return_to_task(inside)
            self._wait_for_object(object_id)
        raise ObjectUnavailableError(
            Status.STORAGE_FAILED, f"object {object_id.hex()} does not stay in this host's cache: it is too small"
        )

    def _wait_for_object(self, object_id: bytes) -> None:
        while True:
            # Here a cancelled task may end: nothing has been read yet.
            self._tasks.wait()
            inside = self._leave_task()
            try:
                kind, body = self._tasks.receive()
                taken_in = self._take_in(kind, body)
            finally:
                self._return_to_task(inside)
            if taken_in:
                continue
            answered, status, text = read_object_answer(body)
            if answered == object_id:
                if status != SUCCESS:
                    raise ObjectUnavailableError(status, text)
                return

    # --- answering

    def _send_output(self, index: int, stream: int, data: bytes, dropped_bytes: int) -> None:
        self._send(Kind.OUTPUT, output_parts(index, stream, data, dropped_bytes))

    def _send(self, kind: Kind, parts: Sequence[Bytes] = ()) -> None:
        """Send a record, from inside a task too, and from any thread."""
        inside = self._leave_task()
        try:
            self._tasks.send(kind, parts)
        finally:
            self._return_to_task(inside)

    def _flush(self) -> None:
        """Send all buffered results. From either thread."""
        with self._flush_lock:
            buffer = self._buffer
            count = len(buffer)
            if count == 1 and buffer[0][3] is None:
                self._tasks.send(Kind.ONE_RESULT, one_result_parts(buffer.popleft()))
            elif count:
                results = [buffer.popleft() for _ in range(count)]
                self._tasks.send(Kind.RESULTS, results_parts(results))
            self._flushed_at = perf_counter()

    # --- the control thread

    def _serve_control(self) -> None:
        poller = select.poll()
        poller.register(self._control.fileno(), select.POLLIN)
        poller.register(self._wake_descriptor, select.POLLIN)
        idle_ticks = 0
        try:
            while True:
                timeout = LATEST_FLUSH_SECONDS * 1000 if self._control_awake else self._clients.poll_milliseconds
                for descriptor, _ in poller.poll(timeout):
                    if descriptor == self._wake_descriptor:
                        eventfd_read(self._wake_descriptor)
                    else:
                        self._safely(self._obey, *self._control.receive())
                self._safely(self._clients.attend)
                if self._flush_late():
                    idle_ticks = 0
                elif self._control_awake:
                    idle_ticks += 1
                    if idle_ticks >= AWAKE_TICKS:
                        idle_ticks = 0
                        self._control_awake = False
                        # What was buffered just before saw us awake.
                        self._control_awake = bool(self._buffer) or self._limit.is_set
        except AgentGoneError:
            # The agent has gone, or wants us to: the main thread sees its own channel closed. A task that goes on
            # regardless is ended by the agent, or by the kernel when the agent's helper has died.
            return

    def _wake_control(self) -> None:
        """Have the control thread look again how long it may sleep."""
        eventfd_write(self._wake_descriptor, 1)

    def _flush_late(self) -> bool:
        """Send what has waited too long; return whether anything waits."""
        if self._postponed or self._limit.is_over:
            self._postponed = False
            pthread_kill(self._main_thread, CANCEL_SIGNAL)
        if self._capture.has_pending:
            self._capture.flush()
            return True
        if not self._buffer:
            return self._limit.is_set
        if perf_counter() - self._flushed_at >= LATEST_FLUSH_SECONDS:
            self._flush()
        return True

    def _safely(self, act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except AgentGoneError:
            raise
        except Exception:
            # A client inside a task could not take its message; the next one concerns somebody else.
            logger.exception("the processor's control thread could not do what was asked of it")

    def _obey(self, kind: int, body: bytes) -> None:
        if kind == Kind.CANCEL:
            index, status, text = read_cancel(body)
            self._cancels[index] = (status, text)
            row = self._current
            if row is not None and row.task_index == index:
                pthread_kill(self._main_thread, CANCEL_SIGNAL)
            elif index < self._page.word[0]:
                # It has ended.
                self._cancels.pop(index, None)
        elif kind == Kind.TAKE_BACK:
            self._give_back()
        elif kind == Kind.RELAY_DELIVER:
            self._clients.deliver(body)
        elif kind == Kind.STORAGE_ADDRESS:
            self._storage_address = body.decode()

    def _give_back(self) -> None:
        with self._rows_lock:
            self._generation += 1
            # The main thread takes rows from the other end meanwhile; each goes to exactly one of us.
            while True:
                try:
                    self._next_index = self._rows.pop().task_index
                except IndexError:
                    break
            self._tasks.send(Kind.GAVE_BACK, given_back_parts(self._generation, self._next_index))

    def _leave_task(self) -> bool:
        """The machinery works on behalf of a task: what cancels it waits. Return whether that may be raised again later.

        Raised in the middle of this, it would lose a record just read or results about to be sent, or cut a record in half.
        """
        if get_ident() != self._main_thread:
            return False
        inside, self._inside = self._inside, False
        return inside

    def _return_to_task(self, inside: bool) -> None:
        """Go on with the task, unless it was cancelled meanwhile. `inside` is what `_leave_task` returned."""
        if inside:
            self._inside = True
            row = self._current
            if row is not None and row.task_index in self._cancels:
                self._inside = False
                raise TaskCanceled

    def _on_cancel_signal(self, _number: int, frame: FrameType | None) -> None:
        if is_importing(frame):
            # Half a module would stay behind, for all tasks that come after: the control thread signals once more.
            self._postponed = True
            self._keep_control_awake()
            return
        if self._limit.on_signal():
            return
        row = self._current
        if self._inside and row is not None and row.task_index in self._cancels:
            if cancel_running(self._main_thread):
                return
            self._inside = False
            raise TaskCanceled


class _RetiredError(Exception):
    """A task has left the process in a state in which no other should run: `fault` says how, as the end of a sentence."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class _SkippedError(Exception):
    """A link of a chain cannot run: the one before it has failed, or was cancelled."""
