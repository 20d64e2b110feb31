"""Records of results that a processor sends to the agent: RESULTS, and ONE_RESULT, its short form."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaler_protocol.payloads.framing import INLINE_BYTES_MAX
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire.batch_rows import ABSENT, NOTHING_REPORTED, REPORTED, REPORTED_MAX, Reported
from scaler_protocol.wire.columns import EMPTY, Column
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.record_boxes import BOXED_BYTES_MIN
from scaler_worker.processor.records import Bytes, Reader

RESULT_BYTES_MAX = INLINE_BYTES_MAX + 16 * 1024
"""Largest payload of a result on average: larger ones are objects. The rest is what pickling and tags add."""

_STATUS_MAX = max(Status)

_RESULTS = struct.Struct("=QIBI")
"""First index, rows, which of `REPORTED` follow (a bit each), and how many results are objects."""

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
    cached_bytes: int = 0
    """What the object counts as in the host's cache."""
    object_bytes: int = 0
    """The bytes of the object, wherever they are."""


Result = tuple[int, bytes, int, Extra | None]
"""(index, payload, microseconds, what is unusual about it)."""


class Results(NamedTuple):
    """As `events.ProcessorResults`, without the processor."""

    first_index: int
    rows: int
    payload_lengths: Column
    payloads: bytes | memoryview
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
    if unusual.count(None) == count and min(durations) >= 0 and max(durations) <= REPORTED_MAX[_DURATIONS]:
        header = _RESULTS.pack(results[0][0], count, _ONLY_DURATIONS, 0)
        return [header, *columns, array(_DURATION_TYPE, durations).tobytes(), *payloads]
    plain = Extra()
    extras = [extra or plain for extra in unusual]
    for position, (spec, absent, limit) in enumerate(zip(REPORTED, ABSENT, REPORTED_MAX, strict=True)):
        if position == _DURATIONS:
            values = durations
        elif spec.name == "statuses":
            values = [extra.status for extra in extras]
        elif spec.name == "object_bytes":
            values = [extra.object_bytes if extra.object_id else absent for extra in extras]
        else:
            values = [extra.measured.get(spec.name, absent) for extra in extras]
        # A record without durations is malformed.
        if position == _DURATIONS or values.count(absent) < count:
            flags |= 1 << position
            columns.append(array(spec.typecode, [_bounded(value, limit) for value in values]).tobytes())
    stored = [(position, extra) for position, extra in enumerate(extras) if extra.object_id]
    stored_count = len(stored)
    if stored:
        columns.append(array("I", [position for position, _ in stored]).tobytes())
        columns.append(array("Q", [extra.cached_bytes for _, extra in stored]).tobytes())
        columns.extend(extra.object_id for _, extra in stored)
    return [_RESULTS.pack(results[0][0], count, flags, stored_count), *columns, *payloads]


_ONE_RESULT = struct.Struct("=QQ")


def one_result_parts(result: Result) -> list[Bytes]:
    """Return the body of a ONE_RESULT record, in parts: of a result with nothing unusual about it."""
    return [_ONE_RESULT.pack(result[0], _bounded(result[2], REPORTED_MAX[_DURATIONS])), result[1]]


def _bounded(measured: int, limit: int) -> int:
    """Return a measured number as its column holds it. Clocks may go wrong: a task can replace those of its process."""
    return measured if 0 <= measured <= limit else max(0, min(measured, limit))


def read_one_result(body: bytes) -> tuple[int, int, Column, bytes, Reported]:
    """Return the first fields of `Results`; the others are empty."""
    index, duration = _ONE_RESULT.unpack_from(body)
    payload = body[_ONE_RESULT.size :]
    return index, 1, (len(payload),), payload, new_tuple(Reported, (*_BEFORE, (duration,), *_BEHIND))


def read_results(body: bytes) -> Results:
    """Read a record of results. Raises ValueError and the like if it is malformed."""
    first_index, count, flags, stored_count = _RESULTS.unpack_from(body)
    reader = Reader(body, _RESULTS.size)
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
    payloads: bytes | memoryview
    # Those that wait for their object to be stored are kept one by one, without the others.
    is_long = len(body) >= BOXED_BYTES_MIN and not stored_count
    payloads = memoryview(body)[reader.at :] if is_long else body[reader.at :]
    statuses = reported.statuses
    if (
        sum(lengths) != len(payloads)
        # The agent keeps them until the scheduler has them.
        or len(payloads) > count * RESULT_BYTES_MAX
        or len(reported.durations) != count
        or (len(statuses) and max(statuses) > _STATUS_MAX)
    ):
        raise ValueError(f"results of {sum(lengths)} bytes in a record that has {len(payloads)}")
    return Results(first_index, count, lengths, payloads, reported, positions, objects, sizes)
