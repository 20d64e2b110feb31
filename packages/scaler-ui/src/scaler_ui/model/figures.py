"""The model as data for JSON, for pages and scripts. Ids are hexadecimal text."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scaler_protocol.wire.messages import Counter, GroupStatus, ProcessorState, StoredObjectStatus, WorkerStatus
from scaler_ui.model import activity
from scaler_ui.model.bars import Lane
from scaler_ui.model.cluster import ClusterModel, readable_name, shown_name
from scaler_ui.model.failures import FailedTask
from scaler_ui.model.history import state_counts
from scaler_ui.model.jobs import jobs
from scaler_ui.model.progress import Said, progress_data, running_progress, said_now
from scaler_ui.model.tasks import TaskRow
from scaler_ui.model.waiting import Reason, task_reasons

_PROCESSOR_STATES = {state.value: state.name.lower() for state in ProcessorState}


def overview(model: ClusterModel, silent_s: float, silent_after_s: float) -> dict[str, Any]:
    """Return the state of the connection and of the cluster in a few figures."""
    snapshot = model.snapshot
    data: dict[str, Any] = {
        "version": model.version,
        "connection": connection_state(model, silent_s, silent_after_s),
        "silent_seconds": round(silent_s, 1),
        "missed_messages": model.missed_messages,
        "restarts": model.restarts,
        "omitted_events": model.omitted_events,
        "stride": model.stride,
        "samples": model.history.count,
        "bars": model.bars.count,
        "failures": model.failure_count,
        "error_groups": len(model.error_groups),
        "log_lines": model.log_count,
    }
    if snapshot is None:
        return data
    history = model.history
    states = Count(_PROCESSOR_STATES.get(worker.state, "?") for worker in snapshot.workers)
    data |= {
        "time": snapshot.time_seconds,
        "standby": snapshot.standby,
        "uptime_seconds": snapshot.time_seconds - snapshot.started_seconds if snapshot.started_seconds else 0.0,
        "incarnation": snapshot.incarnation.hex(),
        "tasks": state_counts(snapshot),
        **activity.load(model),
        "failed_items": snapshot.failed_items,
        "stale_results": snapshot.stale_results,
        "success_rate": history.latest("success_rate"),
        "failed_rate": history.latest("failed_rate"),
        "scheduler": {"cpu_percent": snapshot.cpu_percent, "rss_bytes": snapshot.rss_bytes},
        "workers": len(snapshot.workers),
        "worker_states": dict(states),
        "agents": len(snapshot.agents),
        "clients": len(snapshot.clients),
        "graphs": len(snapshot.graphs),
        "objects": {
            "count": snapshot.object_count,
            "bytes": snapshot.object_bytes,
            "limit_bytes": snapshot.object_limit_bytes,
        },
        "worker_cpu_percent": history.latest("worker_cpu_percent"),
        "worker_rss_bytes": history.latest("worker_rss_bytes"),
        "functions": _functions(snapshot.functions, snapshot.failed_functions),
        "sent": counts(snapshot.sent),
        "received": counts(snapshot.received),
    }
    return data


def connection_state(model: ClusterModel, silent_s: float, silent_after_s: float) -> str:
    """Return `waiting` (before the first snapshot), `live` or `silent`."""
    if model.snapshot is None:
        return "waiting"
    return "live" if silent_s <= silent_after_s else "silent"


def counts(counters: Iterable[Counter]) -> dict[str, int]:
    """Return counters as one object, count by name."""
    return {counter.name: counter.count for counter in counters}


def _functions(unfinished: Iterable[Counter], failed: Iterable[Counter]) -> list[dict[str, Any]]:
    waiting, broken = counts(unfinished), counts(failed)
    return [
        {"name": name, "unfinished": waiting.get(name, 0), "failed": broken.get(name, 0)}
        for name in sorted(waiting.keys() | broken.keys())
    ]


def history_after(model: ClusterModel, seen: int) -> dict[str, Any]:
    """Return the samples after the first `seen` ones."""
    count, times, columns = model.history.after(seen)
    return {"count": count, "time": times, "series": columns}


def workers(model: ClusterModel) -> dict[str, Any]:
    """Return all workers and their agents."""
    snapshot = model.snapshot
    if snapshot is None:
        return {"workers": [], "agents": []}
    return {
        "workers": [worker_data(worker) for worker in snapshot.workers],
        "agents": [
            {
                "name": agent.name,
                "hostname": agent.hostname,
                "pid": agent.pid,
                "workers": agent.workers,
                "capacity": agent.capacity,
                "assigned": agent.assigned,
                "queued": agent.queued,
                "cpu_percent": round(agent.cpu_percent, 1),
                "rss_bytes": agent.rss_bytes,
                "rss_free_bytes": agent.rss_free_bytes,
                "latency_seconds": agent.latency_seconds,
                "last_seen_seconds": round(agent.last_seen_seconds, 1),
                "draining": agent.draining,
                "capabilities": agent.capabilities,
                "version": agent.software_version,
                "functions": counts(agent.functions),
            }
            for agent in snapshot.agents
        ],
    }


def worker_data(worker: WorkerStatus) -> dict[str, Any]:
    """Return one worker."""
    return {
        "name": worker.name,
        "agent": worker.agent,
        "hostname": worker.hostname,
        "pid": worker.pid,
        "state": _PROCESSOR_STATES.get(worker.state, "?"),
        "cpu_percent": round(worker.cpu_percent, 1),
        "rss_bytes": worker.rss_bytes,
        "free": worker.free,
        "sent": worker.sent,
        "working": worker.sent - worker.queued,
        "queued": worker.queued,
        "function": worker.function,
        "task": worker.task if worker.function else None,
        "task_seconds": round(worker.task_seconds, 1),
        "last_seen_seconds": round(worker.last_seen_seconds, 1),
        "capabilities": worker.capabilities,
        "environment": worker.environment,
    }


def clients(model: ClusterModel) -> list[dict[str, Any]]:
    """Return all connected clients."""
    return [
        {
            "id": client.incarnation.hex(),
            "name": shown_name(client),
            "hostname": client.hostname,
            "user": client.user,
            "pid": client.pid,
            "nested": client.nested,
            "parent": client.parent.hex(),
            "parent_name": readable_name(client.parent_name),
            "group": client.group,
            "waiting": client.waiting,
            "running": client.running,
            "finished": client.finished,
            "failed": client.failed,
            "failed_items": client.failed_items,
            "graphs": client.graphs,
            "object_count": client.object_count,
            "object_bytes": client.object_bytes,
            "connected_seconds": round(client.connected_seconds, 1),
            "last_seen_seconds": round(client.last_seen_seconds, 1),
        }
        for client in (model.snapshot.clients if model.snapshot is not None else ())
    ]


def groups(model: ClusterModel) -> list[dict[str, Any]]:
    """Return the groups of clients that share the cluster; none where the scheduler has no shares."""
    return [
        {
            "name": group.name,
            "weight": group.weight,
            "clients": group.clients,
            "waiting": group.waiting,
            "running": group.running,
            "used_core_seconds": round(group.used_seconds, 3),
            "max_running": group.max_running or None,
            "max_waiting": group.max_waiting or None,
            "refused": group.refused,
            "note": _group_note(group),
        }
        for group in (model.snapshot.groups if model.snapshot is not None else ())
    ]


def _group_note(group: GroupStatus) -> str:
    """Return why tasks of a group wait, or are refused, where its limits are the reason."""
    notes = []
    if group.max_running and group.waiting and group.running >= group.max_running:
        notes.append(f"tasks wait: {group.running:,} run, at most {group.max_running:,} may")
    if group.max_waiting and group.waiting >= group.max_waiting:
        notes.append(f"tasks are refused: {group.waiting:,} wait, at most {group.max_waiting:,} may")
    return "; ".join(notes)


def objects(model: ClusterModel) -> list[dict[str, Any]]:
    """Return the largest objects in storage."""
    return [object_data(model, one) for one in (model.snapshot.objects if model.snapshot is not None else ())]


def object_data(model: ClusterModel, one: StoredObjectStatus) -> dict[str, Any]:
    """Return one object in storage."""
    return {
        "id": one.id.hex(),
        "name": one.name,
        "owner": one.owner.hex(),
        "owner_name": model.client_name(one.owner),
        "size_bytes": one.size_bytes,
        "age_seconds": round(one.age_seconds, 1),
        "place": one.place,
        "readers_waiting": one.readers_waiting,
        "tasks": None if one.tasks < 0 else one.tasks,
        "homes": list(one.homes),
    }


def graphs(model: ClusterModel) -> list[dict[str, Any]]:
    """Return the graphs in progress."""
    return [
        {
            "client": graph.client.hex(),
            "client_name": model.client_name(graph.client),
            "first_number": graph.first_number,
            "rows": graph.rows,
            "waiting": graph.waiting,
            "released": graph.released,
            "done": graph.done,
            "failed": graph.failed,
            "held_results": graph.held_results,
        }
        for graph in (model.snapshot.graphs if model.snapshot is not None else ())
    ]


def scaling(model: ClusterModel) -> dict[str, Any]:
    """Return the scaling strategy and all worker adapters."""
    snapshot = model.snapshot
    if snapshot is None:
        return {"strategy": "", "adapters": [], "events": []}
    return {
        "strategy": snapshot.scaling_strategy,
        "adapters": [
            {
                "url": adapter.url,
                "state": adapter.state,
                "groups": adapter.groups,
                "groups_max": None if adapter.groups_max < 0 else adapter.groups_max,
                "workers_per_group": adapter.workers_per_group,
                "requested_groups": adapter.requested_groups,
                "starting_groups": adapter.starting_groups,
                "capabilities": adapter.capabilities,
                "text": adapter.text,
            }
            for adapter in snapshot.adapters
        ],
        "events": [
            {
                "number": event.number,
                "at": event.time_seconds,
                "kind": event.kind,
                "adapter": event.adapter,
                "groups": event.groups,
                "reason": event.reason,
            }
            for event in snapshot.scaling_events
        ],
    }


def task_data(
    model: ClusterModel,
    row: TaskRow,
    names: Mapping[Lane, str] | None = None,
    said: Said | None = None,
    reason_of: Callable[[TaskRow], Reason | None] | None = None,
) -> dict[str, Any]:
    """Return one task. Times are in seconds, None if the moment was not seen.

    `names`: `model.worker_names()`, `said`: `said_now(model)`, `reason_of`: `task_reasons(model)`, if at hand.
    """
    names = model.worker_names() if names is None else names
    said = said_now(model) if said is None else said
    now = model.snapshot.time_seconds if model.snapshot is not None else 0.0
    reason = (task_reasons(model) if reason_of is None else reason_of)(row)
    return {
        "client": row.client.hex(),
        "client_name": model.client_name(row.client),
        "number": row.number,
        "function": row.function,
        "capabilities": row.capabilities,
        "resources": row.resources,
        "state": row.state,
        "waits": None if reason is None else reason._asdict(),
        "pause_seconds": row.paused_until - now if reason is not None and reason.kind == "pause" else None,
        "agent": row.agent,
        "slot": row.slot if row.slot >= 0 else None,
        "worker": names.get(Lane(row.agent, row.slot), "") if row.slot >= 0 else "",
        "submitted_at": row.submitted_at or None,
        "assigned_at": row.assigned_at or None,
        "ended_at": row.ended_at or None,
        "waited_seconds": row.waited_s(now),
        "duration_seconds": row.duration_s if row.ended_at else None,
        "read_seconds": row.read_s if row.ended_at else None,
        "write_seconds": row.write_s if row.ended_at else None,
        "attempts": row.attempts,
        "label": row.label,
        "tags": row.tags,
        "progress": progress_data(said.get((row.client, row.number))),
    }


def failure_data(model: ClusterModel, failure: FailedTask) -> dict[str, Any]:
    """Return one failure with its error."""
    row = model.tasks.find(failure.client, failure.task)
    slot = row.slot if row is not None and row.agent == failure.agent else -1
    return {
        "failure": failure.number,
        "at": failure.at,
        "client": failure.client.hex(),
        "client_name": model.client_name(failure.client),
        "number": failure.task,
        "attempt": failure.attempt,
        "status": failure.status,
        "function": failure.function,
        "agent": failure.agent,
        "worker": model.worker_name(Lane(failure.agent, slot)) if slot >= 0 else "",
        "group": model.error_groups.number_of(failure),
        "duration_seconds": failure.duration_s,
        "items": failure.items,
        "label": failure.label,
        "tags": failure.tags,
        "kind": failure.error.kind,
        "text": failure.error.text,
        "traceback": failure.error.traceback,
    }


def failures(model: ClusterModel, *, search: str = "", limit: int = 200) -> list[dict[str, Any]]:
    """Return the last failures, newest first, whose error, function, agent, client, label or tags contain `search`."""
    words = search.lower().split()
    found = []
    for failure in reversed(model.failures):
        data = failure_data(model, failure)
        text = " ".join(
            str(data[key]) for key in ("kind", "text", "function", "agent", "client_name", "number", "label", "tags")
        ).lower()
        if all(word in text for word in words):
            found.append(data)
            if len(found) >= limit:
                break
    return found


def failures_of(model: ClusterModel, client: bytes, number: int) -> list[dict[str, Any]]:
    """Return the failures of one task."""
    return [failure_data(model, f) for f in model.failures if f.task == number and f.client == client]


def log_after(model: ClusterModel, seen: int, limit: int = 2_000) -> dict[str, Any]:
    """Return the log lines after number `seen`, oldest first."""
    lines = [line for line in model.log_lines if line.number > seen][-limit:]
    return {
        "count": model.log_count,
        "lines": [{"number": line.number, "at": line.at, "level": line.level, "text": line.text} for line in lines],
    }


def whole(model: ClusterModel, silent_s: float, silent_after_s: float) -> Mapping[str, Any]:
    """Return one object for scripts: `scheduler`, `task_manager`, `scheduler_sent`, `scheduler_received`, `workers`, …"""
    snapshot = model.snapshot
    data = overview(model, silent_s, silent_after_s)
    return {
        "connection": data["connection"],
        "time": data.get("time"),
        "scheduler": data.get("scheduler", {}),
        "task_manager": data.get("tasks", {}),
        "failed_items": data.get("failed_items", 0),
        "scheduler_sent": data.get("sent", {}),
        "scheduler_received": data.get("received", {}),
        "functions": data.get("functions", []),
        "objects": data.get("objects", {}),
        **workers(model),
        "workers": [
            {**worker_data(worker), "agt_cpu": round(worker.agent_cpu_percent, 1), "agt_rss": worker.agent_rss_bytes}
            for worker in (snapshot.workers if snapshot is not None else ())
        ],
        "clients": clients(model),
        "groups": groups(model),
        "progress": running_progress(model),
        "jobs": jobs(model),
        "graphs": graphs(model),
        "largest_objects": objects(model),
        "scaling": scaling(model),
        "failures": failures(model),
    }
