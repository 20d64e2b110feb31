"""Records of tasks that the agent hands to a processor: TASKS, and ONE_TASK, its short form."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire.batch_rows import CARRIED, Carried
from scaler_protocol.wire.columns import Column
from scaler_worker.processor.records import PACKET_BYTES_MAX, Bytes, Reader, raw_column

VIEWED_BYTES_MIN = 32 * 1024
"""Payloads of this size, on average, are not copied out of their record. To copy smaller ones takes less time than a view."""

_TASKS = struct.Struct("=QIIHBBHHHBBIBIHH16s16s")
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
    payloads: Sequence[bytes | memoryview]
    inputs: dict[int, list[bytes | int]]
    """Row to its graph inputs, which most rows do not have: payloads, or of which task's result (its index) it is."""
    carried: Sequence[Carried]
    """What each row carries (see `batch_rows.CARRIED`); empty where none carries anything."""
    new_functions: list[tuple[bytes, bytes]]
    forgotten: list[bytes]
    options: bytes = b""
    """What all rows ask for, see `call_options.asked_of`; empty for nothing."""
    devices: bytes = b""
    """The GPUs of the tasks, separated by commas; empty where they ask for none."""


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
    options: bytes = b"",
    devices: bytes = b"",
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
        len(options),
        len(devices),
        client,
        serializer,
    )
    parts: list[Bytes] = [header, *functions]
    if new_functions:
        parts.extend(function for function, _ in new_functions)
        parts.append(raw_column("Q", [len(body) for _, body in new_functions]))
        parts.extend(body for _, body in new_functions)
    parts.extend(forgotten)
    if len(function_indexes):
        parts.append(raw_column("H", function_indexes))
    parts += (raw_column("Q", numbers), raw_column("I", payload_lengths), payload)
    if inputs:
        parts += (raw_column("I", input_positions), raw_column("I", [len(data) for data in inputs]), *inputs)
        if len(input_sources):
            parts.append(raw_column("I", input_sources))
    parts += (raw_column(spec.typecode, column) for spec, column in zip(CARRIED, carried, strict=True) if len(column))
    parts += (options, devices)
    return parts


def read_tasks(body: bytes) -> Tasks:
    """Read a record of tasks."""
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
        options_length,
        devices_length,
        client,
        serializer,
    ) = _TASKS.unpack_from(body)
    reader = Reader(body, _TASKS.size)
    functions = reader.ids(function_count)
    new_functions: list[tuple[bytes, bytes]] = []
    if new_count:
        ids = reader.ids(new_count)
        new_functions = list(zip(ids, reader.strings(reader.column("Q", new_count)), strict=True))
    forgotten = reader.ids(forgotten_count)
    indexes: Column = reader.column("H", count) if has_indexes else ()
    numbers = reader.column("Q", count)
    lengths = reader.column("I", count)
    payloads: Sequence[bytes | memoryview]
    payloads = reader.views(lengths) if len(body) >= VIEWED_BYTES_MIN * count else reader.strings(lengths)
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
    options = devices = b""
    if options_length:
        options, devices = reader.strings([options_length, devices_length])
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
        options,
        devices,
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
    """Read the short form of a record with one task."""
    index, generation, depth, kind, flags, number, client, function = _ONE_TASK.unpack_from(body)
    payload = body[_ONE_TASK.size :]
    return new_tuple(
        Tasks,
        (
            index,
            generation,
            depth,
            kind,
            flags,
            client,
            b"",
            [function],
            (),
            (number,),
            [payload],
            {},
            (),
            [],
            [],
            b"",
            b"",
        ),
    )
