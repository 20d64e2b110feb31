"""One job: its tasks in the order in which they came, what became of each, and who waits for that."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum

from scaler_protocol.wire.messages import Capabilities, Notice
from scaler_scheduler.core.records import ClientRecord

ROW_BYTES = 400
"""About the memory that a task of a job takes beside its arguments and its result."""


class RowState(IntEnum):
    """What is known of a task of a job."""

    OPEN = 0
    """It waits or runs."""
    DONE = 1
    """There is a result."""
    FAILED = 2
    """There is an error."""
    CANCELED = 3
    """It was cancelled."""
    LOST = 4
    """There was a result, and it is lost."""


NUMBERS = 1 << 32
"""A task's number in the scheduler is its position plus 1, plus a multiple of this: the job's `series` when it came."""


SERIES_MAX = 1 << 20
"""Browsers, which show these numbers, know them below 2**53 only."""


class Row:
    """One task of a job."""

    __slots__ = (
        "capabilities",
        "digest",
        "function",
        "number",
        "objects",
        "options",
        "payload",
        "result",
        "series",
        "state",
        "status",
        "submitter",
    )

    def __init__(
        self,
        function: bytes,
        payload: bytes,
        options: bytes,
        capabilities: Capabilities,
        submitter: int,
        number: int,
        series: int = 0,
    ) -> None:
        self.function = function
        self.payload = payload
        """The arguments, as long as it has not ended."""
        self.options = options
        """One record of `call_options`."""
        self.capabilities = capabilities
        self.submitter = submitter
        """Which of the job's clients submitted it, in the order in which these came."""
        self.number = number
        """Its number at that client."""
        self.series = series
        self.digest = content_of(function, payload)
        self.state = RowState.OPEN
        self.status = 0
        self.result = b""
        self.objects: tuple[bytes, ...] = ()
        """The object that is the result, if it is large."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return ROW_BYTES + len(self.payload) + len(self.result)

    def end(self, state: RowState, status: int, result: bytes, objects: tuple[bytes, ...]) -> None:
        """It has ended: its arguments are not needed any more."""
        self.state, self.status, self.result, self.objects = state, status, result, objects
        self.payload = b""

    def begin_again(self, payload: bytes, options: bytes, capabilities: Capabilities, series: int) -> None:
        """It has no result, and was submitted again."""
        self.state, self.status, self.result, self.objects = RowState.OPEN, 0, b"", ()
        self.payload, self.options, self.capabilities, self.series = payload, options, capabilities, series


def content_of(function: bytes, payload: bytes) -> bytes:
    """Return what two tasks have in common that are the same: the digest of the function's id and the arguments."""
    return hashlib.blake2b(payload, digest_size=16, key=function).digest()


