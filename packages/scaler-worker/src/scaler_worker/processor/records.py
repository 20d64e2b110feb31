"""The records between an agent and its processors: same host, same version, so plain structs in native byte order.

Two socket pairs of kind SEQPACKET per processor. On the *task channel* the agent sends tasks and answers about objects, which
only the processor's main thread reads; the processor sends everything it has to say there, whichever thread says it, so
that its order is kept. On the *control channel* the agent sends what must reach a processor that is busy.

A record is one packet or several: two bytes (kind, 1 if more packets follow), then the body.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import repeat
from typing import NamedTuple

from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire.batch_rows import CARRIED, NOTHING_REPORTED, REPORTED, Carried, Reported
from scaler_protocol.wire.columns import EMPTY, Column
from scaler_protocol.wire.messages import Status

PACKET_BYTES_MAX = 64 * 1024
"""Safely below the send buffer the kernel gives everybody."""

ID = 16

_STATUS_MAX = max(Status)

Bytes = bytes | bytearray | memoryview


TRUE, FALSE = b"\x01", b"\x00"
"""Bodies of UNFINISHED and UNBLOCKED."""

PID_BYTES = 4
"""A READY record is the process id of its sender: the template's report of it may come later."""


class Kind(IntEnum):
    # task channel, from the agent
    TASKS = 1
    OBJECT_ANSWER = 2
    ONE_TASK = 3
    """Short form of TASKS."""
    # control channel, from the agent
    CANCEL = 16
    TAKE_BACK = 17
    RELAY_DELIVER = 18
    STORAGE_ADDRESS = 19
    # task channel, from the processor
    READY = 32
    START_FAILED = 33
    RESULTS = 34
    BLOCKED = 35
    UNBLOCKED = 36
    GAVE_BACK = 37
    OUTPUT = 38
    RELAY_OPEN = 39
    RELAY = 40
    RELAY_CLOSE = 41
    OBJECT_WANTED = 42
    CHUNK_FAILURES = 43
    ONE_RESULT = 44
    """Short form of RESULTS."""
    RETIRED = 45
    """The last one: the processor has answered what it began and ends. The body says why, as the end of a sentence."""
    UNFINISHED = 46
    """Whether clients inside have unanswered tasks: one byte. UNBLOCKED carries the same."""
    RELAY_UNFINISHED = 47
    """RELAY, and clients inside have unanswered tasks from now on."""


def packets(kind: int, parts: Sequence[Bytes]) -> list[bytes]:
    """Return the packets of one record whose body is `parts`, end to end."""
    if sum(map(len, parts)) <= PACKET_BYTES_MAX - 2:
        return [b"".join((bytes((kind, 0)), *parts))]
    body = memoryview(b"".join(parts))
    step = PACKET_BYTES_MAX - 2
    starts = range(0, len(body), step)
    return [
        b"".join((bytes((kind, 1 if start + step < len(body) else 0)), body[start : start + step])) for start in starts
    ]


RECORD_BYTES_MAX = 64 * 1024 * 1024
"""Largest record of a processor. Results leave together until there are 256, and large ones are in storage."""

RELAY_BYTES_MAX = 1024 * 1024 * 1024
"""The same of a message of a client inside: a graph is one message, whatever its size."""

_RELAYS = frozenset((Kind.RELAY, Kind.RELAY_UNFINISHED))


