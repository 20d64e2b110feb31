"""The model's answers to what people ask first, as data for JSON: how busy, how far, what is slow, what fails."""

from __future__ import annotations

from collections import Counter as Count
from typing import Any

from scaler_protocol.wire.messages import ClientStatus
from scaler_ui.model.client_use import owners_of
from scaler_ui.model.cluster import ClusterModel, shown_name
from scaler_ui.model.error_groups import TREND_SECONDS, ErrorGroup
from scaler_ui.model.failures import FailedTask
from scaler_ui.model.history import slot_counts
from scaler_ui.model.rates import Progress
from scaler_ui.model.waiting import waiting_reasons

THROUGHPUT_SECONDS = 10.0


def load(model: ClusterModel) -> dict[str, Any]:
    """Return how busy the cluster is: slots, tasks that have begun, tasks in queues, smoothed throughput."""
    snapshot = model.snapshot
    if snapshot is None:
        return {}
    slots = slot_counts(snapshot)
    return {
        "slots": slots.slots,
        "busy_slots": slots.busy,
        "utilisation_percent": round(100 * slots.busy / slots.slots, 1) if slots.slots else None,
        "running": slots.running,
        "paused": max(0, slots.running - slots.busy),
        "queued": slots.queued,
        "throughput": round(
            model.history.mean("success_rate", THROUGHPUT_SECONDS)
            + model.history.mean("failed_rate", THROUGHPUT_SECONDS),
            3,
        ),
        "waiting": waiting_reasons(model, snapshot),
    }


def progress(model: ClusterModel, limit: int = 100) -> dict[str, Any]:
    """Return how far clients and functions with unfinished tasks are, and when they will be done at the present rate."""
    snapshot = model.snapshot
    if snapshot is None:
        return {"clients": [], "functions": []}
    nested = Count[bytes]()
    for client in snapshot.clients:
        if client.nested:
            nested[client.parent] += client.waiting + client.running
    clients = [
        {
            "id": client.incarnation.hex(),
            "name": shown_name(client),
            "running": client.running,
            "waiting": client.waiting,
            "nested_tasks": nested[client.incarnation],
            **_progress_data(model.client_progress.of(client.incarnation)),
        }
        for client in snapshot.clients
        if not client.nested and client.waiting + client.running
    ]
    functions = [
        {"name": counter.name, "unfinished": counter.count, **_progress_data(model.function_progress.of(counter.name))}
        for counter in snapshot.functions
        if counter.count
    ]
    clients.sort(key=lambda row: (-row["left"], row["name"]))
    functions.sort(key=lambda row: (-row["left"], row["name"]))
    return {"clients": clients[:limit], "functions": functions[:limit]}


def _progress_data(known: Progress) -> dict[str, Any]:
    seconds = known.seconds_left
    return {
        "done": round(known.done),
        "left": round(known.left),
        "per_second": round(known.per_second, 3),
        "seconds_left": None if seconds is None else round(seconds, 1),
    }


def functions(model: ClusterModel, seconds: int = 0) -> dict[str, Any]:
    """Return every function's figures of the last `seconds`, or since this monitor started (0).

    They are estimates where tasks are left out. `since`: the Unix time from which on they count.
    """
    snapshot = model.snapshot
    now = snapshot.time_seconds if snapshot is not None else 0.0
    figures, since = model.functions.within(seconds, now) if seconds else (model.functions.all(), model.since)
    running: Count[str] = Count()
    memory: dict[str, int] = {}
    unfinished: dict[str, int] = {}
    all_failed: dict[str, int] = {}
    if snapshot is not None:
        for worker in snapshot.workers:
            if worker.function:
                running[worker.function] += 1
                memory[worker.function] = max(memory.get(worker.function, 0), worker.rss_bytes)
        unfinished = {counter.name: counter.count for counter in snapshot.functions}
        all_failed = {counter.name: counter.count for counter in snapshot.failed_functions}
    known = {one.name: one for one in figures}
    if seconds:
        # What failed earlier is no reason to be shown.
        all_failed = {name: count for name, count in all_failed.items() if name in known or name in unfinished}
    rows: list[dict[str, Any]] = []
    for name in known.keys() | unfinished.keys() | all_failed.keys() | running.keys():
        one = known.get(name)
        rows.append(
            {
                "name": name,
                "running": running[name],
                "unfinished": unfinished.get(name, 0),
                "ended": round(one.ended) if one else 0,
                "failed": round(one.failed) if one else 0,
                "failed_since_start": all_failed.get(name, 0),
                "canceled": round(one.canceled) if one else 0,
                "failed_share": one.failed / one.ended if one and one.ended else None,
                "per_second": round(model.function_progress.of(name).per_second, 3),
                "mean_seconds": one.mean_s if one else None,
                "p50_seconds": one.percentile_s(0.5) if one else None,
                "p95_seconds": one.percentile_s(0.95) if one else None,
                "max_seconds": one.longest_s if one and one.timed else None,
                "total_seconds": one.seconds if one else 0.0,
                "read_seconds": one.read_seconds if one else 0.0,
                "write_seconds": one.write_seconds if one else 0.0,
                "overhead_share": one.overhead_share if one else None,
                "mean_wait_seconds": one.mean_wait_s if one else None,
                "memory_bytes": memory.get(name),
                "last_at": one.last_at if one and one.last_at else None,
            }
        )
    rows.sort(key=lambda row: (-row["total_seconds"], row["name"]))
    return {
        "functions": rows,
        "since": max(since, model.since),
        "stride": model.stride,
        "omitted_events": model.omitted_events,
    }