class Job:
    """See the module."""

    __slots__ = (
        "by_content",
        "changed_at",
        "client",
        "counts",
        "followers",
        "functions",
        "id",
        "is_closed",
        "keep_seconds",
        "name",
        "notice",
        "numbers",
        "owner",
        "owner_name",
        "refusals",
        "rows",
        "seen",
        "series",
        "size_bytes",
        "started_at",
        "submitters",
    )

    def __init__(
        self, job_id: bytes, name: str, owner: bytes, owner_name: str, started_at: float, client: ClientRecord
    ) -> None:
        """`owner`: how the ids of clients begin whose job this is; empty without keys. `started_at`: Unix time."""
        self.id = job_id
        self.name = name
        self.owner = owner
        self.owner_name = owner_name
        self.started_at = started_at
        self.changed_at = started_at
        """Unix time of the last submission or end of a task."""
        self.keep_seconds = 0.0
        self.client = client
        self.is_closed = False
        """Whether all tasks were submitted: others are refused from then on."""
        self.rows: list[Row] = []
        self.series = 0
        """Of tasks that come from now on. It is another one after each restart: a worker may hold a task that the journal has
        lost, and its number must not be that of another task. And it is another one when tasks begin again: a worker may still
        say how the earlier run has ended, whose result is lost."""
        self.counts: Counter[RowState] = Counter()
        self.size_bytes = 0
        self.functions: dict[bytes, tuple[str, bytes]] = {}
        """Names and bodies by id."""
        self.by_content: dict[bytes, list[int]] = {}
        """Rows with the same content, in the order in which they came."""
        self.submitters: dict[bytes, int] = {}
        """Clients that have submitted tasks which were new, numbered from 0."""
        self.numbers: dict[bytes, dict[int, int]] = {}
        """By client: rows by the numbers that it gave them."""
        self.seen: dict[bytes, Counter[bytes]] = {}
        """By client: how often it has submitted each content since it opened the job."""
        self.notice: Notice | None = None
        """The last that was said of tasks that cannot run."""
        self.refusals: dict[bytes, str] = {}
        """By client: why the first of its tasks was refused since it opened the job."""
        self.followers: dict[int, list[tuple[bytes, int]]] = {}
        """By row: clients that wait for its end, with the numbers it has there."""

    def add(self, row: Row, client_id: bytes) -> int:
        """Append a task, and return its position."""
        position = len(self.rows)
        self.rows.append(row)
        self.counts[row.state] += 1
        self.size_bytes += row.size_bytes
        self.by_content.setdefault(row.digest, []).append(position)
        self.numbers.setdefault(client_id, {})[row.number] = position
        return position

    def end(self, row: Row, state: RowState, status: int, result: bytes, objects: tuple[bytes, ...]) -> None:
        """A task has ended, or its result is lost."""
        self.counts[row.state] -= 1
        self.size_bytes -= row.size_bytes
        row.end(state, status, result, objects)
        self.counts[state] += 1
        self.size_bytes += row.size_bytes

    def next_series(self) -> int:
        """Return the series of tasks that begin again now: none of them has had it."""
        self.series = (self.series + 1) % SERIES_MAX
        return self.series

    def begin_again(self, row: Row, payload: bytes, options: bytes, capabilities: Capabilities, series: int) -> None:
        """A task without a result was submitted again."""
        self.counts[row.state] -= 1
        self.size_bytes -= row.size_bytes
        row.begin_again(payload, options, capabilities, series)
        self.counts[RowState.OPEN] += 1
        self.size_bytes += row.size_bytes

    def submitter(self, client_id: bytes) -> int:
        """Return the place of a client among those that submitted tasks."""
        return self.submitters.setdefault(client_id, len(self.submitters))

    def task_number(self, position: int) -> int:
        """Return the number that a task has in the scheduler."""
        return self.rows[position].series * NUMBERS + position + 1

    def position_of(self, task_number: int) -> int | None:
        """Return the position of the task with this number in the scheduler; None if there is none."""
        series, place = divmod(task_number, NUMBERS)
        return place - 1 if 1 <= place <= len(self.rows) and self.rows[place - 1].series == series else None

    def open_rows(self) -> list[int]:
        """Return the positions of the tasks that have not ended."""
        return [position for position, row in enumerate(self.rows) if row.state is RowState.OPEN]

    def order(self) -> list[int]:
        """Return the positions in the order of submission, client by client; empty where that is the order they have.

        Tasks of one client may arrive in another order than it submitted them, if their options differ.
        """
        rows = self.rows
        order = sorted(range(len(rows)), key=lambda position: (rows[position].submitter, rows[position].number))
        return [] if all(place == position for place, position in enumerate(order)) else order

    def notice_now(self) -> str:
        """Return why tasks cannot run, as long as one of those that it was said of waits; else nothing."""
        tasks, notice = self.client.tasks, self.notice
        if notice is not None and any(
            (task := tasks.get(number)) is not None and task.agent is None for number in notice.numbers
        ):
            return notice.text
        return ""

    def expires_at(self) -> float | None:
        """Return the Unix time at which the job is forgotten; None while tasks of it have not ended."""
        return None if self.counts[RowState.OPEN] else self.changed_at + self.keep_seconds

    def forget_absent(self, clients: Mapping[bytes, ClientRecord], absent: Iterable[bytes]) -> None:
        """These clients do not come back: what is only known for them is dropped."""
        for client_id in absent:
            self.numbers.pop(client_id, None)
            self.seen.pop(client_id, None)
            self.refusals.pop(client_id, None)


def description(job: Job, *, with_order: bool = False) -> dict[str, object]:
    """Return what clients are told of a job, as plain values for JSON."""
    counts, running = job.counts, job.client.assigned_count
    told: dict[str, object] = {
        "name": job.name,
        "owner": job.owner_name,
        "started": job.started_at,
        "waiting": max(0, counts[RowState.OPEN] - running),
        "running": running,
        "done": counts[RowState.DONE],
        "failed": counts[RowState.FAILED],
        "canceled": counts[RowState.CANCELED],
        "lost": counts[RowState.LOST],
        "tasks": len(job.rows),
        "bytes": job.size_bytes,
        "closed": job.is_closed,
        "keep": job.keep_seconds,
        "expires": job.expires_at(),
        "notice": job.notice_now(),
    }
    if with_order:
        told["order"] = job.order()
    return told