class Assembler:
    """Puts records together from packets.

    With `bounded`, `add` raises ValueError for what no processor of ours sends, and what was there of the record is dropped:
    a task can write to its processor's channel, and must not fill the agent's memory.
    """

    __slots__ = ("_bounded", "_parts")

    def __init__(self, bounded: bool = False) -> None:
        self._parts: list[bytes] = []
        self._bounded = bounded

    def add(self, packet: bytes) -> tuple[int, bytes] | None:
        """Return (kind, body) when `packet` completes a record."""
        if packet[1]:
            if self._bounded:
                self._check(packet)
            self._parts.append(packet[2:])
            return None
        if not self._parts:
            return packet[0], packet[2:]
        self._parts.append(packet[2:])
        body = b"".join(self._parts)
        self._parts.clear()
        return packet[0], body

    def _check(self, packet: bytes) -> None:
        """Raise ValueError where there is more of a record than there may be."""
        bytes_max = RELAY_BYTES_MAX if packet[0] in _RELAYS else RECORD_BYTES_MAX
        if len(packet) != PACKET_BYTES_MAX:
            # Any number of small ones would cost more than their bytes.
            problem = f"a part of {len(packet)} bytes, though more follow"
        elif (len(self._parts) + 1) * PACKET_BYTES_MAX > bytes_max:
            problem = f"more than {bytes_max // 1024**2} MiB in one record"
        else:
            return
        self._parts.clear()
        raise ValueError(problem)


def _raw(typecode: str, column: Column) -> bytes:
    return (column if isinstance(column, array) and column.typecode == typecode else array(typecode, column)).tobytes()


