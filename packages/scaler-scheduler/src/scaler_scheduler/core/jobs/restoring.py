"""A job from the records of its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from scaler_protocol.runtime.counted import counted
from scaler_protocol.wire.call_options import job_name
from scaler_protocol.wire.messages import Status
from scaler_scheduler.core.jobs import journal
from scaler_scheduler.core.jobs.job import Job, Row, RowState
from scaler_scheduler.core.jobs.journal import Kind
from scaler_scheduler.core.jobs.session import Arrived, client_of_job

NOBODY = bytes(16)
"""Stands for the client of tasks whose record is missing."""

MISSING_MAX = 100_000
"""More missing tasks than this are damage of another kind."""


def restored(job_id: bytes, records: Iterable[bytes], arrived: Arrived, now: float) -> tuple[Job | None, list[str]]:
    """Return the job that these records describe, and what is wrong with them, in sentences.

    A record that says nothing that can be read is passed over: nothing else is lost with it. Without the first one there is no
    job.
    """
    job: Job | None = None
    problems: list[str] = []
    for place, record in enumerate(records):
        try:
            kind, header, blob = journal.unpack(record)
            if kind is Kind.OPENED:
                job = _opened(job_id, header, arrived, now)
            elif job is None:
                return None, ["its first record does not say which job it is"]
            else:
                _apply(job, kind, header, blob)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            problems.append(f"record {place} cannot be read: {error}")
            if job is None:
                return None, problems
    if job is not None and any(not row.function for row in job.rows):
        unknown = sum(not row.function and row.state is RowState.OPEN for row in job.rows)
        if unknown:
            problems.append(f"the records of {counted(unknown, 'task')} are missing: submit the job again")
        # Those that have ended, too, are new ones for who submits them again: nobody knows which they were.
        job.is_closed = False
    return job, problems


def _opened(job_id: bytes, header: dict[str, Any], arrived: Arrived, now: float) -> Job:
    name, owner, owner_name = job_name(header["name"]), bytes.fromhex(str(header["owner"])), str(header["owner_name"])
    client = client_of_job(job_id, name, str(header["group"]), arrived, now)
    job = Job(job_id, name, owner, owner_name, float(header["started"]), client)
    job.keep_seconds = float(header["keep"])
    return job


def _apply(job: Job, kind: Kind, header: dict[str, Any], blob: bytes) -> None:
    at = header.get("at")
    if isinstance(at, int | float):
        job.changed_at = max(job.changed_at, float(at))
    if kind is Kind.FUNCTION:
        job.functions[bytes.fromhex(str(header["id"]))] = (str(header["name"]), blob)
    elif kind is Kind.TASKS:
        client_id = bytes.fromhex(str(header["client"]))
        rows = journal.read_rows(header, blob, job.submitter(client_id))
        _fill(job, int(header.get("first", len(job.rows))))
        for row in rows:
            job.add(row, client_id)
            seen = job.seen.setdefault(client_id, Counter())
            seen[row.digest] += 1
    elif kind is Kind.AGAIN:
        positions: list[int] = header["rows"]
        _reach(job, positions)
        for position, new in zip(positions, journal.read_rows(header, blob, 0), strict=True):
            # Records of earlier versions do not say it: there, tasks that began again kept their numbers.
            series = new.series if "series" in header else job.rows[position].series
            job.begin_again(job.rows[position], new.payload, new.options, new.capabilities, series)
        if "by" in header:
            client_id, by = bytes.fromhex(str(header["client"])), header["by"]
            job.numbers.setdefault(client_id, {}).update(zip(by, positions, strict=True))
    elif kind is Kind.ENDED:
        _end(job, header, blob)
    elif kind is Kind.CANCELED:
        _reach(job, header["rows"])
        for row in [job.rows[position] for position in header["rows"]]:
            if row.state is RowState.OPEN:
                job.end(row, RowState.CANCELED, Status.CANCELED, b"", ())
    elif kind is Kind.CLOSED:
        # Records of earlier versions do not say how many tasks there were.
        _fill(job, max(len(job.rows), int(header.get("tasks", 0))))
        job.is_closed = True
    elif kind is Kind.KEPT:
        job.keep_seconds = float(header["keep"])


def _fill(job: Job, first: int) -> None:
    """A record of tasks before this position may be missing: later records name the others by their positions all the same."""
    missing = first - len(job.rows)
    if not 0 <= missing <= MISSING_MAX:
        raise ValueError(f"it is of tasks from position {first} on, and there are {len(job.rows)} before")
    for _ in range(missing):
        job.add(Row(b"", b"", b"", (), job.submitter(NOBODY), 0), NOBODY)


def _reach(job: Job, positions: Sequence[int]) -> None:
    """A record names tasks by their positions: those whose own record is missing are there all the same."""
    _fill(job, max(len(job.rows), 1 + max(positions, default=-1)))


def _end(job: Job, header: dict[str, Any], blob: bytes) -> None:
    positions: list[int] = header["rows"]
    lengths: list[int] = header["lengths"]
    states: list[int] = header["states"]
    statuses: list[int] = header["statuses"]
    objects: list[list[str]] = header["objects"] or [[]] * len(positions)
    start = 0
    _reach(job, positions)
    for position, length, state, status, named in zip(positions, lengths, states, statuses, objects, strict=True):
        result = blob[start : start + length]
        start += length
        job.end(job.rows[position], RowState(state), status, result, tuple(bytes.fromhex(one) for one in named))
