"""Answers to values and exceptions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from scaler import errors
from scaler.core.effects import Payload
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.failures import StandIn, load_exception, named_text_of, same_text, text_of, type_name_of
from scaler_protocol.payloads.framing import (
    BUFFERED,
    CUSTOM,
    FRAMED,
    PICKLED,
    RAW_BYTEARRAY,
    RAW_BYTES,
    RAW_ITEMS,
    Failure,
    unframe_buffers,
)
from scaler_protocol.wire.envelope import Frame
from scaler_protocol.wire.messages import Status

_VIEWED_BYTES_MIN = 16 * 1024

_PICKLED, _BUFFERED, _CUSTOM, _FRAMED = PICKLED[0], BUFFERED[0], CUSTOM[0], FRAMED[0]

_FAILURE_TYPES = (bytes, str, str, str)
"""Of the fields of a `Failure`."""

_ERRORS: dict[Status, Callable[[str], errors.ScalerError]] = {
    Status.CANCELED: errors.ClientCancelledException,
    Status.PROCESSOR_DIED: errors.ProcessorDiedError,
    Status.TIMED_OUT: errors.TaskTimeoutError,
    Status.WORKER_DIED: errors.WorkerDiedError,
    Status.NO_WORKER: errors.NoWorkerError,
    Status.MISSING_OBJECT: errors.MissingObjects,
    Status.NOT_RUN: errors.TaskNotRunError,
    Status.STORAGE_FAILED: errors.ObjectStorageException,
    Status.LIMIT_EXCEEDED: errors.ProcessorDiedError,
    Status.UNREADABLE: errors.ObjectStorageException,
    Status.GROUP_LIMIT: errors.GroupLimitError,
}

_NAMED: dict[str, Callable[[str], errors.ScalerError]] = {
    kind.__name__: kind
    for kind in (
        errors.DeserializeObjectError,
        errors.MissingObjects,
        errors.ObjectStorageException,
        errors.WorkerPluginError,
    )
}
"""Errors of ours that are the failure of a task or an item: they travel by name."""


def load_value(payload: Payload, serializer: AnySerializer | None = None) -> Any:
    """Return the value of a successful answer. Raises DeserializeObjectError."""
    try:
        if isinstance(payload, bytes):
            if payload[0] == _PICKLED:
                # Slicing a small payload is cheaper than a view of it.
                return pickle.loads(payload[1:] if len(payload) < _VIEWED_BYTES_MIN else memoryview(payload)[1:])
            return _load_framed(payload, serializer)
        return _load_object(payload, serializer)
    except Exception as error:
        raise _not_restored(error) from error


def _not_restored(error: Exception) -> errors.DeserializeObjectError:
    return errors.DeserializeObjectError(f"a result cannot be restored: {named_text_of(error, interrupts=True)}")


def load_error(status: int, payload: Payload, number: int) -> BaseException:
    """Return the exception of a failed answer. Never raises, but for KeyboardInterrupt."""
    if status == Status.FAILED:
        return load_failure(payload, number)
    text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    try:
        make = _ERRORS[Status(status)]
    except (KeyError, ValueError):
        return errors.ScalerError(f"task {number} ended with unknown status {status}: {text}")
    return make(text or f"task {number} ended as {Status(status).name.lower().replace('_', ' ')}")


def load_failure(payload: Payload, number: int) -> BaseException:
    """Return the exception a task raised: itself where it can be restored, else a RemoteTaskError that describes it.

    Never raises, but for KeyboardInterrupt: restoring may run code of the exception's class.
    """
    try:
        failure = Failure(*load_value(payload))
        # Whatever ran the task may have sent anything.
        if (*map(type, failure),) != _FAILURE_TYPES:
            raise TypeError("it does not consist of bytes and three texts")
    except Exception as error:
        return errors.DeserializeObjectError(
            f"task {number} failed, and its exception cannot be restored: {named_text_of(error, interrupts=True)}"
        )
    if not failure.pickled:
        own = _NAMED.get(failure.type_name)
        if own is None:
            return errors.RemoteTaskError(*failure[1:])
        named = own(failure.text)
        if own is errors.WorkerPluginError and failure.traceback_text:
            # Of code that the user has written, unlike the others'.
            named.add_note(failure.traceback_text)
        return named
    try:
        exception = load_exception(failure.pickled, _describe)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = f"restoring it here raises {named_text_of(error, interrupts=True)}"
        return errors.RemoteTaskError(*failure[1:], reason=reason)
    if type(exception) is not errors.RemoteTaskError:
        # Not by the whole name: a class made by value knows only the last part of it.
        name = type_name_of(type(exception))
        if name != failure.type_name and name.rpartition(".")[2] != failure.type_name.rpartition(".")[2]:
            reason = f"it is restored here as {name}"
            return errors.RemoteTaskError(*failure[1:], reason=reason)
        text = text_of(exception, interrupts=True)
        if not same_text(text, failure.text) and same_text(text, text_of(exception, interrupts=True)):
            # Its class says something else here than there, though the exception is the same.
            BaseException.add_note(exception, f"(in the task, its text was: {failure.text})")
    return exception


def _describe(known: StandIn) -> BaseException:
    """Make the exception for one that cannot be restored."""
    error = errors.RemoteTaskError(
        known.type_name, known.text, known.traceback_text, known.arguments_text, known.reason
    )
    for note in known.notes:
        error.add_note(note)
    return error


def load_outcomes(payload: Payload, serializer: AnySerializer | None = None) -> tuple[list[Any], dict[int, bytes]]:
    """Return (values, failure payloads by index) of a map chunk. Raises DeserializeObjectError."""
    try:
        values, failures = load_value(payload)
        # Whatever ran the chunk may have sent anything.
        if type(values) is not list or type(failures) is not dict or not all(type(item) is int for item in failures):
            raise TypeError("a chunk's answer is a list and a dictionary of failures by position")
    except (TypeError, ValueError) as error:
        raise _not_restored(error) from error
    if serializer is not None:
        try:
            values = [None if i in failures else serializer.deserialize(value) for i, value in enumerate(values)]
        except Exception as error:
            raise _not_restored(error) from error
    return values, failures


def _load_object(buffers: Sequence[Frame], serializer: AnySerializer | None) -> Any:
    if buffers[0][:1] == PICKLED:
        return pickle.loads(memoryview(buffers[0])[1:], buffers=[_writable(buffer) for buffer in buffers[1:]])
    header = bytes(buffers[0])
    if header == RAW_ITEMS:
        return [bytes(buffer) for buffer in buffers[1:]], {}
    if header == RAW_BYTES:
        if type(buffers[1]) is bytes:
            return buffers[1]
        # Here, as only large results come as objects.
        from scaler_protocol.objects.large_bytes import make_bytes

        return make_bytes(buffers[1])
    if header == RAW_BYTEARRAY:
        return bytearray(buffers[1])
    return _load_framed(header, serializer)


def _writable(buffer: Frame) -> Frame:
    # Small frames of a message are `bytes`, and an array over one would be read-only. One that was read-only says so.
    return bytearray(buffer) if isinstance(buffer, bytes) else buffer


def _load_framed(payload: bytes, serializer: AnySerializer | None) -> Any:
    tag = payload[0]
    if tag == _BUFFERED:
        return _load_object(unframe_buffers(payload), serializer)
    if tag == _CUSTOM and serializer is not None:
        return serializer.deserialize(payload[1:])
    if tag == _FRAMED:
        return load_value(payload[1:], serializer)
    raise MalformedMessageError(f"a payload with tag {payload[:1]!r} is no result")
