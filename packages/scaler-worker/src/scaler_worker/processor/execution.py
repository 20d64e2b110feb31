"""Runs one task: restores its function and arguments, calls, and makes a result of what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from pickle import dumps, loads
from sys import setprofile, settrace
from time import perf_counter
from types import CoroutineType
from typing import Any

# `asked_of` imports it late, when a task may have spoiled what imports need.
import scaler_protocol.runtime.resources  # noqa: F401
from scaler_protocol.failures import full_names_of, named_failure_payload
from scaler_protocol.payloads.environments import Environments, PluginFailedError
from scaler_protocol.payloads.expressions import CallFailedError
from scaler_protocol.payloads.framing import FAILURE_KEPT_BYTES_MAX, PICKLED, PLACED
from scaler_protocol.payloads.main_module import take_back
from scaler_protocol.payloads.plain import plain_failure
from scaler_protocol.payloads.unpickled import ReadPayload
from scaler_protocol.payloads.values import (
    NotRestoredError,
    Outcome,
    Serializer,
    dump_plain_outcome,
    dump_result,
    inline_or_object,
    load_arguments,
    load_chunk,
    load_plain_arguments,
    unavailable_object,
)
from scaler_protocol.runtime.coroutines import completed, is_cancellation
from scaler_protocol.wire.call_options import asked_of
from scaler_protocol.wire.messages import Status, TaskFlag, TaskKind
from scaler_worker.processor.blocking import Blocking
from scaler_worker.processor.chain_results import ChainResults, SkippedError
from scaler_worker.processor.changes import CHANGES
from scaler_worker.processor.channel import AgentGoneError
from scaler_worker.processor.failed_arguments import FailedArguments
from scaler_worker.processor.failures import FailureWriter, NotSerializableError, shown_failure
from scaler_worker.processor.forked import leave
from scaler_worker.processor.functions import Function, FunctionTable
from scaler_worker.processor.host_objects import HostObjects, bytes_of
from scaler_worker.processor.inbox import Row
from scaler_worker.processor.map_chunks import MapChunks
from scaler_worker.processor.measurement import Measurement
from scaler_worker.processor.nested_clients import NestedClients
from scaler_worker.processor.object_reader import ObjectReader
from scaler_worker.processor.output import OutputCapture
from scaler_worker.processor.placed_payloads import PlacedPayloads
from scaler_worker.processor.process_state import ProcessState
from scaler_worker.processor.records import Bytes, Kind, chunk_failures_parts
from scaler_worker.processor.result_buffer import LARGE_BYTES_MIN, ResultBuffer
from scaler_worker.processor.result_records import Extra, Result
from scaler_worker.processor.running_task import RunningTask, TaskCanceled

UNDESCRIBED = named_failure_payload("Exception", "the task raised an exception that cannot be described")

CALL, MAP_CHUNK = int(TaskKind.CALL), int(TaskKind.MAP_CHUNK)
PROFILE, STREAM_OUTPUT = int(TaskFlag.PROFILE), int(TaskFlag.STREAM_OUTPUT)
SUCCESS, FAILED, CANCELED = int(Status.SUCCESS), int(Status.FAILED), int(Status.CANCELED)
RETRY = int(Status.RETRY)

_NOT_THEIR_OWN = frozenset((NotRestoredError, NotSerializableError, PluginFailedError))
"""A task that ended with one of these would end so again."""

NOTED_SECONDS = 0.001
"""Reading what a task needs, and writing its result, is told where it took so long."""

_INLINE_TYPES = frozenset((type(None), bool, int, float))
"""Results whose pickle is small, but for very large integers, and needs no look at buffers."""


class TaskExecution:
    """On the main thread. Whatever a task does or raises, `run` returns a result."""

    def __init__(
        self,
        running: RunningTask,
        functions: FunctionTable,
        chain_results: ChainResults,
        reader: ObjectReader,
        objects: HostObjects,
        results: ResultBuffer,
        failures: FailureWriter,
        capture: OutputCapture,
        blocking: Blocking,
        clients: NestedClients,
        send: Callable[[Kind, Sequence[Bytes]], None],
        placed: PlacedPayloads,
        environments: Environments,
        failed_arguments: FailedArguments | None = None,
    ) -> None:
        self._placed = placed
        self._environments = environments
        self._failed_arguments = failed_arguments
        self._running = running
        self._functions = functions
        self._chain_results = chain_results
        self._fetch = reader.fetch
        self._objects = objects
        self._note_large = results.note_large
        self._failures = failures
        self._capture = capture
        self._blocking = blocking
        self._clients = clients
        self._send = send
        self.chunks = MapChunks(running, failures, self._load_arguments)

    def run(self, row: Row, function: Function | None, state: ProcessState) -> tuple[Result, float]:
        """Run one task; return its result and when it ended. Raises AgentGoneError only."""
        running = self._running
        cancels = running.cancels
        index = row.task_index
        began_at = started_at = perf_counter()
        running.row = row
        try:
            # In this order: a cancel that is not in the table when we look finds the task running, and signals.
            running.in_code = True
            running.page.word[0] = index + 1
            if cancels and index in cancels:
                raise TaskCanceled
            tasks = row.tasks
            if tasks.serializer is not self._environments.current:
                self._functions.enter(tasks.serializer, self._fetch)
            if function is None:
                function = self._functions.load(row.function, tasks.serializer, self._fetch)
            if tasks.kind == CALL and not tasks.flags and not tasks.serializer and row.payload[:1] == PICKLED:
                # The way of nearly all small tasks: no more than unpickle, call, pickle.
                args, kwargs = _unpickle(row.payload)
                if running.is_forked:
                    leave(None)
                started_at = perf_counter()
                value = copy_context().run(function.call, *args, **kwargs)
                ended_at = perf_counter()
                if running.is_forked:
                    leave(None)
                if CHANGES.noted:
                    # What a task traces or profiles with could raise inside the processor.
                    settrace(state.trace)
                    setprofile(state.profile)
                if type(value) in _INLINE_TYPES and len(payload := PICKLED + dumps(value, 5)) < LARGE_BYTES_MIN:
                    running.in_code = False
                    result: Result = (index, payload, int((ended_at - started_at) * 1e6), None)
                    if started_at - began_at >= NOTED_SECONDS:
                        result = _with_overheads(result, began_at, ended_at)
                else:
                    if type(value) is CoroutineType:
                        value = completed(value)
                        ended_at = perf_counter()
                        if running.is_forked:
                            leave(None)
                    result = self._succeeded(row, started_at, ended_at, self._dump(value, None))
                    running.in_code = False
                    result = _with_overheads(result, began_at, ended_at)
            else:
                result, ended_at = self._run_other(row, function, state)
                running.in_code = False
                result = _with_overheads(result, began_at, ended_at)
            seconds = ended_at - started_at
            known = function.seconds
            function.seconds = seconds if known == float("inf") else known * 0.8 + seconds * 0.2
        except BaseException as error:
            # The signal may come once more while this runs.
            running.in_code = False
            if running.is_forked:
                leave(error)
            take_back()
            ended_at = perf_counter()
            settrace(state.trace)
            setprofile(state.profile)
            try:
                result = self._end_badly(row, error, started_at, ended_at)
            except AgentGoneError:
                raise
            except BaseException:
                # Exceptions are objects of the user's too.
                result = self._undescribed(row, int((ended_at - started_at) * 1e6))
            if function is not None and result[3] is not None and result[3].status in (FAILED, RETRY):
                # Of one that raises each time, too: results before a function that is not known to be quick leave one by one.
                function.note_seconds(ended_at - started_at)
        finally:
            running.row = None
            if cancels:
                cancels.pop(index, None)
        if self._blocking.depth:
            self._blocking.end()
        return result, ended_at

    def _run_other(self, row: Row, function: Function, state: ProcessState) -> tuple[Result, float]:
        """Run a task that is a map chunk, is profiled or listened to, or has arguments from elsewhere."""
        running = self._running
        tasks = row.tasks
        content = bytes(row.payload)
        payload: ReadPayload = content
        dump: Callable[[Any], Outcome] = partial(dump_result, serializer=None)
        is_plain = self._functions.takes_plain_data(row.function, content)
        place = None
        if content[:1] == PLACED:
            payload, place = self._placed.read(content)
            if not tasks.serializer:
                dump = partial(self._placed.dump_result, place)
        serializer = self._functions.serializer(tasks.serializer, self._fetch)
        if tasks.flags & STREAM_OUTPUT:
            self._capture.begin(row.task_index)
        try:
            if tasks.kind == MAP_CHUNK:
                try:
                    chunk = load_chunk(payload, self._fetch)
                except Exception as error:
                    raise NotRestoredError("the arguments", error) from error
            else:
                inputs = tasks.inputs.get(row.position)
                payloads = self._placed.read_inputs(self._chain_results.payloads(inputs)) if inputs is not None else ()
                if is_plain:
                    args, kwargs = self._load_plain_arguments(payload, payloads)
                else:
                    args, kwargs = self._load_arguments(payload, payloads, serializer)
            measurement = Measurement() if tasks.flags & PROFILE else None
            if running.is_forked:
                leave(None)
            started_at = perf_counter()
            if tasks.kind == MAP_CHUNK:
                values, failures = copy_context().run(self.chunks.run, chunk, function, serializer)
            else:
                value = completed(copy_context().run(function.call, *args, **kwargs))
            ended_at = perf_counter()
            if running.is_forked:
                leave(None)
            settrace(state.trace)
            setprofile(state.profile)
        finally:
            self._capture.end()
        is_chunk = tasks.kind == MAP_CHUNK
        outcome = dump_plain_outcome(value) if is_plain and not is_chunk else None
        if place is not None and serializer is None:
            outcome = self._placed.answer_with_bytes(
                place, (values, failures) if is_chunk else value, is_chunk=is_chunk
            )
        if outcome is None:
            outcome = self.chunks.dump(values, failures, dump) if is_chunk else self._dump(value, serializer, dump)
            if place is not None and not outcome.object_id:
                outcome = Outcome(self._placed.answer(place, outcome.payload))
        if is_chunk and failures:
            if self._failed_arguments is not None and not isinstance(chunk, list):
                self._failed_arguments.note_item(chunk[1], min(failures), chunk[0])
            first = shown_failure(failures[min(failures)])
            self._send(Kind.CHUNK_FAILURES, chunk_failures_parts(row.task_index, len(failures), first))
        measured = measurement.figures() if measurement is not None else None
        status = SUCCESS
        if is_chunk and failures and tasks.options:
            kind = self.chunks.failed_with
            status = RETRY if kind not in _NOT_THEIR_OWN and _asks_for_another(row, kind) else SUCCESS
        return self._succeeded(row, started_at, ended_at, outcome, measured, status), ended_at

    # --- arguments and values

    def _load_arguments(
        self, payload: ReadPayload, inputs: Sequence[bytes], serializer: Serializer | None
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        try:
            return load_arguments(payload, inputs, serializer, self._fetch)
        except CallFailedError as failed:
            error_of_call = failed.error
        except Exception as error:
            raise NotRestoredError("the arguments", error) from error
        # Behind the handler: within it, the interpreter would take what it handles for this one's context.
        raise error_of_call

    def _load_plain_arguments(
        self, payload: ReadPayload, inputs: Sequence[bytes]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        try:
            return load_plain_arguments(payload, inputs, self._fetch)
        except Exception as error:
            raise NotRestoredError("the arguments", error) from error

    def _dump(
        self, value: Any, serializer: Serializer | None, dump_outcome: Callable[[Any], Outcome] | None = None
    ) -> Outcome:
        """Serialize a task's result; without a serializer by `dump_outcome`, where that is given."""
        if (
            serializer is None
            and type(value) in _INLINE_TYPES
            and len(payload := PICKLED + dumps(value, 5)) < LARGE_BYTES_MIN
        ):
            return Outcome(payload)
        try:
            if serializer is None and dump_outcome is not None:
                return dump_outcome(value)
            return dump_result(value, serializer)
        except Exception as error:
            raise NotSerializableError(self._failures.not_serializable(value, error)) from None

    # --- results

    def _succeeded(
        self,
        row: Row,
        started_at: float,
        ended_at: float,
        outcome: Outcome,
        measured: Mapping[str, int] | None = None,
        status: int = SUCCESS,
    ) -> Result:
        size = 0
        if outcome.object_id:
            try:
                size = self._objects.write(outcome.object_id, outcome.buffers)
            except OSError as error:
                text = f"a large result could not be kept on the worker's host: {error}"
                return row.task_index, text.encode("utf-8", "replace"), 0, Extra(Status.STORAGE_FAILED)
        elif len(outcome.payload) >= LARGE_BYTES_MIN:
            self._note_large(len(outcome.payload))
        extra = None
        if outcome.object_id or measured or status:
            extra = Extra(status, measured or {}, outcome.object_id, size, bytes_of(outcome.buffers))
        return row.task_index, outcome.payload, int((ended_at - started_at) * 1e6), extra

    def _end_badly(self, row: Row, error: BaseException, started_at: float, ended_at: float) -> Result:
        """Return the result of a task that raised, or could not begin."""
        microseconds = int((ended_at - started_at) * 1e6)
        # By its type alone: `isinstance` asks the exception for its `__class__`, which may be a property that raises.
        kind = type(error)
        if issubclass(kind, AgentGoneError):
            raise error
        cancels = self._running.cancels
        if kind is TaskCanceled or (row.task_index in cancels and is_cancellation(error)):
            status, text = cancels.get(row.task_index, (CANCELED, ""))
            self._clients.task_canceled()
            return row.task_index, text.encode("utf-8", "replace"), microseconds, Extra(status)
        if kind is SkippedError:
            return row.task_index, b"", 0, Extra(Status.SKIPPED)
        unavailable = unavailable_object(error)
        if unavailable is not None:
            return row.task_index, str(unavailable).encode("utf-8", "replace"), microseconds, Extra(unavailable.status)
        status = RETRY if row.tasks.options and kind not in _NOT_THEIR_OWN and _asks_for_another(row, kind) else FAILED
        if self._failed_arguments is not None:
            self._failed_arguments.note_of(error, _OUR_CODES)
        return self._failed(row, self._failures.payload(error), microseconds, status)

    def _undescribed(self, row: Row, microseconds: int) -> Result:
        try:
            return self._failed(row, UNDESCRIBED, microseconds)
        except AgentGoneError:
            raise
        except BaseException:
            # Built-in functions may be gone too.
            return (row.task_index, UNDESCRIBED, microseconds, Extra(FAILED))

    def _failed(self, row: Row, payload: bytes, microseconds: int, status: int = FAILED) -> Result:
        """Return the result of a task with this failure payload; a large one goes into storage as large values do."""
        shown = payload if len(payload) <= FAILURE_KEPT_BYTES_MAX else shown_failure(payload)
        if shown is not payload:
            self._send(Kind.CHUNK_FAILURES, chunk_failures_parts(row.task_index, 0, shown))
        if self._functions.takes_plain_data(row.function, bytes(row.payload)):
            payload, shown = plain_failure(payload), plain_failure(shown)
        outcome = inline_or_object(payload)
        if not outcome.object_id:
            return row.task_index, payload, microseconds, Extra(status)
        try:
            size = self._objects.write(outcome.object_id, outcome.buffers)
        except OSError:
            return row.task_index, shown, microseconds, Extra(status)
        return (
            row.task_index,
            outcome.payload,
            microseconds,
            Extra(status, {}, outcome.object_id, size, bytes_of(outcome.buffers)),
        )


