"""From payload bytes to functions, arguments and results, and back (see `scaler_protocol.payloads.framing`)."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.failures import named_failure_payload
from scaler_protocol.ids import ObjectId
from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.expressions import evaluate
from scaler_protocol.payloads.framing import (
    ARGUMENTS,
    BUFFERED,
    CUSTOM,
    FRAMED,
    INLINE_BYTES_MAX,
    PAYLOADS,
    PICKLED,
    PLACED,
    PLAIN,
    RAW_BYTEARRAY,
    RAW_BYTES,
    Argument,
    Source,
    frame_object,
    unframe_arguments,
    unframe_buffers,
    unframe_object,
    unframe_payloads,
)
from scaler_protocol.payloads.main_module import lending
from scaler_protocol.payloads.plain import dump_plain_result, load_plain, load_plain_call, named_function
from scaler_protocol.payloads.unpickled import BufferedPickle, ReadPayload, UnpickledBytes
from scaler_protocol.runtime.coroutines import completed
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.wire.envelope import OBJECT_BYTES_MAX
from scaler_protocol.wire.status import Status

Arguments = tuple[Sequence[Any], dict[str, Any]]
Buffer = bytes | bytearray | memoryview
FetchObject = Callable[[bytes], Sequence[memoryview]]
"""Return an object's buffers, waiting for it. Raises `ObjectUnavailableError`."""


class ObjectUnavailableError(Exception):
    """An object that a task needs is unavailable; `status` is the task's status in the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def failure_payload(self) -> bytes:
        """Return the failure of the item of a map chunk that needs the object. Other items do not fail."""
        name = "MissingObjects" if self.status == Status.MISSING_OBJECT else "ObjectStorageException"
        return named_failure_payload(name, str(self))


class NotRestoredError(Exception):
    """A part of a task, such as "the function", cannot be restored from its bytes."""

    def __init__(self, what: str, cause: Exception) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause


def require_here(payload: bytes) -> None:
    """Raise ObjectUnavailableError for a payload that lies in a segment, and was not read from there."""
    if payload[:1] == PLACED:
        raise ObjectUnavailableError(Status.UNREADABLE, "the arguments lie where this worker cannot read them")


def unavailable_object(error: BaseException) -> ObjectUnavailableError | None:
    """Return the unavailable object because of which a task could not begin, if that is the reason."""
    cause = error.cause if type(error) is NotRestoredError else None
    return cause if type(cause) is ObjectUnavailableError else None


class Serializer(Protocol):
    """The base class of users' serializers. Its static methods serialize the function, each argument and the result."""

    def serialize(self, obj: Any, /) -> bytes:
        """Return the bytes of a function, an argument or a result."""

    def deserialize(self, payload: bytes, /) -> Any:
        """Return the value from which `serialize` made these bytes."""


class Outcome(NamedTuple):
    """A serialized result: the payload, or an object to store with the payload that names it."""

    payload: bytes
    object_id: bytes = b""
    buffers: Sequence[Buffer] = ()


# --- reading ---------------------------------------------------------------------------------------------------------


def load_function(body: bytes, serializer: Serializer | None, fetch: FetchObject) -> Any:
    """Return the function of a body without the mark PER_CALL."""
    if body[:1] == PLAIN:
        return named_function(body[len(PLAIN) :].decode())
    return load_value(body, serializer, fetch)


def is_plain_call(function: bytes, arguments: ReadPayload) -> bool:
    """Whether a call of the function with this body takes plain data, and so is answered with plain data."""
    return function[:1] == PLAIN and isinstance(arguments, bytes) and arguments[:1] != PICKLED


def load_value(payload: bytes, serializer: Serializer | None, fetch: FetchObject) -> Any:
    """Return the value of a function body or a result payload."""
    tag = payload[:1]
    if tag == PICKLED:
        return pickle.loads(memoryview(payload)[1:])
    if tag == CUSTOM:
        return _deserialize(serializer, payload[1:])
    if tag == BUFFERED:
        return load_object(unframe_buffers(payload), serializer, fetch)
    object_id = unframe_object(payload)
    if object_id is None:
        require_here(payload)
        raise MalformedMessageError(f"not a value: payload begins with {tag!r}")
    return load_object(fetch(object_id), serializer, fetch)


def load_object(buffers: Sequence[memoryview], serializer: Serializer | None, fetch: FetchObject) -> Any:
    """Return the value of an object in storage."""
    header = bytes(buffers[0][:1])
    if header == PICKLED:
        return pickle.loads(buffers[0][1:], buffers=buffers[1:])
    if header == RAW_BYTES:
        return bytes(buffers[1])
    if header == RAW_BYTEARRAY:
        return bytearray(buffers[1])
    if header == CUSTOM:
        return _deserialize(serializer, bytes(buffers[0][1:]))
    if header == FRAMED:
        return load_value(bytes(buffers[0][1:]), serializer, fetch)
    raise MalformedMessageError(f"not an object: header begins with {header!r}")


