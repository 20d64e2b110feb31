"""The tables of `scaler_top`: for each view its columns, and its rows with the colours of their cells."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scaler_protocol.wire.messages import MonitorSnapshot, ProcessorState, Tally, WorkerStatus
from scaler_ui.model import ClusterModel, figures
from scaler_ui.model.blocks import SORT_KEYS, WORKER_COLUMNS, format_bytes, functions_by_worker, heading, sorted_workers
from scaler_ui.model.jobs import STATES, jobs
from scaler_ui.model.progress import amounts_text, share_text
from scaler_ui.model.task_pages import find_tasks
from scaler_ui.model.tasks import FINISHED
from scaler_ui.top.speed import Speeds, time_text
from scaler_ui.top.subjects import Subject

NARROW_COLUMNS = 100
"""Below this width, tables leave out what the details of a row have."""
_LEFT_OUT = ("agt_cpu", "agt_rss", "sent")

SILENT_SECONDS = 10.0
"""A worker whose agent has said nothing for so long is shown in red."""

BAD, WATCH = "red", "yellow"

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Looking:
    """How the user looks at a table."""

    sort_key: str
    width: int
    speeds: Speeds
    words: str = ""
    """Only tasks that have all of these words are shown."""


@dataclass(frozen=True, slots=True)
class Table:
    """What one view shows."""

    columns: list[str]
    rows: list[Row]
    colours: list[str]
    """One for each row: of its first cell; empty for none."""
    subjects: list[Subject | None] = field(default_factory=list)
    """What each row stands for; empty: rows stand for nothing that has output or can be cancelled."""
    follows: bool = False
    """Whether the cursor stays with its subject when rows move, and not in its place."""


def worker_table(model: ClusterModel, looking: Looking) -> Table:
    """Return the workers, sorted by one of `SORT_KEYS`."""
    sorted_by = SORT_KEYS[looking.sort_key][0]
    narrow = looking.width < NARROW_COLUMNS
    shown = [(name, show) for name, show in WORKER_COLUMNS if not (narrow and name in _LEFT_OUT)]
    columns = [heading("worker", sorted_by), *(heading(name, sorted_by) for name, _ in shown), "functions"]
    snapshot = model.snapshot
    if snapshot is None:
        return Table(columns, [], [])
    functions = functions_by_worker(snapshot)
    workers = sorted_workers(snapshot, looking.sort_key)
    rows = [
        (worker.name, *(show(worker) for _, show in shown), functions.get((worker.agent, worker.name), ""))
        for worker in workers
    ]
    running = [
        Subject(number=worker.task, function=worker.function, agent=worker.agent) if worker.function else None
        for worker in workers
    ]
    return Table(columns, rows, list(map(worker_colour, workers)), running)


def worker_colour(worker: WorkerStatus) -> str:
    """Return the colour of a worker: red if nothing is heard of it, yellow while it cannot run tasks."""
    if worker.last_seen_seconds > SILENT_SECONDS:
        return BAD
    return WATCH if worker.state in (ProcessorState.STARTING, ProcessorState.STOPPING) else ""


def sorted_clients(model: ClusterModel) -> list[dict[str, Any]]:
    """Return the clients, those with most unfinished tasks first."""
    return sorted(figures.clients(model), key=lambda client: -(client["running"] + client["waiting"]))


def client_table(model: ClusterModel, looking: Looking) -> Table:
    """Return the clients, each with its rate and the time that its tasks still take at this rate."""
    columns = ["client", "waiting", "at workers", "success", "failed", "tasks/s", "time left", "failed items"]
    columns += ["graphs", "objects", "bytes", "host", "pid"]
    rows: list[Row] = []
    colours = []
    subjects: list[Subject | None] = []
    for client in sorted_clients(model):
        counts = [f"{client[key]:,}" for key in ("waiting", "running", "finished", "failed")]
        more = [f"{client[key]:,}" for key in ("failed_items", "graphs", "object_count")]
        size = client["object_bytes"]
        assert isinstance(size, int)
        rows.append(
            (
                str(client["name"]),
                *counts,
                *looking.speeds.shown(bytes.fromhex(str(client["id"]))),
                *more,
                format_bytes(size),
                str(client["hostname"]),
                str(client["pid"]),
            )
        )
        colours.append(BAD if client["failed"] or client["failed_items"] else "")
        unfinished = client["waiting"] + client["running"]
        subjects.append(Subject(bytes.fromhex(client["id"]), client_name=client["name"], unfinished=unfinished))
    return Table(columns, rows, colours, subjects, follows=True)


def failure_table(model: ClusterModel, _looking: Looking) -> Table:
    """Return the last failures, the newest first. The first one of its error in its function is marked as new."""
    found = figures.failures(model)
    first: dict[tuple[str, str], int] = {}
    for failed in model.failures:
        first.setdefault((failed.error.kind, failed.function), failed.number)
    columns = ["no.", "time", "new", "error", "items", "text", "function", "task", "attempt", "agent", "client"]
    rows: list[Row] = [
        (
            str(failure["failure"]),
            time.strftime("%H:%M:%S", time.localtime(failure["at"])),
            "new" if first.get((failure["kind"], failure["function"])) == failure["failure"] else "",
            failure["kind"],
            str(failure["items"] or ""),
            failure["text"].partition("\n")[0][:80],
            failure["function"],
            str(failure["number"]),
            str(failure["attempt"]),
            failure["agent"],
            failure["client_name"],
        )
        for failure in found
    ]
    subjects: list[Subject | None] = [
        Subject(
            bytes.fromhex(failure["client"]),
            failure["number"],
            failure["function"],
            client_name=failure["client_name"],
            agent=failure["agent"],
        )
        for failure in found
    ]
    return Table(columns, rows, [BAD] * len(rows), subjects, follows=True)


def sorted_labels(model: ClusterModel) -> list[Tally]:
    """Return the tallies of labels, those with most unfinished tasks first."""
    tallies = model.snapshot.labels if model.snapshot is not None else ()
    return sorted(tallies, key=lambda tally: (-tally.unfinished, tally.name))


def label_table(model: ClusterModel, looking: Looking) -> Table:
    """Return the labels that tasks have, each with its rate and the time that its tasks still take at this rate."""
    tallies = sorted_labels(model)
    rows = [
        (
            tally.name,
            *(f"{count:,}" for count in (tally.unfinished, tally.succeeded, tally.failed)),
            *looking.speeds.shown(tally.name),
        )
        for tally in tallies
    ]
    return Table(
        ["label", "unfinished", "success", "failed", "tasks/s", "time left"],
        rows,
        [BAD if t.failed else "" for t in tallies],
        [Subject(label=tally.name, unfinished=tally.unfinished) if tally.name else None for tally in tallies],
        follows=True,
    )


def sorted_functions(snapshot: MonitorSnapshot | None) -> list[tuple[str, int, int, int]]:
    """Return (name, running, unfinished, failed) of all functions, the busiest first."""
    if snapshot is None:
        return []
    unfinished, failed = figures.counts(snapshot.functions), figures.counts(snapshot.failed_functions)
    running: dict[str, int] = {}
    for worker in snapshot.workers:
        if worker.function:
            running[worker.function] = running.get(worker.function, 0) + 1
    found = [
        (name, running.get(name, 0), unfinished.get(name, 0), failed.get(name, 0))
        for name in unfinished.keys() | failed.keys() | running.keys()
    ]
    return sorted(found, key=lambda row: (-row[1], -row[2], -row[3], row[0]))


def function_table(model: ClusterModel, _looking: Looking) -> Table:
    """Return the functions, those first that most workers run now."""
    found = sorted_functions(model.snapshot)
    rows = [(name, *(f"{count:,}" for count in counts)) for name, *counts in found]
    subjects: list[Subject | None] = [Subject(of_function=name, unfinished=count) for name, _, count, _ in found]
    colours = [BAD if row[3] else "" for row in found]
    return Table(["function", "running", "unfinished", "failed"], rows, colours, subjects, follows=True)


def message_table(model: ClusterModel, _looking: Looking) -> Table:
    """Return how many messages of each kind the scheduler has sent and received."""
    snapshot = model.snapshot
    sent = figures.counts(snapshot.sent) if snapshot is not None else {}
    received = figures.counts(snapshot.received) if snapshot is not None else {}
    rows: list[Row] = [
        (kind, f"{sent.get(kind, 0):,}", f"{received.get(kind, 0):,}") for kind in sorted(sent.keys() | received.keys())
    ]
    return Table(["message", "sent", "received"], rows, [""] * len(rows))


def group_table(model: ClusterModel, _looking: Looking) -> Table:
    """Return the groups of clients that share the cluster."""
    groups = figures.groups(model)
    columns = ["group", "weight", "clients", "waiting", "running", "core seconds", "max running", "max waiting"]
    rows: list[Row] = [
        (
            group["name"],
            f"{group['weight']:g}",
            *(f"{group[key]:,}" for key in ("clients", "waiting", "running")),
            f"{group['used_core_seconds']:,.0f}",
            *("" if group[key] is None else f"{group[key]:,}" for key in ("max_running", "max_waiting")),
            f"{group['refused']:,}",
            group["note"],
        )
        for group in groups
    ]
    return Table([*columns, "refused", "note"], rows, [BAD if group["refused"] else "" for group in groups])


def progress_table(model: ClusterModel, _looking: Looking) -> Table:
    """Return the running tasks that say how far they are, those first that spoke last."""
    said = model.snapshot.progress if model.snapshot is not None else ()
    rows: list[Row] = [
        (
            one.function,
            str(one.number),
            share_text(one),
            amounts_text(one),
            one.note,
            f"{one.age_seconds:.0f} s ago",
            one.agent,
            model.client_name(one.client),
        )
        for one in reversed(said)
    ]
    columns = ["function", "task", "share", "progress", "note", "said", "agent", "client"]
    subjects: list[Subject | None] = [
        Subject(one.client, one.number, one.function, client_name=model.client_name(one.client), agent=one.agent)
        for one in reversed(said)
    ]
    return Table(columns, rows, [""] * len(rows), subjects, follows=True)


TASK_ROWS = 200
"""Most tasks in their table."""


def task_table(model: ClusterModel, looking: Looking) -> Table:
    """Return the last tasks that have all words that the user has typed, the newest first."""
    found = find_tasks(model, search=looking.words, limit=TASK_ROWS)["tasks"]
    columns = ["task", "state", "ran", "waited", "function", "worker", "client", "label"]
    rows: list[Row] = [
        (
            str(task["number"]),
            task["state"],
            duration_text(task["duration_seconds"]),
            duration_text(task["waited_seconds"]),
            task["function"],
            task["worker"] or task["agent"],
            task["client_name"],
            task["label"],
        )
        for task in found
    ]
    subjects: list[Subject | None] = [
        Subject(
            bytes.fromhex(task["client"]),
            task["number"],
            task["function"],
            client_name=task["client_name"],
            agent=task["agent"],
            unfinished=0 if task["state"] in FINISHED else None,
        )
        for task in found
    ]
    colours = [BAD if task["state"] == "failed" else "" for task in found]
    return Table(columns, rows, colours, subjects, follows=True)


def duration_text(seconds: float | None) -> str:
    """Return a short text: `12 ms`, `3.4 s`, `4 min 10 s`; empty for None."""
    if seconds is None:
        return ""
    if seconds >= 60:
        return time_text(seconds)
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def job_table(model: ClusterModel, _looking: Looking) -> Table:
    """Return the jobs, those first that changed last."""
    found = jobs(model)
    now = model.snapshot.time_seconds if model.snapshot is not None else 0.0
    rows: list[Row] = [
        (
            job["name"],
            *(f"{job[state]:,}" for state in STATES),
            format_bytes(job["size_bytes"]),
            "" if job["expires_at"] is None else f"in {time_text(max(0.0, job['expires_at'] - now))}",
            job["owner"],
            job["notice"],
        )
        for job in found
    ]
    colours = [BAD if job["failed"] or job["lost"] else WATCH if job["notice"] else "" for job in found]
    return Table(["job", *STATES, "kept", "forgotten", "owner", "cannot run"], rows, colours)


TABLES: dict[str, Callable[[ClusterModel, Looking], Table]] = {
    "workers": worker_table,
    "clients": client_table,
    "failures": failure_table,
    "labels": label_table,
    "functions": function_table,
    "messages": message_table,
    "groups": group_table,
    "progress": progress_table,
    "jobs": job_table,
    "tasks": task_table,
}
"""In the order of their keys: `1` to `9`, and `0`."""


def same_names(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """Return whether rows have the same first cells, and so are the same things in the same order."""
    return [row[0] for row in before] == [row[0] for row in now]


def moved_cursor(before: Table | None, now: Table, row: int) -> int:
    """Return the row that the cursor belongs to when a table is drawn anew: with its subject, where the table says so.

    In the first row it stays there, so that it shows what is newest.
    """
    if before is None or not now.follows or not 0 < row < len(before.subjects):
        return row
    subject = before.subjects[row]
    return now.subjects.index(subject) if subject is not None and subject in now.subjects else row
