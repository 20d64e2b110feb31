"""The scheduler's tables at one moment, as plain data: for tests, and for whoever looks into a problem while it lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from math import inf
from typing import Any

from scaler_protocol.runtime.resources import format_amounts
from scaler_scheduler.core.adapters import Adapter
from scaler_scheduler.core.events import RelayedPeer
from scaler_scheduler.core.groups import Group
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task
from scaler_scheduler.core.scaling import Scaling
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.core.tallies import owner_of

TASKS_MAX = 2_000
"""Unfinished tasks told one by one, the oldest ones of each client; all are counted."""

LOCKS_MAX = 1_000
"""Named locks told, and holders of each."""


def describe(
    state: SchedulerState, scaling: Scaling | None, now: float, *, stopping: bool, task_number: int
) -> dict[str, Any]:
    """Return everything as values that JSON knows, times in seconds ago; with all that is known of a task number."""
    clients = list(state.clients.values())
    share = max(1, TASKS_MAX // max(1, len(clients)))
    return {
        "incarnation": state.config.incarnation.hex(),
        "uptime_seconds": now - state.started_at,
        "stopping": stopping,
        "marks": {"placement_due": state.marks.placement_due, "credit_due": state.marks.credit_due},
        "counts": {
            "ready": state.ready.count,
            "recovering": len(state.recovering),
            "absent_clients": len(state.recovery),
            "functions": len(state.functions),
            "success": state.monitor.success_count,
            "failed": state.monitor.failed_count,
            "canceled": state.monitor.canceled_count,
            "stale_results": state.monitor.stale_count,
        },
        "received": dict(state.monitor.received),
        "queues": [
            {
                "capabilities": sorted(queue.signature),
                "resources": format_amounts(queue.amounts),
                "waits_for_resources_seconds": None if queue.wait.since == inf else now - queue.wait.since,
                "reserved_at": "" if queue.wait.host is None else queue.wait.host.name,
                "tasks": queue.count,
                "unservable_for_seconds": None if queue.unservable_since is None else now - queue.unservable_since,
            }
            for queue in state.ready.non_empty()
        ],
        "groups": [] if state.groups is None else [_group(group, now) for group in state.groups.by_name.values()],
        "agents": [_agent(state, agent, now) for agent in state.agents.by_peer.values()],
        "cluster_resources": format_amounts(state.resources.limits.offered),
        "cluster_resources_used": format_amounts(state.resources.limits.used),
        "clients": [_client(state, client, share, now) for client in clients],
        "locks": state.locks.described(LOCKS_MAX),
        "adapters": [] if scaling is None else [_adapter(adapter) for adapter in scaling.adapters],
        "tasks_asked_for": [
            {"client": client.id.hex(), **_task(state, task)}
            for client in clients
            if task_number and (task := client.tasks.get(task_number)) is not None
        ],
    }


def _agent(state: SchedulerState, agent: AgentRecord, now: float) -> dict[str, Any]:
    return {
        "name": agent.name,
        "incarnation": agent.id.hex(),
        "host": agent.hello.hostname,
        "pid": agent.hello.pid,
        "workers": agent.slots,
        "capacity": agent.capacity,
        "draining": agent.draining,
        "resources": format_amounts(agent.resources.amounts.offered),
        "resources_used": format_amounts(agent.resources.amounts.used),
        "assigned": len(agent.tasks),
        "assigned_behind_others": agent.followers,
        "assigned_by_function": _by_function(state, agent.tasks),
        "silent_seconds": now - agent.last_seen,
        "unacknowledged_messages": agent.session.unacknowledged_count,
    }


def _client(state: SchedulerState, client: ClientRecord, tasks_max: int, now: float) -> dict[str, Any]:
    return {
        "name": client.name,
        "incarnation": client.id.hex(),
        "host": client.hello.hostname,
        "pid": client.hello.pid,
        "nested": isinstance(client.peer, RelayedPeer) and bool(client.peer.agent),
        "parent": client.parent.hex(),
        "parent_name": "" if not client.parent or (owner := owner_of(client, state.clients)) is None else owner.name,
        "session": client.session.epoch,
        "unfinished": len(client.tasks),
        "assigned": client.assigned_count,
        "finished": client.finished_count,
        "failed": client.failed_count,
        "credit_wanted": client.credit_wanted,
        "credit_granted": client.credit_granted,
        "silent_seconds": now - client.last_seen,
        "unacknowledged_messages": client.session.unacknowledged_count,
        "unfinished_by_function": _by_function(state, client.tasks.values()),
        "graphs_arriving": [
            {"first_number": arrival.first_number, "rows": arrival.row_count, "rows_here": arrival.rows_here}
            for arrival in client.arriving
        ],
        "graphs": [
            {
                "first_number": graph.first_number,
                "rows": graph.row_count,
                "unfinished": graph.unfinished,
                "waiting": graph.waiting,
                "held_results": len(graph.results),
                "waiting_again": len(graph.returned),
                "results_held_by": dict(Counter(agent.name for agents in graph.holders.values() for agent in agents)),
            }
            for graph in client.all_graphs()
        ],
        "tasks": [_task(state, task) for task in islice(client.tasks.values(), tasks_max)],
    }


def _adapter(adapter: Adapter) -> dict[str, Any]:
    return {
        "url": adapter.url,
        "ready": adapter.ready,
        "starting": len(adapter.starting),
        "groups": [
            {"id": group.id, "arrived": group.arrived, "leaving": group.leaving} for group in adapter.groups.values()
        ],
        "last_error": adapter.last_error,
    }


def _group(group: Group, now: float) -> dict[str, Any]:
    share = group.share
    return {
        "name": group.name,
        "weight": group.weight,
        "clients": [client.id.hex() for client in group.clients],
        "waiting": group.waiting_count,
        "running": group.running_count,
        "used_seconds": group.used_seconds,
        "charged_seconds": group.charged_seconds(now),
        "max_running": share.max_running or None,
        "max_waiting": share.max_waiting or None,
        "refused": group.refused_count,
        "held_for_seconds": None if group.held_since is None else now - group.held_since,
    }


def _by_function(state: SchedulerState, tasks: Iterable[Task]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for function, count in Counter([task.function for task in tasks]).items():
        counts[state.functions.name(function)] += count
    return dict(counts)


def _task(state: SchedulerState, task: Task) -> dict[str, Any]:
    graph = task.graph
    return {
        "number": task.number,
        "function": state.functions.name(task.function),
        "state": task.state.name.lower(),
        "agent": None if task.agent is None else task.agent.name,
        "attempt": task.failures + 1,
        "died_attempts": task.failures,
        "times_assigned": task.attempt,
        "canceled": task.canceled,
        "depth": task.options.depth,
        "capabilities": sorted(name for name, _ in task.options.capabilities),
        "resources": format_amounts(task.options.amounts),
        "label": "" if task.options.note is None else task.options.note.label,
        "tags": "" if task.options.note is None else task.options.note.tags,
        "payload_bytes": len(task.payload),
        # Their ids are for those who may read them, and this is for monitors.
        "objects": len(task.objects),
        "graph_row": None if graph is None else task.number - graph.first_number,
    }
