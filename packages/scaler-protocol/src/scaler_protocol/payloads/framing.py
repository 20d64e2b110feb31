"""The payload bytes of tasks, results, functions and objects, which clients and processors understand.

The scheduler and the object storage server never read them. The first byte is a tag. This module adds and removes frames; the
serializer pickles.

    function body   PICKLED + pickle | CUSTOM + bytes of the client's serializer | OBJECT + object id
                    | PER_CALL + any of the three | PLAIN + "package.module:function" in UTF-8
    arguments       PICKLED + pickle of (args, kwargs) | ARGUMENTS + the list below | PLAIN + JSON of [args, kwargs]
                    | OBJECT + object id of such bytes
    map chunk       PICKLED + pickle of (star, items) | PAYLOADS + many argument payloads | OBJECT + object id of such bytes
    result          PICKLED + pickle | CUSTOM + bytes | PLAIN + JSON | OBJECT + object id
                    arguments, map chunks and results that are PICKLED may also be BUFFERED + a pickle and its buffers
                    arguments, map chunks and their results, not those of graph rows, may also be PLACED + a place: see below
    failure         PICKLED + pickle of `Failure`'s fields, a tuple of four | PLAIN + JSON of {"type", "text", "traceback"}
    map outcome     as a result; its value is (values, {index: failure payload})

PLACED: the payload lies in a segment of the client on the same host, and the place says where
(`scaler_protocol.objects.segments.batch_place`). Who cannot read it answers UNREADABLE. A payload that is nothing but `bytes`
is not pickled there. A client keeps a result from there as buffers: RAW_BYTES and the value, RAW_ITEMS and the values of a
map chunk of which no item failed, or those of an object with this value.

BUFFERED: the number of buffers (U32), the length of each (U64), and then one behind the other: PICKLED + pickle, and its
out-of-band buffers, as in an object.

An object in storage is a list of buffers. The first one is a header: PICKLED + pickle (the others are its out-of-band
buffers), RAW_BYTES or RAW_BYTEARRAY (the second is the value), CUSTOM + bytes, PLAIN + JSON, or FRAMED + any payload above.
"OBJECT + object id of such bytes" names an object with header FRAMED + the payload, or PICKLED + pickle of the value.

PLAIN: data and functions of clients that are not written in Python. `scaler_protocol.payloads.plain` says what the JSON of a
value is. A function that is PLAIN is imported by its name. Its arguments are PLAIN, in the payload or in an object with header
PLAIN; then its result and its failure are PLAIN too. With arguments that are PICKLED its answer is as any other function's. No
other function takes PLAIN arguments. It has no map chunks. Its graph predecessors must have PLAIN results; {"$input": 0} in
its arguments stands for the result of the first one.

Pickle means: restored by `pickle.loads`; made by pickle or `scaler_protocol.payloads.by_value`.

Functions: a worker restores a body once and keeps the result. This is right for code only. A function with state (a bound
method, a callable object, a closure over a list) is PER_CALL. It is restored for each call, and in a map for each item, so
that no call sees the changes of another.

Map chunks: with `star` an item is a tuple of positional arguments, without it the only argument. At the index of an item
that failed, `values` has None.

Custom serializer (a batch or graph names one): its class travels as a function body, PICKLED. Function bodies are then
CUSTOM; argument lists are always ARGUMENTS, and a VALUE is the serializer's bytes (without serializer: a pickle); an
OBJECT argument's header is CUSTOM unless it was stored by `send_object`, whose header is PICKLED or RAW as always;
results are CUSTOM, or OBJECT whose header is CUSTOM. In a map outcome, which stays PICKLED, each of `values` is the
serializer's bytes. Expressions and failures are always pickled. Map chunks are always PAYLOADS.

Environment: what a client wants its tasks to find, worker plugins and uploaded modules. It travels in the place of the
serializer: ENVIRONMENT + the client's id (16 bytes) + a pickle (see `scaler_protocol.payloads.environments`), which has the
serializer's body, if there is one.

Failures: `scaler_protocol.failures` makes all of them. Their texts are plain and bounded, so that monitors can show them.
From `Failure.pickled`, `load_exception` there makes the exception with traceback, cause, context and notes, or the
description of one that cannot be restored. It is empty if `type_name` is enough: for an error of Scaler's that is made again
by its name ("DeserializeObjectError" where function or arguments cannot be restored on the worker, "MissingObjects",
"ObjectStorageException"), and a map item that is not the first of its chunk to fail. A result that cannot be serialized is a
failure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.ids import ID_BYTES, ObjectId

PICKLED = b"P"
CUSTOM = b"S"
OBJECT = b"O"
ARGUMENTS = b"A"
PAYLOADS = b"L"
RAW_BYTES = b"b"
RAW_BYTEARRAY = b"a"
RAW_ITEMS = b"i"
BUFFERED = b"B"
FRAMED = b"F"
PER_CALL = b"N"
ENVIRONMENT = b"E"
PLACED = b"@"
PLAIN = b"J"

FAILURE_KEPT_BYTES_MAX = 24 * 1024
"""Failure payloads up to this size are kept for monitors. Instead of a larger one, they get a short form."""

INLINE_BYTES_MAX = 260 * 1024
"""Payloads up to this size (a value of 256 KiB, and what pickling adds) travel inside batches; larger ones become objects."""

SHARED_BYTES_MIN = 48 * 1024
"""From this size on, an argument that comes a second time, and a function, becomes an object: it is sent once for all tasks."""


class Source(IntEnum):
    """Where an argument's value comes from."""

    VALUE = 0
    """Serialized bytes in the argument itself."""
    OBJECT = 1
    """An object in storage: 16 bytes."""
    INPUT = 2
    """The result of the task's n-th graph predecessor: U16."""
    EXPRESSION = 3
    """Pickle of lists, tuples and dictionaries. Each `InputReference` and `Call` in it is replaced by a value."""
    SHARED = 4
    """One of several that are pickled together, so that they keep what they share.

    The first argument of SHARED or SHARED_EXPRESSION has the pickle of the list of all of these, in their order; the
    others are empty.
    """
    SHARED_EXPRESSION = 5
    """The same, of an EXPRESSION."""


