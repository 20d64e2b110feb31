"""Workers by host, and what seems to be wrong with some of them: in words, because a colour tells nobody what to do."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

from scaler_protocol.wire.messages import AgentStatus, WorkerStatus
from scaler_ui.model.bars import Lane
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.figures import worker_data
from scaler_ui.model.worker_history import SPAN_SECONDS, SPANS_KEPT, WorkerPast, lanes_of

LATE_SECONDS = 10.0
"""Without a word of its agent for so long, a worker is late: agents say something every few seconds."""

REPLACED_MANY = 3
"""So many replaced processes within ten minutes are many."""

MEMORY_SHARE = 0.9
"""Of a limit."""

HOST_FREE_SHARE = 0.05
"""With less of its memory free a host is about to kill processes."""

SLOW_SHARE = 0.25
"""A worker that ends less than this, of what is usual among workers that offer the same, is slow."""

SLOW_TASKS_MIN, SLOW_BUSY_SECONDS_MIN, SLOW_NEIGHBOURS_MIN = 10, 60.0, 3
"""Below so many tasks of a usual worker, seconds of work, and workers to compare with, nothing is said of rates."""


class _Seen(NamedTuple):
    lane: Lane
    status: WorkerStatus
    past: WorkerPast
    agent: AgentStatus | None
    reasons: list[str]


def hosts(model: ClusterModel, opened: Collection[str] = (), seconds: int = 0) -> dict[str, Any]:
    """Return all hosts, and the workers of those that are `opened`.

    `seconds`: how much of their past; 0: all that is kept. What is wrong with them is judged by all of it.
    """
    snapshot = model.snapshot
    spans = min(SPANS_KEPT, math.ceil(seconds / SPAN_SECONDS)) if seconds else SPANS_KEPT
    if snapshot is None:
        return {"span_seconds": SPAN_SECONDS, "spans": spans, "kept_spans": 0, "hosts": []}
    agents = {agent.name: agent for agent in snapshot.agents}
    history = model.worker_history
    seen = [
        _Seen(lane, status, history.of(lane), agents.get(status.agent), [])
        for lane, status in zip(lanes_of(snapshot), snapshot.workers, strict=True)
    ]
    usual = _usual_rates(seen)
    for one in seen:
        one.reasons.extend(_reasons(one, usual, snapshot.time_seconds))
    by_host: dict[str, list[_Seen]] = {}
    for agent in snapshot.agents:
        by_host.setdefault(agent.hostname, [])
    for one in seen:
        by_host.setdefault(one.status.hostname, []).append(one)
    names = model.worker_names()
    return {
        "span_seconds": SPAN_SECONDS,
        "spans": spans,
        "kept_spans": max((len(one.past.busy) for one in seen), default=0),
        "hosts": [
            _host(
                hostname,
                of_host,
                spans,
                [agent for agent in snapshot.agents if agent.hostname == hostname],
                names if hostname in opened else None,
            )
            for hostname, of_host in by_host.items()
        ],
    }


def _host(
    hostname: str, seen: list[_Seen], spans: int, agents: list[AgentStatus], names: Mapping[Lane, str] | None
) -> dict[str, Any]:
    workers = [one.status for one in seen]
    reasons = _host_reasons(agents)
    sick = [f"{one.status.name}: {reason}" for one in seen for reason in one.reasons]
    return {
        "name": hostname,
        "agents": [agent.name for agent in agents],
        "workers": len(workers),
        "running": sum(bool(worker.function) for worker in workers),
        "tasks": sum(agent.assigned for agent in agents),
        "queued": sum(agent.queued for agent in agents),
        "cpu_percent": round(sum(worker.cpu_percent for worker in workers), 1),
        "rss_bytes": sum(worker.rss_bytes for worker in workers),
        "memory_bytes": max((agent.memory_bytes for agent in agents), default=0) or None,
        "free_bytes": min((agent.rss_free_bytes for agent in agents), default=0),
        "busy": _means([one.past.busy for one in seen])[-spans:],
        "memory": _sums([one.past.memory for one in seen])[-spans:],
        "devices": sorted({device for agent in agents for device in agent.devices}),
        "capabilities": " · ".join(sorted({agent.capabilities for agent in agents if agent.capabilities})),
        "resources": _joined(agent.resources for agent in agents),
        "resources_used": _joined(agent.resources_used for agent in agents),
        "version": _joined(sorted({_version(agent) for agent in agents})),
        "draining": bool(agents) and all(agent.draining for agent in agents),
        "last_seen_seconds": round(max((agent.last_seen_seconds for agent in agents), default=0.0), 1),
        "reasons": [*reasons, *sick],
        "members": None if names is None else [_member(one, spans, names) for one in seen],
    }


def _member(one: _Seen, spans: int, names: Mapping[Lane, str]) -> dict[str, Any]:
    limit = one.agent.processor_limit_bytes if one.agent is not None else 0
    return {
        **worker_data(one.status),
        "shown_name": names.get(one.lane, one.status.name),
        "limit_bytes": limit or None,
        "busy": [round(100 * share) for share in one.past.busy][-spans:],
        "memory": list(one.past.memory)[-spans:],
        "ended": one.past.ended_in(spans),
        "replaced": len(one.past.replaced_at),
        "reasons": one.reasons,
    }


def _reasons(one: _Seen, usual: Mapping[str, float], now: float) -> Iterable[str]:
    status, past = one.status, one.past
    if status.last_seen_seconds > LATE_SECONDS:
        yield f"nothing was heard of it for {status.last_seen_seconds:.0f} s"
    replaced = past.replaced(now)
    if replaced >= REPLACED_MANY:
        yield f"its process was replaced {replaced} times in {SPANS_KEPT * SPAN_SECONDS / 60:.0f} minutes: it died, or was ended"
    limit = one.agent.processor_limit_bytes if one.agent is not None else 0
    if limit and status.rss_bytes > MEMORY_SHARE * limit:
        yield f"it has {100 * status.rss_bytes / limit:.0f} % of the memory that it may have; a task that takes more ends with it"
    rate = _rate(past)
    common = usual.get(status.capabilities)
    if rate is not None and common is not None and rate < SLOW_SHARE * common:
        yield f"it ends {rate * 60:.1f} tasks a minute of work, and others like it {common * 60:.1f}"


def _host_reasons(agents: list[AgentStatus]) -> list[str]:
    reasons = []
    memory = max((agent.memory_bytes for agent in agents), default=0)
    free = min((agent.rss_free_bytes for agent in agents), default=0)
    if memory and free < HOST_FREE_SHARE * memory:
        reasons.append(f"{100 * free / memory:.1f} % of its memory is free: soon it ends processes")
    if len({agent.software_version for agent in agents}) > 1:
        reasons.append("its agents have different versions")
    return reasons


def _usual_rates(seen: Iterable[_Seen]) -> dict[str, float]:
    """Return what workers with the same capabilities usually end in a second of work, where that says something."""
    rates: dict[str, list[float]] = {}
    ended: dict[str, list[int]] = {}
    for one in seen:
        rate = _rate(one.past)
        if rate is not None:
            rates.setdefault(one.status.capabilities, []).append(rate)
            ended.setdefault(one.status.capabilities, []).append(one.past.ended)
    return {
        kind: median(some)
        for kind, some in rates.items()
        if len(some) >= SLOW_NEIGHBOURS_MIN and median(ended[kind]) >= SLOW_TASKS_MIN
    }


def _rate(past: WorkerPast) -> float | None:
    return past.ended / past.busy_seconds if past.busy_seconds >= SLOW_BUSY_SECONDS_MIN else None


def _version(agent: AgentStatus) -> str:
    return f"{agent.software_version}, Python {agent.python_version}" if agent.software_version else ""


def _joined(texts: Iterable[str]) -> str:
    return " · ".join(text for text in texts if text)


def _means(columns: list[Any]) -> list[int]:
    """Return the means of columns that end at the same moment, as percentages."""
    longest = max(map(len, columns), default=0)
    rows = [[column[at] for column in columns if -at <= len(column)] for at in range(-longest, 0)]
    return [round(100 * sum(row) / len(row)) for row in rows]


def _sums(columns: list[Any]) -> list[int]:
    longest = max(map(len, columns), default=0)
    return [sum(column[at] for column in columns if -at <= len(column)) for at in range(-longest, 0)]
