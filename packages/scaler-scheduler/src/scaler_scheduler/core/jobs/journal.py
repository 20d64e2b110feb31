"""The records of a job's journal: what is to be known of it after a restart. How they lie in a file is the shell's matter.

A record is a kind of one byte, the length of its header, the header (JSON) and what else it has, as bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from scaler_scheduler.core.jobs.job import SERIES_MAX, Job, Row

_HEAD = struct.Struct("<BI")


class Kind(IntEnum):
    """What a record says."""

    OPENED = 1
    """The job was made. The first record of each journal."""
    FUNCTION = 2
    """A function that tasks behind it name."""
    TASKS = 3
    """Tasks were appended."""
    AGAIN = 4
    """Tasks without a result were submitted again."""
    ENDED = 5
    """Tasks have ended, or their results are lost."""
    CLOSED = 6
    """All tasks were submitted."""
    KEPT = 7
    """The job is kept as long as this."""
    CANCELED = 8
    """Tasks are to be stopped. How they end is said by `ENDED`, if there is time for that."""


def pack(kind: Kind, header: dict[str, Any], blob: bytes = b"") -> bytes:
    """Return a record."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return _HEAD.pack(kind, len(text)) + text + blob


def unpack(record: bytes) -> tuple[Kind, dict[str, Any], bytes]:
    """Return kind, header and bytes of a record. Raises ValueError for what is none."""
    if len(record) < _HEAD.size:
        raise ValueError("a record without its head")
    kind, length = _HEAD.unpack_from(record)
    end = _HEAD.size + length
    header = json.loads(record[_HEAD.size : end])
    if not isinstance(header, dict):
        raise ValueError("a record whose header is no object")
    return Kind(kind), header, record[end:]


def opened(job: Job) -> bytes:
    """Return the first record of a job."""
    header = {
        "name": job.name,
        "owner": job.owner.hex(),
        "owner_name": job.owner_name,
        "group": job.client.hello.group,
        "started": job.started_at,
        "keep": job.keep_seconds,
    }
    return pack(Kind.OPENED, header)


def function(function_id: bytes, name: str, body: bytes) -> bytes:
    """Return the record of a function."""
    return pack(Kind.FUNCTION, {"id": function_id.hex(), "name": name}, body)


def tasks(client_id: bytes, first: int, rows: Sequence[Row], at: float) -> bytes:
    """Return the record of tasks, appended from this position on, which one client submitted at this Unix time."""
    header = {"client": client_id.hex(), "first": first, "series": rows[0].series, **_columns(rows), "at": at}
    return pack(Kind.TASKS, header, b"".join(row.payload for row in rows))


def again(client_id: bytes, positions: Sequence[int], numbers: Sequence[int], rows: Sequence[Row], at: float) -> bytes:
    """Return the record of tasks that a client submitted again, with the numbers that they have there now."""
    columns = {"series": rows[0].series, **_columns(rows)}
    header = {"client": client_id.hex(), "by": list(numbers), "rows": list(positions), **columns, "at": at}
    return pack(Kind.AGAIN, header, b"".join(row.payload for row in rows))


def ended(positions: Sequence[int], rows: Sequence[Row], at: float) -> bytes:
    """Return the record of tasks that have ended."""
    header = {
        "rows": list(positions),
        "states": [int(row.state) for row in rows],
        "statuses": [int(row.status) for row in rows],
        "lengths": [len(row.result) for row in rows],
        "objects": [[one.hex() for one in row.objects] for row in rows] if any(row.objects for row in rows) else [],
        "at": at,
    }
    return pack(Kind.ENDED, header, b"".join(row.result for row in rows))


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    table = {value: place for place, value in enumerate(dict.fromkeys(row.function for row in rows))}
    options = {value: place for place, value in enumerate(dict.fromkeys(row.options for row in rows))}
    capabilities = {value: place for place, value in enumerate(dict.fromkeys(row.capabilities for row in rows))}
    return {
        "numbers": [row.number for row in rows],
        "lengths": [len(row.payload) for row in rows],
        "functions": [one.hex() for one in table],
        "function_of": [table[row.function] for row in rows] if len(table) > 1 else [],
        "options": [one.decode() for one in options],
        "options_of": [options[row.options] for row in rows] if len(options) > 1 else [],
        "capabilities": [[list(pair) for pair in one] for one in capabilities],
        "capabilities_of": [capabilities[row.capabilities] for row in rows] if len(capabilities) > 1 else [],
    }


def read_rows(header: dict[str, Any], blob: bytes, submitter: int) -> list[Row]:
    """Return the tasks of a record. Raises ValueError, KeyError, TypeError or IndexError for one that is damaged."""
    numbers, lengths = header["numbers"], header["lengths"]
    functions = [bytes.fromhex(one) for one in header["functions"]]
    options = [one.encode() for one in header["options"]]
    capabilities = [tuple((str(name), int(value)) for name, value in one) for one in header["capabilities"]]
    zeros = [0] * len(numbers)
    series = int(header.get("series", 0))
    if not 0 <= series < SERIES_MAX:
        raise ValueError(f"tasks of series {series}")
    rows, start = [], 0
    for number, length, of_function, of_options, of_capabilities in zip(
        numbers,
        lengths,
        header["function_of"] or zeros,
        header["options_of"] or zeros,
        header["capabilities_of"] or zeros,
        strict=True,
    ):
        payload = blob[start : start + length]
        start += length
        function_id = functions[of_function]
        asked, allowed = options[of_options], capabilities[of_capabilities]
        rows.append(Row(function_id, payload, asked, allowed, submitter, number, series))
    return rows
