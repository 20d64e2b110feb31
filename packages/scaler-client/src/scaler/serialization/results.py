"""Answers to values and exceptions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from scaler import errors
from scaler.core.effects import Payload
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.messages import Status
from scaler_protocol.payloads import CUSTOM, FRAMED, PICKLED, RAW_BYTEARRAY, RAW_BYTES, Failure
from scaler_protocol.wire import Frame

_PICKLED, _CUSTOM, _FRAMED = PICKLED[0], CUSTOM[0], FRAMED[0]

_ERRORS: dict[Status, Callable[[str], errors.ScalerError]] = {
    Status.CANCELED: errors.ClientCancelledException,
    Status.PROCESSOR_DIED: errors.ProcessorDiedError,
    Status.TIMED_OUT: errors.TaskTimeoutError,
    Status.WORKER_DIED: errors.WorkerDiedError,
    Status.NO_WORKER: errors.NoWorkerError,
    Status.MISSING_OBJECT: errors.MissingObjects,
    Status.NOT_RUN: errors.TaskNotRunError,
    Status.STORAGE_FAILED: errors.ObjectStorageException,
}

_OWN_ERRORS: dict[str, type[errors.ScalerError]] = {
    error.__name__: error
    for error in (errors.DeserializeObjectError, errors.MissingObjects, errors.ObjectStorageException)
}
"""What workers answer by name: nothing of the user's was raised."""


def load_value(payload: Payload, serializer: AnySerializer | None = None) -> Any:
    """Return the value of a successful answer. Raises DeserializeObjectError."""
    try:
        if isinstance(payload, bytes):
            if payload[0] == _PICKLED:
                # Slicing a small payload is cheaper than a view of it.
                return pickle.loads(payload[1:])
            return _load_framed(payload, serializer)
        return _load_object(payload, serializer)
    except Exception as error:
        raise errors.DeserializeObjectError(f"a result cannot be restored: {type(error).__name__}: {error}") from error


def load_error(status: int, payload: Payload, number: int) -> BaseException:
    """Return the exception of a failed answer; never raises."""
    if status == Status.FAILED:
        return load_failure(payload, number)
    text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    try:
        make = _ERRORS[Status(status)]
    except (KeyError, ValueError):
        return errors.ScalerError(f"task {number} ended with unknown status {status}: {text}")
    return make(text or f"task {number} ended as {Status(status).name.lower().replace('_', ' ')}")


def load_failure(payload: Payload, number: int) -> BaseException:
    """Return the exception a task raised: itself where it can be restored, else a RemoteTaskError with its texts."""
    try:
        failure = Failure(*load_value(payload))
    except Exception as error:
        return errors.DeserializeObjectError(f"task {number} failed, and its exception cannot be restored: {error}")
    if not failure.pickled and failure.type_name in _OWN_ERRORS:
        return _OWN_ERRORS[failure.type_name](failure.text)
    try:
        exception = pickle.loads(failure.pickled)
        if isinstance(exception, BaseException):
            exception.add_note(f"(raised in task {number})")
            return exception
    except Exception:
        # Its class is not importable here, or cannot be made from what it was pickled as: the texts have to do.
        pass
    return errors.RemoteTaskError(failure.type_name, failure.text, failure.traceback_text)


def load_outcomes(payload: Payload, serializer: AnySerializer | None = None) -> tuple[list[Any], dict[int, bytes]]:
    """Return (values, failure payloads by index) of a map chunk. Raises DeserializeObjectError."""
    values, failures = load_value(payload)
    if serializer is not None:
        try:
            values = [None if i in failures else serializer.deserialize(value) for i, value in enumerate(values)]
        except Exception as error:
            raise errors.DeserializeObjectError(f"a result cannot be restored: {error}") from error
    return values, failures


def _load_object(buffers: Sequence[Frame], serializer: AnySerializer | None) -> Any:
    header = bytes(buffers[0])
    if header[:1] == PICKLED:
        return pickle.loads(header[1:], buffers=[_writable(buffer) for buffer in buffers[1:]])
    if header == RAW_BYTES:
        # Here, as only large results come as objects.
        from scaler_protocol.large_bytes import make_bytes

        return make_bytes(buffers[1])
    if header == RAW_BYTEARRAY:
        return bytearray(buffers[1])
    return _load_framed(header, serializer)


def _writable(buffer: Frame) -> Frame:
    # Small frames of a message are `bytes`, and an array over one would be read-only. One that was read-only says so.
    return bytearray(buffer) if isinstance(buffer, bytes) else buffer


def _load_framed(payload: bytes, serializer: AnySerializer | None) -> Any:
    tag = payload[0]
    if tag == _CUSTOM and serializer is not None:
        return serializer.deserialize(payload[1:])
    if tag == _FRAMED:
        return load_value(payload[1:], serializer)
    raise MalformedMessageError(f"a payload with tag {payload[:1]!r} is no result")