def client_use(model: ClusterModel, seconds: int = 0) -> dict[str, Any]:
    """Return what each client uses now, and used in the last `seconds`, or since this monitor started (0).

    Clients inside tasks count with the client that they work for. Those that have left stay while the range has something of
    them. `available_core_seconds`: what all workers together could have given in that time.
    """
    snapshot = model.snapshot
    if snapshot is None:
        return {"since": 0.0, "slots": 0, "used_core_seconds": 0.0, "available_core_seconds": 0.0, "clients": []}
    figures, available, since = model.client_use.within(seconds, snapshot.time_seconds)
    owners = owners_of(snapshot.clients)
    rows = {
        client.incarnation: _use_row(client.incarnation, shown_name(client), client)
        for client in snapshot.clients
        if owners[client.incarnation] == client.incarnation
    }
    for client in snapshot.clients:
        row = rows[owners[client.incarnation]]
        for key in ("waiting", "running", "object_count", "object_bytes", "busy_workers"):
            row[key] += getattr(client, key)
        row["nested_clients"] += owners[client.incarnation] != client.incarnation
    for client_id, used in figures.items():
        row = rows.setdefault(client_id, _use_row(client_id, model.client_name(client_id), None))
        row |= {
            "core_seconds": round(used.core_seconds, 3),
            "ended": used.succeeded + used.failed,
            "failed": used.failed,
        }
    whole = sum(row["core_seconds"] for row in rows.values())
    for row in rows.values():
        row["share"] = row["core_seconds"] / whole if whole else 0.0
    return {
        "since": max(since, model.since),
        "slots": len(snapshot.workers),
        "used_core_seconds": round(whole, 3),
        "available_core_seconds": round(available, 3),
        "clients": sorted(rows.values(), key=lambda row: (-row["core_seconds"], -row["busy_workers"], row["name"])),
    }


def _use_row(client_id: bytes, name: str, client: ClientStatus | None) -> dict[str, Any]:
    return {
        "id": client_id.hex(),
        "name": name,
        "connected": client is not None,
        "user": client.user if client is not None else "",
        "group": client.group if client is not None else "",
        "nested_clients": 0,
        "busy_workers": 0,
        "core_seconds": 0.0,
        "waiting": 0,
        "running": 0,
        "ended": 0,
        "failed": 0,
        "object_count": 0,
        "object_bytes": 0,
    }


def error_groups(
    model: ClusterModel, *, search: str = "", limit: int = 200, seen: int = 0, seconds: int = 0
) -> dict[str, Any]:
    """Return failures in groups, the group with the newest failure first.

    `seconds`: only those with failures in that time, which `recent` and `trend` count; 0: all, with the trend of the last hour.

    `seen`: the `changes` of an earlier answer. Then only groups are returned that have changed since, unless `whole` says all.
    """
    changes = model.error_groups.changes
    whole = not 0 < seen <= changes
    words = search.lower().split()
    groups = [
        group
        for group in model.error_groups.newest_first()
        if (whole or group.changed > seen)
        and all(word in f"{group.kind} {group.function} {group.shape}".lower() for word in words)
    ]
    now = model.snapshot.time_seconds if model.snapshot is not None else 0.0
    # A failure may be told before the snapshot of its second.
    now = max([now, *(group.last_at for group in groups)])
    if seconds:
        groups = [group for group in groups if any(group.trend(now, seconds))]
    return {
        "since": model.since,
        "failures": model.failure_count,
        "matching": len(groups),
        "changes": changes,
        "whole": whole,
        "groups": [_group_data(model, group, now, seconds) for group in groups[:limit]],
    }


def _group_data(model: ClusterModel, group: ErrorGroup, now: float, seconds: int) -> dict[str, Any]:
    last = group.last
    trend = group.trend(now, seconds or TREND_SECONDS)
    return {
        "group": group.number,
        "kind": group.kind,
        "function": group.function,
        "shape": group.shape,
        "count": group.count,
        "recent": sum(trend) if seconds else group.count,
        "items": group.items,
        "first_at": group.first_at,
        "last_at": group.last_at,
        "trend": trend,
        "text": last.error.text.split("\n")[0][:300] if last is not None else "",
        "client_name": model.client_name(last.client) if last is not None else "",
        "agent": last.agent if last is not None else "",
    }


def failures_of_group(model: ClusterModel, number: int, limit: int = 50) -> list[FailedTask]:
    """Return the last failures of one group, newest first."""
    found = []
    for failure in reversed(model.failures):
        if model.error_groups.number_of(failure) == number:
            found.append(failure)
            if len(found) >= limit:
                break
    return found