class _Reader:
    """Cuts columns off a body, front to back."""

    __slots__ = ("at", "body")

    def __init__(self, body: bytes, at: int) -> None:
        self.body = body
        self.at = at

    def column(self, typecode: str, count: int) -> array[int]:
        column = array(typecode)
        end = self.at + count * column.itemsize
        column.frombytes(self.body[self.at : end])
        self.at = end
        return column

    def ids(self, count: int) -> list[bytes]:
        start, self.at = self.at, self.at + ID * count
        return [self.body[at : at + ID] for at in range(start, self.at, ID)]

    def data(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        return self.body[start : self.at]

    def strings(self, lengths: Iterable[int]) -> list[bytes]:
        body, start = self.body, self.at
        strings = []
        for length in lengths:
            end = start + length
            strings.append(body[start:end])
            start = end
        self.at = start
        return strings


# --- tasks -----------------------------------------------------------------------------------------------------------

_TASKS = struct.Struct("=QIIHBBHHHBBIBI16s16s")
assert len(CARRIED) <= 32


class Tasks(NamedTuple):
    """Tasks handed to a processor; one row each where a field is a list."""

    first_index: int
    generation: int
    depth: int
    kind: int
    flags: int
    client: bytes
    serializer: bytes
    """Function id, or empty."""
    functions: list[bytes]
    function_indexes: Column
    """Empty where all rows use the first function."""
    numbers: Column
    payloads: list[bytes]
    inputs: dict[int, list[bytes | int]]
    """Row to its graph inputs, which most rows do not have: payloads, or of which task's result (its index) it is."""
    carried: Sequence[Carried]
    """What each row carries (see `batch_rows.CARRIED`); empty where none carries anything."""
    new_functions: list[tuple[bytes, bytes]]
    forgotten: list[bytes]


def tasks_parts(
    *,
    first_index: int,
    generation: int,
    depth: int,
    kind: int,
    flags: int,
    client: bytes,
    serializer: bytes,
    functions: Sequence[bytes],
    function_indexes: Column,
    numbers: Column,
    payload_lengths: Column,
    payload: Bytes,
    input_positions: Column,
    inputs: Sequence[bytes],
    input_sources: Column,
    carried: Sequence[Column] = ((),) * len(CARRIED),
    new_functions: Sequence[tuple[bytes, bytes]],
    forgotten: Sequence[bytes],
) -> list[Bytes]:
    """Return the body of a TASKS record, in parts."""
    header = _TASKS.pack(
        first_index,
        generation,
        len(numbers),
        depth,
        kind,
        flags,
        len(functions),
        len(new_functions),
        len(forgotten),
        1 if len(function_indexes) else 0,
        1 if serializer else 0,
        len(inputs),
        1 if len(input_sources) else 0,
        sum(1 << position for position, column in enumerate(carried) if len(column)),
        client,
        serializer,
    )
    parts: list[Bytes] = [header, *functions]
    if new_functions:
        parts.extend(function for function, _ in new_functions)
        parts.append(_raw("Q", [len(body) for _, body in new_functions]))
        parts.extend(body for _, body in new_functions)
    parts.extend(forgotten)
    if len(function_indexes):
        parts.append(_raw("H", function_indexes))
    parts += (_raw("Q", numbers), _raw("I", payload_lengths), payload)
    if inputs:
        parts += (_raw("I", input_positions), _raw("I", [len(data) for data in inputs]), *inputs)
        if len(input_sources):
            parts.append(_raw("I", input_sources))
    parts += (_raw(spec.typecode, column) for spec, column in zip(CARRIED, carried, strict=True) if len(column))
    return parts


def read_tasks(body: bytes) -> Tasks:
    (
        first_index,
        generation,
        count,
        depth,
        kind,
        flags,
        function_count,
        new_count,
        forgotten_count,
        has_indexes,
        has_serializer,
        input_count,
        has_sources,
        carried_bits,
        client,
        serializer,
    ) = _TASKS.unpack_from(body)
    reader = _Reader(body, _TASKS.size)
    functions = reader.ids(function_count)
    new_functions: list[tuple[bytes, bytes]] = []
    if new_count:
        ids = reader.ids(new_count)
        new_functions = list(zip(ids, reader.strings(reader.column("Q", new_count)), strict=True))
    forgotten = reader.ids(forgotten_count)
    indexes: Column = reader.column("H", count) if has_indexes else ()
    numbers = reader.column("Q", count)
    payloads = reader.strings(reader.column("I", count))
    inputs: dict[int, list[bytes | int]] = {}
    if input_count:
        positions = reader.column("I", input_count)
        payloads_in = reader.strings(reader.column("I", input_count))
        sources: Iterable[int] = reader.column("I", input_count) if has_sources else repeat(0)
        for position, data, source in zip(positions, payloads_in, sources, strict=False):
            inputs.setdefault(position, []).append(first_index + position - source if source else data)
    carried: Sequence[Carried] = ()
    if carried_bits:
        columns = [
            reader.column(spec.typecode, count) if carried_bits & 1 << position else (spec.absent or 0,) * count
            for position, spec in enumerate(CARRIED)
        ]
        carried = list(zip(*columns, strict=True))
    return Tasks(
        first_index,
        generation,
        depth,
        kind,
        flags,
        client,
        serializer if has_serializer else b"",
        functions,
        indexes,
        numbers,
        payloads,
        inputs,
        carried,
        new_functions,
        forgotten,
    )


_ONE_TASK = struct.Struct("=QIHBBQ16s16s")
ONE_TASK_BYTES_MAX = PACKET_BYTES_MAX - 2 - _ONE_TASK.size
"""Payload of a task whose record has the short form."""


def one_task_parts(
    index: int,
    generation: int,
    depth: int,
    kind: int,
    flags: int,
    number: int,
    client: bytes,
    function: bytes,
    payload: Bytes,
) -> list[Bytes]:
    """Return the body of a ONE_TASK record, in parts."""
    return [_ONE_TASK.pack(index, generation, depth, kind, flags, number, client, function), payload]


def read_one_task(body: bytes) -> Tasks:
    index, generation, depth, kind, flags, number, client, function = _ONE_TASK.unpack_from(body)
    payload = body[_ONE_TASK.size :]
    return new_tuple(
        Tasks,
        (index, generation, depth, kind, flags, client, b"", [function], (), (number,), [payload], {}, (), [], []),
    )


# --- results ---------------------------------------------------------------------------------------------------------

_RESULTS = struct.Struct("=QIBI")
"""First index, rows, which of `REPORTED` follow (a bit each), and how many results are objects."""

_LIMITS = tuple((1 << 8 * array(spec.typecode).itemsize) - 1 for spec in REPORTED)
_DURATIONS = Reported._fields.index("durations")
_ONLY_DURATIONS, _DURATION_TYPE = 1 << _DURATIONS, REPORTED[_DURATIONS].typecode
_BEFORE, _BEHIND = NOTHING_REPORTED[:_DURATIONS], NOTHING_REPORTED[_DURATIONS + 1 :]
assert len(REPORTED) <= 8


class Extra(NamedTuple):
    """What most results do not have."""

    status: int = 0
    measured: Mapping[str, int] = {}
    """By the name of its column in `Reported`, beside status and duration."""
    object_id: bytes = b""
    object_size: int = 0


Result = tuple[int, bytes, int, Extra | None]
"""(index, payload, microseconds, what is unusual about it)."""


class Results(NamedTuple):
    """As `events.ProcessorResults`, without the processor."""

    first_index: int
    rows: int
    payload_lengths: Column
    payloads: bytes
    reported: Reported
    object_positions: Column = ()
    objects: tuple[bytes, ...] = ()
    object_sizes: Column = ()


def results_parts(results: Sequence[Result]) -> list[Bytes]:
    """Return the body of a RESULTS record, in parts."""
    payloads = [result[1] for result in results]
    count = len(results)
    columns = [array("I", map(len, payloads)).tobytes()]
    flags = stored_count = 0
    unusual = [result[3] for result in results]
    durations = [result[2] for result in results]
    if unusual.count(None) == count and min(durations) >= 0 and max(durations) <= _LIMITS[_DURATIONS]:
        header = _RESULTS.pack(results[0][0], count, _ONLY_DURATIONS, 0)
        return [header, *columns, array(_DURATION_TYPE, durations).tobytes(), *payloads]
    plain = Extra()
    extras = [extra or plain for extra in unusual]
    for position, (spec, limit) in enumerate(zip(REPORTED, _LIMITS, strict=True)):
        if position == _DURATIONS:
            values = durations
        elif spec.name == "statuses":
            values = [extra.status for extra in extras]
        else:
            values = [extra.measured.get(spec.name, 0) for extra in extras]
        if position == _DURATIONS or any(values):
            flags |= 1 << position
            columns.append(array(spec.typecode, [_bounded(value, limit) for value in values]).tobytes())
    stored = [(position, extra) for position, extra in enumerate(extras) if extra.object_id]
    stored_count = len(stored)
    if stored:
        columns.append(array("I", [position for position, _ in stored]).tobytes())
        columns.append(array("Q", [extra.object_size for _, extra in stored]).tobytes())
        columns.extend(extra.object_id for _, extra in stored)
    return [_RESULTS.pack(results[0][0], count, flags, stored_count), *columns, *payloads]


_ONE_RESULT = struct.Struct("=QI")


def one_result_parts(result: Result) -> list[Bytes]:
    """Return the body of a ONE_RESULT record, in parts: of a result with nothing unusual about it."""
    return [_ONE_RESULT.pack(result[0], _bounded(result[2], 0xFFFFFFFF)), result[1]]


def _bounded(measured: int, limit: int) -> int:
    """Return a measured number as its column holds it. Clocks may go wrong: a task can replace those of its process."""
    return measured if 0 <= measured <= limit else max(0, min(measured, limit))


def read_one_result(body: bytes) -> tuple[int, int, Column, bytes, Reported]:
    """Return the first fields of `Results`; the others are empty."""
    index, duration = _ONE_RESULT.unpack_from(body)
    payload = body[_ONE_RESULT.size :]
    return index, 1, (len(payload),), payload, new_tuple(Reported, (*_BEFORE, (duration,), *_BEHIND))


def read_results(body: bytes) -> Results:
    first_index, count, flags, stored_count = _RESULTS.unpack_from(body)
    reader = _Reader(body, _RESULTS.size)
    lengths = reader.column("I", count)
    if flags == _ONLY_DURATIONS:
        reported = new_tuple(Reported, (*_BEFORE, reader.column(_DURATION_TYPE, count), *_BEHIND))
    else:
        reported = Reported._make(
            reader.column(spec.typecode, count) if flags & 1 << position else EMPTY
            for position, spec in enumerate(REPORTED)
        )
    positions: Column = EMPTY
    sizes: Column = EMPTY
    objects: tuple[bytes, ...] = ()
    if stored_count:
        positions = reader.column("I", stored_count)
        sizes = reader.column("Q", stored_count)
        objects = tuple(reader.ids(stored_count))
    payloads = body[reader.at :]
    statuses = reported.statuses
    if (
        sum(lengths) != len(payloads)
        or len(reported.durations) != count
        or (len(statuses) and max(statuses) > _STATUS_MAX)
    ):
        raise ValueError(f"results of {sum(lengths)} bytes in a record that has {len(payloads)}")
    return Results(first_index, count, lengths, payloads, reported, positions, objects, sizes)


# --- small ones ------------------------------------------------------------------------------------------------------

_CANCEL = struct.Struct("=QB")
_GIVEN_BACK = struct.Struct("=IQ")
_OUTPUT = struct.Struct("=QBQ")
_ANSWER = struct.Struct("=16sB")
_CHUNK_FAILURES = struct.Struct("=QI")
_WANTED = struct.Struct("=16s?")


def cancel_parts(index: int, status: int, text: str) -> list[Bytes]:
    return [_CANCEL.pack(index, status), text.encode("utf-8", "replace")]


def read_cancel(body: bytes) -> tuple[int, int, str]:
    """Return (index, status, text)."""
    index, status = _CANCEL.unpack_from(body)
    return index, status, body[_CANCEL.size :].decode()


def given_back_parts(generation: int, next_index: int) -> list[Bytes]:
    """For BLOCKED and GAVE_BACK."""
    return [_GIVEN_BACK.pack(generation, next_index)]


def read_given_back(body: bytes) -> tuple[int, int]:
    """Return (generation, next_index)."""
    generation, next_index = _GIVEN_BACK.unpack(body)
    return generation, next_index


def output_parts(index: int, stream: int, data: bytes, dropped_bytes: int) -> list[Bytes]:
    return [_OUTPUT.pack(index, stream, dropped_bytes), data]


def read_output(body: bytes) -> tuple[int, int, bytes, int]:
    """Return (index, stream, data, dropped bytes)."""
    index, stream, dropped = _OUTPUT.unpack_from(body)
    if not 1 <= stream <= 3:
        raise ValueError(f"output of stream {stream}")
    return index, stream, body[_OUTPUT.size :], dropped


def chunk_failures_parts(index: int, count: int, payload: bytes) -> list[Bytes]:
    return [_CHUNK_FAILURES.pack(index, count), payload]


def read_chunk_failures(body: bytes) -> tuple[int, int, bytes]:
    """Return (index, failed items, failure payload of the first)."""
    index, count = _CHUNK_FAILURES.unpack_from(body)
    return index, count, body[_CHUNK_FAILURES.size :]


def object_wanted_parts(object_id: bytes, place_gone: bool) -> list[Bytes]:
    return [_WANTED.pack(object_id, place_gone)]


def read_object_wanted(body: bytes) -> tuple[bytes, bool]:
    """Return (object id, whether the object is not at the place the cache says)."""
    object_id, place_gone = _WANTED.unpack(body)
    return object_id, place_gone


def object_answer_parts(object_id: bytes, status: int, text: str) -> list[Bytes]:
    return [_ANSWER.pack(object_id, status), text.encode("utf-8", "replace")]


def read_object_answer(body: bytes) -> tuple[bytes, int, str]:
    """Return (object id, status, text)."""
    object_id, status = _ANSWER.unpack_from(body)
    return object_id, status, body[_ANSWER.size :].decode()


def relay_parts(client: bytes, frames: Sequence[Bytes]) -> list[Bytes]:
    """For RELAY, RELAY_UNFINISHED and RELAY_DELIVER."""
    return [client, struct.pack("=I", len(frames)), _raw("Q", [len(frame) for frame in frames]), *frames]


def read_relay(body: bytes) -> tuple[bytes, list[bytes]]:
    """Return (client, frames)."""
    (count,) = struct.unpack_from("=I", body, ID)
    reader = _Reader(body, ID + 4)
    return body[:ID], reader.strings(reader.column("Q", count))
