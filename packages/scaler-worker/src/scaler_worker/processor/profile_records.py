"""The records about profiles: what an agent asks its processors for, and what these have sampled.

What a processor sends may have been written by a task: `read_profile` believes nothing.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any

from scaler_protocol.monitoring.profile_tree import TEXT_CHARACTERS_MAX, CallTable
from scaler_worker.processor.records import Bytes, Reader, raw_column

PROFILE_BYTES_MAX = 4 * 1024 * 1024
"""Longest record that is read. Those of a sampler have some kilobytes."""

_REQUEST = struct.Struct("=dI")
_HEAD = struct.Struct("=QQII")

SampledTree = list[Any]
"""A node: [seconds in itself, {code, line or text: node}]."""


def request_parts(seconds: float, rate: int) -> list[Bytes]:
    """Return the record that asks for a profile from now on, or with 0 seconds for its end."""
    return [_REQUEST.pack(seconds, rate)]


def read_request(body: bytes) -> tuple[float, int]:
    """Return (seconds, rate)."""
    seconds, rate = _REQUEST.unpack(body)
    return seconds, rate


def profile_parts(
    roots: Mapping[bytes | str, SampledTree], samples: int, cost_seconds: float, search_path: Sequence[object]
) -> list[Bytes]:
    """Return the record of sampled trees, whose roots are the ids of functions, or words of ours.

    Paths of files are told from the entry of `search_path` on that they are in, so that those of several hosts are the same.
    """
    entries = sorted((f"{entry}/" for entry in search_path if isinstance(entry, str) and entry), key=len, reverse=True)
    texts: dict[str, int] = {}
    files: dict[str, str] = {}
    columns = [array(code) for code in "IIIIQ"]
    waiting = [
        (0, (function if isinstance(function, str) else function.hex(), "", 0), node)
        for function, node in roots.items()
    ]
    while waiting:
        parent, (name, file, line), (seconds, children) = waiting.pop()
        if file not in files:
            files[file] = next((file[len(entry) :] for entry in entries if file.startswith(entry)), file)
        row = (
            parent,
            texts.setdefault(name[:TEXT_CHARACTERS_MAX], len(texts)),
            texts.setdefault(files[file][-TEXT_CHARACTERS_MAX:], len(texts)),
            line,
            int(seconds * 1e6),
        )
        for column, number in zip(columns, row, strict=True):
            column.append(number)
        place = len(columns[0])
        waiting.extend((place, _described(key, file), child) for key, child in children.items())
    encoded = [text.encode("utf-8", "replace") for text in texts]
    head = _HEAD.pack(samples, int(cost_seconds * 1e6), len(columns[0]), len(encoded))
    return [head, *(column.tobytes() for column in columns), raw_column("I", list(map(len, encoded))), *encoded]


def _described(key: CodeType | int | str, file: str = "") -> tuple[str, str, int]:
    if isinstance(key, CodeType):
        return key.co_qualname, key.co_filename, key.co_firstlineno
    # A line of the caller, or a word of ours.
    return ("", file, max(key, 0)) if isinstance(key, int) else (key, "", 0)


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
    if any(parent > row for row, parent in enumerate(parents)):
        raise ValueError("a call comes before its caller")
    if rows and max(max(names), max(files)) >= count:
        raise ValueError("a call has a name that is not there")
    return samples, cost, CallTable(parents, names, files, lines, microseconds, texts)


def _column(reader: Reader, typecode: str, count: int) -> array[int]:
    column = reader.column(typecode, count)
    if len(column) != count:
        raise ValueError(f"{count} rows in a shorter record")
    return column
