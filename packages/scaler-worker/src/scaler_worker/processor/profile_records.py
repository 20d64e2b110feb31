"""The records about profiles: what an agent asks its processors for, and what these have sampled.

What a processor sends may have been written by a task: `read_profile` believes nothing.
"""

from __future__ import annotations

import struct
from array import array

from scaler_protocol.monitoring.profile_tree import TEXT_CHARACTERS_MAX, CallTable, check_calls
from scaler_worker.processor.records import Bytes, Reader, raw_column

PROFILE_BYTES_MAX = 4 * 1024 * 1024
"""Longest record that is read. Those of a sampler have some kilobytes."""

_REQUEST = struct.Struct("=dI")
_HEAD = struct.Struct("=QQII")


def request_parts(seconds: float, rate: int) -> list[Bytes]:
    """Return the record that asks for a profile from now on, or with 0 seconds for its end."""
    return [_REQUEST.pack(seconds, rate)]


def read_request(body: bytes) -> tuple[float, int]:
    """Return (seconds, rate)."""
    seconds, rate = _REQUEST.unpack(body)
    return seconds, rate


def profile_parts(calls: CallTable, samples: int, cost_seconds: float) -> list[Bytes]:
    """Return the record of what was sampled."""
    encoded = [text.encode("utf-8", "replace") for text in calls.texts]
    head = _HEAD.pack(samples, int(cost_seconds * 1e6), len(calls.parents), len(encoded))
    columns = [raw_column(code, column) for code, column in zip("IIIIQ", calls[:5], strict=True)]
    return [head, *columns, raw_column("I", list(map(len, encoded))), *encoded]


def read_profile(body: bytes) -> tuple[int, int, CallTable]:
    """Return (samples, microseconds of processor time that the sampler has used so far, calls).

    Raises ValueError or struct.error for anything that no sampler sends.
    """
    if len(body) > PROFILE_BYTES_MAX:
        raise ValueError(f"a profile of {len(body)} bytes")
    samples, cost, rows, count = _HEAD.unpack_from(body)
    reader = Reader(body, _HEAD.size)
    parents, names, files, lines = (_column(reader, "I", rows) for _ in range(4))
    microseconds = _column(reader, "Q", rows)
    lengths = _column(reader, "I", count)
    if sum(lengths) != len(body) - reader.at or max(lengths, default=0) > 4 * TEXT_CHARACTERS_MAX:
        raise ValueError("the texts of a profile have other lengths")
    texts = tuple(text.decode("utf-8", "replace") for text in reader.strings(lengths))
    return samples, cost, check_calls(CallTable(parents, names, files, lines, microseconds, texts))


def _column(reader: Reader, typecode: str, count: int) -> array[int]:
    column = reader.column(typecode, count)
    if len(column) != count:
        raise ValueError(f"{count} rows in a shorter record")
    return column