def _deserialize(serializer: Serializer | None, data: bytes) -> Any:
    if serializer is None:
        raise MalformedMessageError("a value of a custom serializer, in a batch that names none")
    return serializer.deserialize(data)


def _payload_of(
    payload: bytes | BufferedPickle, fetch: FetchObject
) -> tuple[bytes | bytearray, Sequence[memoryview | bytes | bytearray]]:
    """Return (payload, out-of-band buffers); `payload` may name an object that contains the whole payload."""
    if isinstance(payload, BufferedPickle):
        return payload.buffers[0], payload.buffers[1:]
    if payload[:1] == BUFFERED:
        pickled, *beside = unframe_buffers(payload)
        return bytes(pickled), beside
    object_id = unframe_object(payload)
    if object_id is None:
        return payload, ()
    buffers = fetch(object_id)
    if bytes(buffers[0][:1]) == FRAMED:
        return bytes(buffers[0][1:]), ()
    return bytes(buffers[0]), buffers[1:]


def load_arguments(
    payload: ReadPayload, inputs: Sequence[bytes], serializer: Serializer | None, fetch: FetchObject
) -> Arguments:
    """Return (args, kwargs) of a call."""
    if isinstance(payload, UnpickledBytes):
        return payload.as_call()
    content, buffers = _payload_of(payload, fetch)
    if content[:1] == PICKLED:
        arguments: Arguments = pickle.loads(memoryview(content)[1:], buffers=buffers)
        return arguments
    content = bytes(content)
    if content[:1] != ARGUMENTS:
        require_here(content)
        raise MalformedMessageError(f"not arguments: payload begins with {content[:1]!r}")
    positional, keyword = unframe_arguments(content)
    shared = _SharedValues()

    def load(argument: Argument) -> Any:
        if argument.source is Source.VALUE:
            return pickle.loads(argument.data) if serializer is None else serializer.deserialize(argument.data)
        if argument.source is Source.OBJECT:
            return load_object(fetch(ObjectId(argument.data)), serializer, fetch)
        if argument.source is Source.INPUT:
            return load_value(inputs[struct.unpack("<H", argument.data)[0]], serializer, fetch)
        if argument.source is Source.EXPRESSION:
            value = pickle.loads(argument.data)
        else:
            value = shared.take(argument.data)
            if argument.source is Source.SHARED:
                return value
        return evaluate(value, lambda index: load_value(inputs[index], serializer, fetch), _call)

    args, kwargs = [load(argument) for argument in positional], {name: load(value) for name, value in keyword.items()}
    shared.require_end()
    return args, kwargs


def load_plain_arguments(payload: ReadPayload, inputs: Sequence[bytes], fetch: FetchObject) -> Arguments:
    """Return (args, kwargs) of a call that takes plain data."""
    content = _plain_json(payload, "the arguments", fetch) if isinstance(payload, bytes) else b""

    def load_input(index: int) -> Any:
        if not 0 <= index < len(inputs):
            raise MalformedMessageError(f"the arguments name input {index} of {len(inputs)}")
        return load_plain(_plain_json(inputs[index], f"input {index}", fetch))

    return load_plain_call(content, load_input)


def _plain_json(payload: bytes, what: str, fetch: FetchObject) -> bytes:
    """Return the JSON of plain data, which may lie in an object."""
    content, _ = _payload_of(payload, fetch)
    if content[:1] != PLAIN:
        raise MalformedMessageError(f"not plain data: {what} begins with {bytes(content[:1])!r}")
    return bytes(content[len(PLAIN) :])


class _SharedValues:
    """The arguments of one call that were pickled together, in their order."""

    def __init__(self) -> None:
        self._left: Iterator[Any] | None = None

    def take(self, data: bytes) -> Any:
        """Return the next one; `data` of the first is the pickle. Raises MalformedMessageError where there is none."""
        if self._left is None:
            self._left = iter(pickle.loads(data))
        for value in self._left:
            return value
        raise MalformedMessageError("arguments that were pickled together are too few")

    def require_end(self) -> None:
        """Raise MalformedMessageError where some are left."""
        for _ in self._left or ():
            raise MalformedMessageError("arguments that were pickled together are too many")


STOP_TEXT = "the function raised StopIteration, which would end the loop over its items"
"""The error of an item of a map chunk whose call raised StopIteration."""


