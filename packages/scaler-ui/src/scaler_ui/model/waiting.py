"""Why tasks wait at the scheduler: all of them in numbers, and each one that is known.

Computed from what the scheduler publishes anyway, when somebody asks. What a single task asks for came with its events.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable
from typing import Any, NamedTuple

from scaler_protocol.capabilities import is_bound, named_host, named_worker, offered
from scaler_protocol.wire.messages import MonitorSnapshot
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.history import slot_counts, state_counts
from scaler_ui.model.tasks import WAITING, TaskRow

STORAGE_FULL_SHARE = 0.95
REASONS_MAX = 6
BUSY_SECONDS, BUSY_PERCENT = 10.0, 50.0
"""Where so many workers were busy in the last seconds, tasks wait for them though some are free in this moment."""

KINDS = ("pause", "no worker", "place", "capability", "limit", "resources", "memory", "busy", "assigning")
"""Kinds of reasons why a single task may wait. Tasks that wait for the results of others are not known one by one."""


class Reason(NamedTuple):
    """Why a task waits."""

    kind: str
    """One of `KINDS`."""
    text: str
    what_to_do: str


def task_reasons(model: ClusterModel) -> Callable[[TaskRow], Reason | None]:
    """Return a function that says why a task waits, as of the last snapshot; None where it does not, or before any snapshot."""
    snapshot = model.snapshot
    if snapshot is None:
        return lambda row: None
    full = {group.name: group for group in snapshot.groups if group.max_running and group.running >= group.max_running}
    # Few clients, and few sets of what is asked for: those of all other tasks are the same.
    limits = {client.incarnation: full[client.group] for client in snapshot.clients if client.group in full}
    waits = {wait.resources: wait.offered for wait in snapshot.resource_waits}
    offers = {_names(worker.capabilities) for worker in snapshot.workers}
    usual = _usual_reason(model, snapshot)
    known: dict[tuple[bytes, str, str], Reason] = {}

    def of_others(row: TaskRow) -> Reason:
        if not snapshot.workers:
            return usual
        names = _names(row.capabilities)
        if is_bound(names):
            return Reason("place", *_place_reason(names, snapshot, "it"))
        missing = _missing(names, offers)
        if missing:
            return Reason("capability", *_capability_reason(missing))
        group = limits.get(row.client)
        if group is not None:
            text = f"group {group.name} runs {group.running:,}, and may run {group.max_running:,}"
            return Reason("limit", text, "wait, or raise max_running of the group in --share of the scheduler")
        if row.resources in waits:
            return Reason("resources", *_resource_reason(row.resources, waits[row.resources], "it asks"))
        return usual

    def reason_of(row: TaskRow) -> Reason | None:
        if row.state not in WAITING:
            return None
        if row.paused_until > snapshot.time_seconds:
            return Reason("pause", "it failed, and runs again after a pause", "nothing: it runs again by itself")
        key = (row.client, row.capabilities, row.resources)
        found = known.get(key)
        if found is None:
            found = known[key] = of_others(row)
        return found

    return reason_of


def _usual_reason(model: ClusterModel, snapshot: MonitorSnapshot) -> Reason:
    """Return why a task waits that may run anywhere."""
    if not snapshot.workers:
        return Reason("no worker", *_NO_WORKER)
    if _is_storage_full(snapshot):
        return Reason("memory", *_STORAGE_FULL)
    if _are_all_leaving(snapshot):
        return Reason("no worker", *_ALL_LEAVING)
    slots = slot_counts(snapshot)
    if (slots.slots and slots.running >= slots.slots) or _were_busy(model):
        return Reason("busy", "for a free worker", "wait, or start more workers")
    return Reason("assigning", *_ASSIGNING)


_NO_WORKER = ("no worker is connected", "start workers: scaler_cluster with the scheduler's address")
_ALL_LEAVING = ("all workers are leaving", "start new workers")
_STORAGE_FULL = (
    "object storage is nearly full",
    "call client.clear(), drop references, or start object storage with more memory",
)
_ASSIGNING = ("about to be assigned", "nothing; if it lasts, look at the queues in scaler_dump")


def _is_storage_full(snapshot: MonitorSnapshot) -> bool:
    limit = snapshot.object_limit_bytes
    return bool(limit) and snapshot.object_bytes >= STORAGE_FULL_SHARE * limit


def _are_all_leaving(snapshot: MonitorSnapshot) -> bool:
    return bool(snapshot.agents) and all(agent.draining for agent in snapshot.agents)


def _were_busy(model: ClusterModel) -> bool:
    # Between two short tasks a worker has nothing for a moment.
    return model.history.mean("utilisation_percent", BUSY_SECONDS) >= BUSY_PERCENT


def _capability_reason(missing: frozenset[str]) -> tuple[str, str]:
    text = sorted(missing)
    return f"no worker offers {', '.join(text)}", f"start workers with --per-worker-capabilities {','.join(text)}"


def _resource_reason(resources: str, is_offered: bool, asks: str) -> tuple[str, str]:
    """`asks`: as in "they ask"."""
    if is_offered:
        return (
            f"other tasks use the resources that {asks} for: {resources}",
            "wait, or offer more with --resources of scaler_cluster (of scaler_scheduler, where that sets the limit)",
        )
    return (
        f"no host offers the resources that {asks} for: {resources}",
        "start workers on hosts that offer as much (--resources of scaler_cluster), or ask for less",
    )


def _place_reason(names: frozenset[str], snapshot: MonitorSnapshot, them: str) -> tuple[str, str]:
    """Return why tasks wait that only one worker or host may run."""
    worker, host = named_worker(names), named_host(names)
    if worker and all(one.name != worker for one in snapshot.workers):
        return f"no worker {worker} is connected", "start a worker of that name, or cancel the tasks"
    if host and all(one.hostname != host for one in snapshot.workers):
        return f"no worker on host {host} is connected", "start workers there, or cancel the tasks"
    place = f"worker {worker}" if worker else f"host {host}" if host else "one worker"
    return f"only {place} may run {them}", "wait, or do not name a worker or host"


def _missing(names: frozenset[str], offers: set[frozenset[str]]) -> frozenset[str]:
    """Return which of the capabilities that a task asks for keep it from all workers; empty: some worker has all."""
    asked = offered(names)
    if any(asked <= offer for offer in offers):
        return frozenset()
    return asked - frozenset().union(*offers) or asked


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
    linked = sum(client.waiting_for_tasks for client in snapshot.clients) - rows
    because("tasks whose results they need come first", linked, "nothing: they follow by themselves", "graph")
    paused = sum(row.state == "returned" and row.paused_until > snapshot.time_seconds for row in model.tasks.unfinished)
    because(
        "they failed, and run again after a pause",
        paused * model.stride,
        "nothing: they run again by themselves",
        "pause",
    )
    if not snapshot.workers:
        because(_NO_WORKER[0], left, _NO_WORKER[1], "no worker")
    for reason, count, what_to_do in _bound(model, snapshot):
        because(reason, count, what_to_do, "place")
    for names, count in _unserved(model, snapshot):
        reason, what_to_do = _capability_reason(names)
        because(reason, count, what_to_do, "capability")
    for wait in snapshot.resource_waits[:REASONS_MAX]:
        reason, what_to_do = _resource_reason(wait.resources, wait.offered, "they ask")
        because(reason, wait.count, what_to_do, "resources")
    for group in snapshot.groups:
        if group.max_running and group.running >= group.max_running:
            because(
                f"at most {group.max_running:,} tasks of group {group.name} may run at once",
                group.waiting,
                "wait, or raise max_running of the group in --share of the scheduler",
                "limit",
            )
    if _is_storage_full(snapshot):
        because(_STORAGE_FULL[0], left, _STORAGE_FULL[1], "memory")
    if _are_all_leaving(snapshot):
        because(_ALL_LEAVING[0], left, _ALL_LEAVING[1], "no worker")
    slots = slot_counts(snapshot)
    if slots.slots and slots.running >= slots.slots:
        because(f"all {slots.slots} workers are busy", left, "wait, or start more workers", "busy")
    if _were_busy(model):
        because("the workers are busy with short tasks", left, "wait, or start more workers", "busy")
    because(_ASSIGNING[0], left, _ASSIGNING[1], "assigning")
    return sorted(found, key=lambda one: -int(one["count"]))


def _bound(model: ClusterModel, snapshot: MonitorSnapshot) -> list[tuple[str, int, str]]:
    """Return why tasks wait that only one worker or host may run, their numbers, and what to do."""
    found: Count[tuple[str, str]] = Count()
    for text, count in _asked(model).items():
        names = _names(text)
        if not is_bound(names):
            continue
        found[_place_reason(names, snapshot, "them")] += count * model.stride
    return [(reason, count, what_to_do) for (reason, what_to_do), count in found.most_common(REASONS_MAX)]


def _asked(model: ClusterModel) -> Count[str]:
    return Count(row.capabilities for row in model.tasks.unfinished if row.capabilities and row.state in WAITING)


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
        missing = _missing(_names(text), offers)
        if missing:
            unserved[missing] += count * model.stride
    return unserved.most_common(REASONS_MAX)


def _names(capabilities: str) -> frozenset[str]:
    return frozenset(part.partition("=")[0].strip() for part in capabilities.split(",") if part.strip())
