"""What the page of the task stream asks for: new bars, the names that they use, and the tasks that run now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from scaler_protocol.wire.messages import MonitorSnapshot
from scaler_ui.model.bars import Lane
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.tasks import FINISHED, TaskRow

TABLES = ("lanes", "functions", "capabilities", "clients", "labels")
"""The tables of names, in the order in which a reader says how many names of each it has."""

RUNNING_MAX = 2_000
"""Most running tasks in one answer."""

CERTAIN_SECONDS = 1.0
"""A running task that no event has told of is shown only after this time: others may have ended since they were reported."""

AHEAD_SECONDS_MAX = 5.0
"""Running tasks grow for so long after the last snapshot. Then nobody knows whether they still run."""


class RunningTask(NamedTuple):
    """A task that a worker runs now, as the last snapshot says."""

    lane: Lane
    name: str
    """The worker's."""
    function: str
    number: int
    start: float
    """Unix time."""
    row: TaskRow | None
    """What is known of it from events, if they told of it."""


def bars_after(
    model: ClusterModel, seen: int, generation: int, limit: int, known: Sequence[int] = (), silent_s: float = 0.0
) -> dict[str, Any]:
    """Return the bars after the first `seen` ones, the names that are new to the reader, and what runs now.

    `known`: how many names the reader has of each of `TABLES`, and the `hosts` of its last answer; by default none. Where
    agents have come since, it gets all lanes again, because their hosts were not known before. A reader of an older
    `generation` gets everything again, because names have new numbers. `silent_s`: the age of the last snapshot.
    """
    bars = model.bars
    again = generation != bars.generation or seen > bars.count
    told = [0] * len(TABLES) if again or not known else list(known[: len(TABLES)])
    if len(known) > len(TABLES) and known[len(TABLES)] != model.hosts_seen:
        told[0] = 0
    names = model.worker_names()
    count, columns = bars.after(0 if again else seen, limit)
    origin = columns["start"][0] if columns["start"] else 0.0
    # Relative times, rounded to microseconds, take half the bytes of full Unix times.
    columns["start"] = [round(start - origin, 6) for start in columns["start"]]
    columns["duration"] = [round(duration, 6) for duration in columns["duration"]]
    lanes, clients = bars.lanes.names()[told[0] :], bars.clients.names()[told[3] :]
    functions, capabilities, labels = (
        table.names()[first:]
        for table, first in ((bars.functions, told[1]), (bars.capabilities, told[2]), (bars.labels, told[4]))
    )
    running = running_tasks(model)
    snapshot_at = model.snapshot.time_seconds if model.snapshot is not None else 0.0
    return {
        "generation": bars.generation,
        "again": again,
        "count": count,
        "more": count < bars.count,
        "limit": bars.limit,
        "origin": origin,
        "columns": columns,
        "known": told,
        "hosts": model.hosts_seen,
        "lanes": [
            {
                "agent": lane.agent,
                "slot": lane.slot,
                "name": names.get(lane, lane.agent if lane.slot < 0 else f"{lane.agent} #{lane.slot}"),
                "host": model.host_of(lane.agent),
            }
            for lane in lanes
        ],
        "functions": functions,
        "capabilities": capabilities,
        "labels": labels,
        "clients": [client.hex() for client in clients],
        "client_names": [model.client_name(client) for client in clients],
        "now": snapshot_at + min(max(0.0, silent_s), AHEAD_SECONDS_MAX),
        "running": [_running_data(model, task) for task in running[:RUNNING_MAX]],
        "running_omitted": max(0, len(running) - RUNNING_MAX),
    }


def running_tasks(model: ClusterModel) -> list[RunningTask]:
    """Return the tasks that workers run, as of the last snapshot, without those that have ended since."""
    snapshot = model.snapshot
    if snapshot is None:
        return []
    rows = _rows_by_number(model, snapshot)
    names = model.worker_names()
    slots: dict[str, int] = {}
    found = []
    for worker in snapshot.workers:
        slot = slots.get(worker.agent, 0)
        slots[worker.agent] = slot + 1
        if not worker.function:
            continue
        start = snapshot.time_seconds - worker.task_seconds
        row = None
        for candidate in rows.get(worker.task, ()):
            if candidate.agent == worker.agent and candidate.function == worker.function:
                # Of several, the one that has not ended: numbers are a client's own.
                row = candidate
                if candidate.state not in FINISHED:
                    break
        if row is not None and row.state in FINISHED:
            if row.ended_at >= start:
                continue
            row = None
        if row is None and worker.task_seconds < CERTAIN_SECONDS:
            continue
        lane = Lane(worker.agent, slot)
        found.append(RunningTask(lane, names[lane], worker.function, worker.task, start, row))
    return found


def _rows_by_number(model: ClusterModel, snapshot: MonitorSnapshot) -> dict[int, list[TaskRow]]:
    """Return what events told of tasks with the numbers of those that run."""
    wanted = {worker.task for worker in snapshot.workers if worker.function}
    rows: dict[int, list[TaskRow]] = {}
    for row in model.tasks.newest_first() if wanted else ():
        if row.number in wanted:
            rows.setdefault(row.number, []).append(row)
    return rows


def _running_data(model: ClusterModel, task: RunningTask) -> dict[str, Any]:
    row = task.row
    return {
        "agent": task.lane.agent,
        "slot": task.lane.slot,
        "name": task.name,
        "host": model.host_of(task.lane.agent),
        "function": task.function,
        "number": task.number,
        "start": task.start,
        "client": "" if row is None else row.client.hex(),
        "client_name": "" if row is None else model.client_name(row.client),
        "capability": "" if row is None else row.capabilities,
        "label": "" if row is None else row.label,
    }
