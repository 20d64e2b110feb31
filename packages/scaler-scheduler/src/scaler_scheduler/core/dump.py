"""The scheduler's tables at one moment, as plain data: for whoever looks into a problem, also in the middle of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from scaler_scheduler.core.tasks import Task

if TYPE_CHECKING:
    from scaler_scheduler.core.scheduler import SchedulerCore

TASKS_MAX = 2_000
"""Unfinished tasks told one by one, the oldest ones of each client; all are counted."""


def describe(core: SchedulerCore, now: float, task_number: int = 0) -> dict[str, Any]:
    """Return everything as values that JSON knows, times in seconds ago; with all that is known of a task number."""
    clients = list(core.clients.values())
    share = max(1, TASKS_MAX // max(1, len(clients)))
    return {
        "incarnation": core.config.incarnation.hex(),
        "uptime_seconds": now - core.started_at,
        "stopping": core.stopping,
        "marks": {"placement_due": core.marks.placement_due, "credit_due": core.marks.credit_due},
        "counts": {
            "ready": core.ready.count,
            "recovering": len(core.recovering),
            "functions": len(core.functions),
            "success": core.monitor.success_count,
            "failed": core.monitor.failed_count,
            "canceled": core.monitor.canceled_count,
            "stale_results": core.monitor.stale_count,
        },
        "queues": [
            {
                "capabilities": sorted(queue.signature),
                "tasks": queue.count,
                "unservable_for_seconds": None if queue.unservable_since is None else now - queue.unservable_since,
            }
            for queue in core.ready.non_empty()
        ],
        "agents": [
            {
                "name": agent.name,
                "incarnation": agent.id.hex(),
                "host": agent.hello.hostname,
                "pid": agent.hello.pid,
                "workers": agent.slots,
                "capacity": agent.capacity,
                "draining": agent.draining,
                "assigned": len(agent.tasks),
                "assigned_by_function": _by_function(core, agent.tasks),
                "silent_seconds": now - agent.last_seen,
                "unacknowledged_messages": agent.session.unacknowledged_count,
            }
            for agent in core.agents.by_peer.values()
        ],
        "clients": [
            {
                "name": client.name,
                "incarnation": client.id.hex(),
                "host": client.hello.hostname,
                "pid": client.hello.pid,
                "nested": not isinstance(client.peer, bytes),
                "unfinished": len(client.tasks),
                "assigned": client.assigned_count,
                "finished": client.finished_count,
                "failed": client.failed_count,
                "credit_wanted": client.credit_wanted,
                "credit_granted": client.credit_granted,
                "silent_seconds": now - client.last_seen,
                "unacknowledged_messages": client.session.unacknowledged_count,
                "unfinished_by_function": _by_function(core, client.tasks.values()),
                "graphs": [
                    {
                        "first_number": graph.first_number,
                        "rows": graph.row_count,
                        "unfinished": graph.unfinished,
                        "waiting": graph.waiting,
                        "held_results": len(graph.results),
                    }
                    for graph in client.graphs
                ],
                "tasks": [_task(core, task) for task in islice(client.tasks.values(), share)],
            }
            for client in clients
        ],
        "tasks_asked_for": [
            {"client": client.id.hex(), **_task(core, task)}
            for client in clients
            if task_number and (task := client.tasks.get(task_number)) is not None
        ],
    }


def _by_function(core: SchedulerCore, tasks: Iterable[Task]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for function, count in Counter([task.function for task in tasks]).items():
        counts[core.functions.name(function)] += count
    return dict(counts)


def _task(core: SchedulerCore, task: Task) -> dict[str, Any]:
    graph = task.graph
    return {
        "number": task.number,
        "function": core.functions.name(task.function),
        "state": task.state.name.lower(),
        "agent": None if task.agent is None else task.agent.name,
        "attempt": task.failures + 1,
        "died_attempts": task.failures,
        "times_assigned": task.attempt,
        "canceled": task.canceled,
        "depth": task.options.depth,
        "capabilities": sorted(name for name, _ in task.options.capabilities),
        "payload_bytes": len(task.payload),
        "objects": [object_id.hex() for object_id in task.objects],
        "graph_row": None if graph is None else task.number - graph.first_number,
    }
