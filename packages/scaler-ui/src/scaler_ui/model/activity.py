"""The model's answers to what people ask first, as data for JSON: how busy, how far, what is slow, what fails, why tasks wait."""

from __future__ import annotations

from collections import Counter as Count
from typing import Any

from scaler_protocol.capabilities import is_bound, named_host, named_worker, offered
from scaler_protocol.wire.messages import ClientStatus, MonitorSnapshot
from scaler_ui.model.client_use import owners_of
from scaler_ui.model.cluster import ClusterModel, shown_name
from scaler_ui.model.error_groups import TREND_SECONDS, ErrorGroup
from scaler_ui.model.failures import FailedTask
from scaler_ui.model.history import slot_counts, state_counts
from scaler_ui.model.rates import Progress

STORAGE_FULL_SHARE = 0.95
THROUGHPUT_SECONDS = 10.0
REASONS_MAX = 6
BUSY_PERCENT = 50.0
"""Where so many workers were busy in the last seconds, tasks wait for them though some are free in this moment."""


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


def waiting_reasons(model: ClusterModel, snapshot: MonitorSnapshot) -> list[dict[str, Any]]:
    """Return why tasks wait at the scheduler: reason, number of tasks, what to do. The numbers add up to all that wait."""
    left = state_counts(snapshot)["unassigned"]
    found: list[dict[str, Any]] = []

    def because(reason: str, count: int, what_to_do: str, kind: str) -> None:
        nonlocal left
        count = min(count, left)
        if count > 0:
            found.append({"kind": kind, "reason": reason, "count": count, "what_to_do": what_to_do})
            left -= count

    rows = sum(graph.waiting for graph in snapshot.graphs)
    because("other nodes of their graph come first", rows, "nothing: they follow by themselves", "graph")
    if not snapshot.workers:
        because(
            "no worker is connected", left, "start workers: scaler_cluster with the scheduler's address", "no worker"
        )
    for reason, count, what_to_do in _bound(model, snapshot):
        because(reason, count, what_to_do, "place")
    for names, count in _unserved(model, snapshot):
        text = ", ".join(sorted(names))
        because(
            f"no worker offers {text}",
            count,
            f"start workers with --per-worker-capabilities {','.join(sorted(names))}",
            "capability",
        )
    for reason, count, what_to_do in lacking(snapshot):
        because(reason, count, what_to_do, "resources")
    for group in snapshot.groups:
        if group.max_running and group.running >= group.max_running:
            because(
                f"at most {group.max_running:,} tasks of group {group.name} may run at once",
                group.waiting,
                "wait, or raise max_running of the group in --share of the scheduler",
                "limit",
            )
    limit = snapshot.object_limit_bytes
    if limit and snapshot.object_bytes >= STORAGE_FULL_SHARE * limit:
        because(
            "object storage is nearly full",
            left,
            "call client.clear(), drop references, or start object storage with more memory",
            "memory",
        )
    if snapshot.agents and all(agent.draining for agent in snapshot.agents):
        because("all workers are leaving", left, "start new workers", "no worker")
    slots = slot_counts(snapshot)
    if slots.slots and slots.running >= slots.slots:
        because(f"all {slots.slots} workers are busy", left, "wait, or start more workers", "busy")
    if model.history.mean("utilisation_percent", THROUGHPUT_SECONDS) >= BUSY_PERCENT:
        # Between two short tasks a worker has nothing for a moment.
        because("the workers are busy with short tasks", left, "wait, or start more workers", "busy")
    because("about to be assigned", left, "nothing; if it lasts, look at the queues in scaler_dump", "assigning")
    return sorted(found, key=lambda one: -int(one["count"]))


def lacking(snapshot: MonitorSnapshot) -> list[tuple[str, int, str]]:
    """Return which counted resources tasks wait for, the numbers of tasks, and what to do."""
    return [
        (
            f"other tasks use the resources that they ask for: {wait.resources}",
            wait.count,
            "wait, or offer more with --resources of scaler_cluster (of scaler_scheduler, where that sets the limit)",
        )
        if wait.offered
        else (
            f"no host offers the resources that they ask for: {wait.resources}",
            wait.count,
            "start workers on hosts that offer as much (--resources of scaler_cluster), or ask for less",
        )
        for wait in snapshot.resource_waits[:REASONS_MAX]
    ]


def _bound(model: ClusterModel, snapshot: MonitorSnapshot) -> list[tuple[str, int, str]]:
    """Return why tasks wait that only one worker or host may run, their numbers, and what to do."""
    found: Count[tuple[str, str]] = Count()
    for text, count in _asked(model).items():
        names = _names(text)
        if not is_bound(names):
            continue
        worker, host = named_worker(names), named_host(names)
        if worker and all(one.name != worker for one in snapshot.workers):
            why = (f"no worker {worker} is connected", "start a worker of that name, or cancel the tasks")
        elif host and all(one.hostname != host for one in snapshot.workers):
            why = (f"no worker on host {host} is connected", "start workers there, or cancel the tasks")
        else:
            place = f"worker {worker}" if worker else f"host {host}" if host else "one worker"
            why = (f"only {place} may run them", "wait, or do not name a worker or host")
        found[why] += count * model.stride
    return [(reason, count, what_to_do) for (reason, what_to_do), count in found.most_common(REASONS_MAX)]


def _asked(model: ClusterModel) -> Count[str]:
    return Count(
        row.capabilities
        for row in model.tasks.unfinished
        if row.capabilities and row.state in ("submitted", "returned")
    )


def _unserved(model: ClusterModel, snapshot: MonitorSnapshot) -> list[tuple[frozenset[str], int]]:
    """Return sets of capabilities that no worker offers, with the number of tasks that wait for them."""
    asked = _asked(model)
    if not asked:
        return []
    offers = {_names(worker.capabilities) for worker in snapshot.workers}
    unserved: Count[frozenset[str]] = Count()
    for text, count in asked.items():
        if is_bound(_names(text)):
            continue
        names = offered(_names(text))
        if not any(names <= offer for offer in offers):
            missing = names - frozenset().union(*offers)
            unserved[missing or names] += count * model.stride
    return unserved.most_common(REASONS_MAX)


def _names(capabilities: str) -> frozenset[str]:
    return frozenset(part.partition("=")[0].strip() for part in capabilities.split(",") if part.strip())


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