def load_chunk(payload: ReadPayload, fetch: FetchObject) -> tuple[bool, Sequence[Any]] | list[bytes]:
    """Return (star, items) of a map chunk, or the argument payloads of its items if it contains those."""
    if isinstance(payload, UnpickledBytes):
        return payload.as_chunk()
    content, buffers = _payload_of(payload, fetch)
    if content[:1] == PICKLED:
        chunk: tuple[bool, Sequence[Any]] = pickle.loads(memoryview(content)[1:], buffers=buffers)
        return chunk
    content = bytes(content)
    if content[:1] == PAYLOADS:
        return unframe_payloads(content)
    require_here(content)
    raise MalformedMessageError(f"not a map chunk: payload begins with {content[:1]!r}")


def _call(function: Any, arguments: Sequence[Any]) -> Any:
    return completed(lending(function)(*arguments))


# --- writing ---------------------------------------------------------------------------------------------------------


_CANNOT_NAME = (pickle.PicklingError, AttributeError, TypeError)
"""The errors of pickle for lambdas, local classes and objects of `__main__`."""

_ATOMS = frozenset((int, float, bool, type(None), str))
_ITEMS_MAX = 32
"""Longer lists are not searched for buffers. Pickling them as if they had some costs little in comparison."""


def _dump_by_reference(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    return pickle.dumps(value, by_value.PROTOCOL, buffer_callback=buffer_callback)


def dump_pickle(value: Any) -> bytes:
    """Return a pickle of `value`, with objects by value that cannot be named."""
    try:
        return _dump_by_reference(value)
    except _CANNOT_NAME:
        return by_value.dumps(value)


def _dump_apart(value: Any) -> tuple[bytes, list[memoryview]]:
    """As `dump_pickle`, with the large buffers apart from the pickle."""
    try:
        return by_value.dumps_apart(value, _dump_by_reference)
    except _CANNOT_NAME:
        return by_value.dumps_apart(value)


def dump_result(value: Any, serializer: Serializer | None) -> Outcome:
    """Serialize a task's result. Raises any error of pickling."""
    if serializer is not None:
        return inline_or_object(CUSTOM + serialized(value, serializer))
    return outcome_of(value, dump_buffers(value))


def dump_plain_outcome(value: Any) -> Outcome:
    """Serialize the result of a call that takes plain data. Raises NotPlainDataError."""
    return inline_or_object(dump_plain_result(value))


def dump_buffers(value: Any) -> list[Buffer]:
    """Return the buffers that an object with this value has. Raises any error of pickling."""
    kind = type(value)
    if (kind is bytes or kind is bytearray) and len(value) > INLINE_BYTES_MAX:
        return [RAW_BYTES if kind is bytes else RAW_BYTEARRAY, value]
    if kind is str or (
        (kind is list or kind is tuple) and len(value) <= _ITEMS_MAX and _ATOMS.issuperset(map(type, value))
    ):
        return [PICKLED + pickle.dumps(value, by_value.PROTOCOL)]
    data, buffers = _dump_apart(value)
    return [PICKLED + data, *buffers]


def outcome_of(value: Any, buffers: list[Buffer]) -> Outcome:
    """Return `dump_result` of a value, of which `dump_buffers` has returned these buffers."""
    if len(buffers) > 1:
        is_small = sum(map(len, buffers)) <= INLINE_BYTES_MAX
        return Outcome(PICKLED + dump_pickle(value)) if is_small else _as_object(buffers)
    return inline_or_object(bytes(buffers[0]))


def serialized(value: Any, serializer: Serializer) -> bytes:
    """Return the bytes that a custom serializer makes from a value. Raises its errors, and TypeError if it returns no bytes."""
    data: Any = serializer.serialize(value)
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    if not isinstance(data, bytes):
        raise TypeError(f"the client's serializer returned a {type(data).__name__}, not bytes")
    return data


def inline_or_object(payload: bytes) -> Outcome:
    """Return a payload as it is, or as an object if it is large."""
    # An object's header has the same form as a payload: tag and bytes.
    return Outcome(payload) if len(payload) <= INLINE_BYTES_MAX else _as_object([payload])


def _as_object(buffers: Sequence[Buffer]) -> Outcome:
    size = sum(buffer.nbytes if isinstance(buffer, memoryview) else len(buffer) for buffer in buffers)
    if size > OBJECT_BYTES_MAX:
        raise ValueError(
            f"it takes {size:,} bytes, and one value can have {OBJECT_BYTES_MAX:,} at most, which is 16 GiB: "
            "return it in parts"
        )
    object_id = new_id()
    return Outcome(frame_object(ObjectId(object_id)), object_id, buffers)
