"""What a processor does with payloads, in the least words: restore, call, serialize. For tests."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from types import CodeType
from typing import Any

from scaler.errors import DeserializeObjectError
from scaler.serialization.results import load_value
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.failures import failure_payload, not_restored_payload, result_error
from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.expressions import CallFailedError, evaluate
from scaler_protocol.payloads.framing import (
    ARGUMENTS,
    CUSTOM,
    FRAMED,
    INLINE_BYTES_MAX,
    OBJECT,
    PAYLOADS,
    PICKLED,
    Argument,
    Source,
    unframe_arguments,
    unframe_function,
    unframe_payloads,
)
from scaler_protocol.runtime.coroutines import call_and_complete, completed
from scaler_protocol.wire.envelope import Frame
from scaler_protocol.wire.messages import Status, TaskKind

Fetch = Callable[[bytes], Sequence[Frame]]
Store = Callable[[Sequence[Any]], bytes]


class Execution:
    """Runs tasks of one client."""

    def __init__(self, fetch: Fetch, store: Store, serializer: AnySerializer | None) -> None:
        self._fetch = fetch
        self._store = store
        self._serializer = serializer

    def load_function(self, body: bytes) -> Any:
        """Return the function of a body; what it calls is restored for each call, where that is so."""
        per_call, body = unframe_function(body)
        return partial(self._load_and_call, body) if per_call else self._load(body)

    def _load(self, body: bytes) -> Any:
        return load_value(self._find(body[1:]) if body[:1] == OBJECT else body, self._serializer)

    def _load_and_call(self, body: bytes, *args: Any, **kwargs: Any) -> Any:
        try:
            function = self._load(body)
        except DeserializeObjectError as error:
            raise _FunctionNotRestoredError(error) from error
        return function(*args, **kwargs)

    def run(self, function: Any, kind: int, payload: bytes, inputs: Sequence[bytes]) -> tuple[int, bytes]:
        """Return (status, payload) of a task."""
        try:
            try:
                if kind == TaskKind.MAP_CHUNK:
                    items = self._items(payload)
                    return Status.SUCCESS, self._chunk_outcome(*self._run_items(function, items))
                args, kwargs = self._arguments(payload, inputs)
            except CallFailedError as failed:
                return self._failed(failed.error)
            except Exception as error:
                return _not_restored("the arguments", error)
            value = completed(function(*args, **kwargs))
            try:
                return Status.SUCCESS, self._outcome(value)
            except Exception as error:
                return Status.FAILED, failure_payload(result_error(value, error))
        except _MissingObjectError as error:
            return _not_restored("the arguments", error)
        except BaseException as error:
            return self._failed(error)

    def _failed(self, error: BaseException) -> tuple[int, bytes]:
        payload = _payload_of(error)
        return Status.FAILED, payload if len(payload) <= INLINE_BYTES_MAX else OBJECT + self._store([payload])

    def _run_items(
        self, function: Any, items: list[tuple[Sequence[Any], dict[str, Any]]]
    ) -> tuple[list[Any], dict[int, bytes]]:
        """Return the values of a chunk's items, and the failures by item."""
        values: list[Any] = []
        failures: dict[int, bytes] = {}
        for index, (args, kwargs) in enumerate(items):
            try:
                value = completed(function(*args, **kwargs))
                values.append(value if self._serializer is None else self._serializer.serialize(value))
            except BaseException as error:
                values.append(None)
                failures[index] = _payload_of(error)
        return values, failures

    def _chunk_outcome(self, values: list[Any], failures: dict[int, bytes]) -> bytes:
        try:
            return self._outcome((values, failures), outcome=True)
        except Exception:
            # Items whose values cannot be pickled fail; the others are not to suffer.
            for index, value in enumerate(values):
                try:
                    by_value.dumps(value)
                except Exception as error:
                    values[index], failures[index] = None, failure_payload(result_error(value, error))
            return self._outcome((values, failures), outcome=True)

    def _items(self, payload: bytes) -> list[tuple[Sequence[Any], dict[str, Any]]]:
        value = self._unwrap(payload)
        if isinstance(value, bytes):
            return [self._arguments(item, ()) for item in unframe_payloads(value)]
        star, items = value
        return [(tuple(item) if star else (item,), {}) for item in items]

    def _arguments(self, payload: bytes, inputs: Sequence[bytes]) -> tuple[Sequence[Any], dict[str, Any]]:
        value = self._unwrap(payload)
        if not isinstance(value, bytes):
            args, kwargs = value
            return args, kwargs
        positional, keyword = unframe_arguments(value)
        return (
            [self._argument(argument, inputs) for argument in positional],
            {name: self._argument(argument, inputs) for name, argument in keyword.items()},
        )

    def _unwrap(self, payload: bytes) -> Any:
        """Return the value of a pickled payload, or the bytes of a framed one."""
        if payload[:1] == OBJECT:
            buffers = self._find(payload[1:])
            header = bytes(buffers[0])
            if header[:1] == PICKLED:
                return pickle.loads(header[1:], buffers=buffers[1:])
            assert header[:1] == FRAMED
            payload = header[1:]
        if payload[:1] == PICKLED:
            return pickle.loads(payload[1:])
        assert payload[:1] in (ARGUMENTS, PAYLOADS)
        return payload

    def _argument(self, argument: Argument, inputs: Sequence[bytes]) -> Any:
        if argument.source is Source.VALUE:
            if self._serializer is not None:
                return self._serializer.deserialize(argument.data)
            return pickle.loads(argument.data)
        if argument.source is Source.OBJECT:
            return load_value(self._find(argument.data), self._serializer)
        if argument.source is Source.INPUT:
            return self._input(inputs[int.from_bytes(argument.data, "little")])
        return evaluate(pickle.loads(argument.data), lambda index: self._input(inputs[index]), call_and_complete)

    def _input(self, payload: bytes) -> Any:
        if payload[:1] == OBJECT:
            return load_value(self._find(payload[1:]), self._serializer)
        return load_value(payload, self._serializer)

    def _find(self, object_id: bytes) -> Sequence[Frame]:
        try:
            return self._fetch(object_id)
        except KeyError:
            raise _MissingObjectError(object_id.hex()) from None

    def _outcome(self, value: Any, outcome: bool = False) -> bytes:
        if self._serializer is not None and not outcome:
            payload = CUSTOM + self._serializer.serialize(value)
        else:
            payload = PICKLED + by_value.dumps(value)
        return payload if len(payload) <= INLINE_BYTES_MAX else OBJECT + self._store([payload])


class _MissingObjectError(KeyError):
    pass


class _FunctionNotRestoredError(Exception):
    """A function that is restored for each call cannot be."""

    def __init__(self, error: DeserializeObjectError) -> None:
        super().__init__(error)
        self.error = error


def _payload_of(error: BaseException) -> bytes:
    """Return the payload of what a task raised."""
    if type(error) is _FunctionNotRestoredError:
        return function_not_restored(error.error)
    return failure_payload(error, is_own_code=_is_own_code)


def function_not_restored(error: DeserializeObjectError) -> bytes:
    """Return the payload of a task whose function cannot be restored."""
    cause = error.__cause__
    return not_restored_payload("the function", cause if isinstance(cause, Exception) else error)


def _not_restored(what: str, error: Exception) -> tuple[int, bytes]:
    if type(error) is _MissingObjectError:
        return Status.MISSING_OBJECT, f"object {error.args[0]} is not in storage".encode()
    return Status.FAILED, not_restored_payload(what, error)


def _is_own_code(code: CodeType) -> bool:
    return code.co_filename == __file__