@dataclass(frozen=True, slots=True)
class InputReference:
    """In an expression: the result of the task's n-th graph predecessor."""

    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """In an expression: a call to make, as Dask's nested task tuples ask for."""

    function: object
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a task: where its bytes come from, and the bytes."""

    source: Source
    data: bytes


class Failure(NamedTuple):
    """An exception raised by a task. See `scaler_protocol.failures`, which makes and reads `pickled`."""

    pickled: bytes
    type_name: str
    text: str
    traceback_text: str


def identity(value: object) -> object:
    """Return `value`: the function of graph nodes that only pass values on. Every worker can import it."""
    return value


def call_each(function: Callable[..., object], calls: Iterable[Sequence[object]]) -> list[object]:
    """Return the results of some calls of a function: what an executor submits for a chunk. Every worker can import it.

    Coroutines are awaited, as those of other calls.
    """
    # Workers need it, and have it imported. This module is for clients too, which should not import what that does.
    from scaler_protocol.runtime.coroutines import completed

    return [completed(function(*arguments)) for arguments in calls]


_COUNTS = struct.Struct("<II")
_ARGUMENT = struct.Struct("<BQ")
_LENGTH32 = struct.Struct("<I")
_NAME_ERRORS = "surrogatepass"
"""How names of keyword arguments are encoded. They may be any text, even with lone surrogates."""


def frame_arguments(positional: Sequence[Argument], keyword: dict[str, Argument]) -> bytes:
    """Return an ARGUMENTS payload."""
    parts = [ARGUMENTS, _COUNTS.pack(len(positional), len(keyword))]
    for name in keyword:
        encoded = name.encode("utf-8", _NAME_ERRORS)
        parts += (_LENGTH32.pack(len(encoded)), encoded)
    for argument in (*positional, *keyword.values()):
        parts += (_ARGUMENT.pack(argument.source, len(argument.data)), argument.data)
    return b"".join(parts)


def unframe_arguments(payload: bytes) -> tuple[list[Argument], dict[str, Argument]]:
    """Return (positional, keyword) of an ARGUMENTS payload. Raises MalformedMessageError."""
    try:
        positional_count, keyword_count = _COUNTS.unpack_from(payload, 1)
        at = 1 + _COUNTS.size
        names = []
        for _ in range(keyword_count):
            (length,) = _LENGTH32.unpack_from(payload, at)
            at += _LENGTH32.size
            names.append(bytes(payload[at : at + length]).decode("utf-8", _NAME_ERRORS))
            at += length
        arguments = []
        for _ in range(positional_count + keyword_count):
            source, length = _ARGUMENT.unpack_from(payload, at)
            at += _ARGUMENT.size
            arguments.append(Argument(Source(source), bytes(payload[at : at + length])))
            at += length
    except (struct.error, ValueError, OverflowError) as error:
        raise MalformedMessageError(f"not an argument list: {error}") from None
    if at != len(payload):
        raise MalformedMessageError("not an argument list: its lengths do not add up")
    return arguments[:positional_count], dict(zip(names, arguments[positional_count:], strict=True))


def unframe_function(body: bytes) -> tuple[bool, bytes]:
    """Return whether a function must be restored for each call, and its body without that mark."""
    return (True, body[1:]) if body[:1] == PER_CALL else (False, body)


def environment_owner(body: bytes) -> bytes:
    """Return the id of the client whose environment this function body is; empty if it is none."""
    return bytes(body[1 : 1 + ID_BYTES]) if body[:1] == ENVIRONMENT else b""


def frame_payloads(payloads: Sequence[bytes]) -> bytes:
    """Return a PAYLOADS payload: many argument payloads in one."""
    lengths = b"".join(_LENGTH32.pack(len(payload)) for payload in payloads)
    return b"".join((PAYLOADS, _LENGTH32.pack(len(payloads)), lengths, *payloads))


def unframe_payloads(payload: bytes) -> list[bytes]:
    """Return the argument payloads inside a PAYLOADS payload. Raises MalformedMessageError."""
    try:
        (count,) = _LENGTH32.unpack_from(payload, 1)
        lengths = struct.unpack_from(f"<{count}I", payload, 1 + _LENGTH32.size)
    except struct.error as error:
        raise MalformedMessageError(f"not a list of payloads: {error}") from None
    at = 1 + _LENGTH32.size * (1 + count)
    items = []
    for length in lengths:
        items.append(payload[at : at + length])
        at += length
    if at != len(payload):
        raise MalformedMessageError("not a list of payloads: its lengths do not add up")
    return items


def frame_buffers(buffers: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """Return a BUFFERED payload."""
    return b"".join((BUFFERED, struct.pack(f"<I{len(buffers)}Q", len(buffers), *map(len, buffers)), *buffers))


def unframe_buffers(payload: bytes) -> list[memoryview]:
    """Return copies of the buffers inside a BUFFERED payload, which may be changed. Raises MalformedMessageError."""
    try:
        (count,) = _LENGTH32.unpack_from(payload, 1)
        lengths = struct.unpack_from(f"<{count}Q", payload, 1 + _LENGTH32.size)
    except struct.error as error:
        raise MalformedMessageError(f"not a list of buffers: {error}") from None
    at = 1 + _LENGTH32.size + 8 * count
    if not count or at + sum(lengths) != len(payload):
        raise MalformedMessageError("not a list of buffers: its lengths do not add up")
    buffers = []
    with memoryview(payload) as view:
        for length in lengths:
            buffers.append(memoryview(bytearray(view[at : at + length])))
            at += length
    return buffers


def frame_object(object_id: ObjectId) -> bytes:
    """Return a payload that stands for this object."""
    return OBJECT + object_id


def unframe_object(payload: bytes) -> ObjectId | None:
    """Return the object that a payload stands for, or None if it is no OBJECT payload."""
    if payload[:1] != OBJECT:
        return None
    if len(payload) != 1 + ID_BYTES:
        raise MalformedMessageError(f"an object reference has {1 + ID_BYTES} bytes, not {len(payload)}")
    return ObjectId(bytes(payload[1:]))