_OUR_CODES = (TaskExecution.run.__code__, TaskExecution._run_other.__code__)
"""Functions whose frames have the arguments of a call, as `args` and `kwargs`."""


def _with_overheads(result: Result, began_at: float, ended_at: float) -> Result:
    """Return a result that says how long its task was read before, and is being written now, if that took long."""
    index, payload, microseconds, extra = result
    if extra is not None and extra.status not in (SUCCESS, RETRY):
        return result
    read, written = ended_at - began_at - microseconds * 1e-6, perf_counter() - ended_at
    if read < NOTED_SECONDS and written < NOTED_SECONDS:
        return result
    overheads = {
        name: int(seconds * 1e6)
        for name, seconds in (("read_times", read), ("write_times", written))
        if seconds >= NOTED_SECONDS
    }
    extra = extra or Extra()
    return index, payload, microseconds, extra._replace(measured={**extra.measured, **overheads})


def _asks_for_another(row: Row, kind: type) -> bool:
    """Whether a task is to run again after an exception of this class."""
    retries = asked_of(row.tasks.options).retries
    return retries is not None and retries.covers(full_names_of(kind))


def _unpickle(payload: bytes | memoryview) -> tuple[Sequence[Any], dict[str, Any]]:
    try:
        # A copy, because to make a view takes longer: such a payload is small, or a view already.
        args, kwargs = loads(payload[1:])
    except Exception as error:
        raise NotRestoredError("the arguments", error) from error
    return args, kwargs
