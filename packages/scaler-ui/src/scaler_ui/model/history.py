"""Figures over time: one sample per snapshot. The last hour is kept, as columns."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaler_protocol.wire.messages import MonitorSnapshot, ProcessorState

SERIES = (
    "waiting",
    "running",
    "success_rate",
    "failed_rate",
    "workers",
    "busy_workers",
    "clients",
    "scheduler_cpu_percent",
    "scheduler_rss_bytes",
    "worker_cpu_percent",
    "worker_rss_bytes",
    "object_count",
    "object_bytes",
    "received_rate",
    "sent_rate",
    "requested_workers",
    "utilisation_percent",
    "started",
    "queued",
)
"""Rates are per second. The CPU of workers is the sum over all of them; 100 is one busy core. `running` tasks are assigned to
agents: `started` of them have begun, `queued` have not."""


class SlotCounts(NamedTuple):
    """Workers and the tasks that they hold."""

    slots: int
    """Workers."""
    busy: int
    """Workers that run a task now."""
    running: int
    """Tasks that have begun, those included that wait for tasks of their own."""
    queued: int
    """Tasks that are assigned and have not begun."""


def slot_counts(snapshot: MonitorSnapshot) -> SlotCounts:
    """Return the workers of a snapshot and their tasks."""
    held = sum(worker.sent for worker in snapshot.workers)
    busy = sum(worker.state == ProcessorState.RUNNING for worker in snapshot.workers)
    begun = held - sum(worker.queued for worker in snapshot.workers)
    blocked = any(worker.state == ProcessorState.BLOCKED for worker in snapshot.workers)
    if not blocked and not any(client.nested for client in snapshot.clients):
        # Nothing waits for tasks of its own, so a worker runs one task at most. What it holds and what of that is queued were
        # counted at different times, and differ by more than that where tasks are short.
        begun = min(busy, held)
    return SlotCounts(len(snapshot.workers), busy, begun, held - begun)


class History:
    """A bounded list of samples. `count` counts all samples ever added; a reader asks for those after the ones it has."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.times = array("d")
        self.columns = {name: array("d") for name in SERIES}
        self._last: MonitorSnapshot | None = None

    def add(self, snapshot: MonitorSnapshot) -> None:
        """Add one sample."""
        last = self._last
        self._last = snapshot
        if last is not None and last.incarnation != snapshot.incarnation:
            last = None
        elapsed = snapshot.time_seconds - last.time_seconds if last is not None else 0.0
        states = state_counts(snapshot)
        before = state_counts(last) if last is not None else states

        def rate(now: float, then: float) -> float:
            return max(0.0, now - then) / elapsed if elapsed > 0 else 0.0

        def messages(counted: MonitorSnapshot | None, name: str) -> int:
            return sum(counter.count for counter in getattr(counted or snapshot, name))

        slots = slot_counts(snapshot)
        values = {
            "waiting": states["unassigned"],
            "running": states["running"],
            "success_rate": rate(states["success"], before["success"]),
            "failed_rate": rate(states["failed"], before["failed"]),
            "workers": len(snapshot.workers),
            "busy_workers": slots.busy,
            "clients": len(snapshot.clients),
            "scheduler_cpu_percent": snapshot.cpu_percent,
            "scheduler_rss_bytes": snapshot.rss_bytes,
            "worker_cpu_percent": sum(worker.cpu_percent for worker in snapshot.workers),
            "worker_rss_bytes": sum(worker.rss_bytes for worker in snapshot.workers),
            "object_count": snapshot.object_count,
            "object_bytes": snapshot.object_bytes,
            "received_rate": rate(messages(snapshot, "received"), messages(last, "received")),
            "sent_rate": rate(messages(snapshot, "sent"), messages(last, "sent")),
            "requested_workers": sum(a.requested_groups * a.workers_per_group for a in snapshot.adapters),
            "utilisation_percent": 100 * slots.busy / slots.slots if slots.slots else 0.0,
            "started": slots.running,
            "queued": slots.queued,
        }
        self.count += 1
        self.times.append(snapshot.time_seconds)
        for name, column in self.columns.items():
            column.append(values[name])
        if len(self.times) > self.limit + self.limit // 8:
            # In larger pieces: dropping samples one by one would move the whole column every second.
            surplus = len(self.times) - self.limit
            for column in (self.times, *self.columns.values()):
                del column[:surplus]

    def after(self, seen: int) -> tuple[int, list[float], dict[str, list[float]]]:
        """Return the count of samples, and those after the first `seen` ones: times, and columns by name."""
        new = min(self.count - seen, len(self.times)) if 0 <= seen <= self.count else len(self.times)
        start = len(self.times) - new
        return self.count, list(self.times[start:]), {name: list(c[start:]) for name, c in self.columns.items()}

    def latest(self, name: str) -> float:
        """Return the newest value of a series; 0 if there is none yet."""
        column = self.columns[name]
        return column[-1] if column else 0.0

    def restore(self, times: Sequence[float], columns: Mapping[str, Sequence[float]]) -> None:
        """Begin with these samples of an earlier process. Series that it did not have are 0."""
        self.times = array("d", times)
        self.columns = {name: array("d", columns.get(name, [0.0] * len(times))) for name in SERIES}
        self.count = len(times)

    def mean(self, name: str, seconds: float) -> float:
        """Return the mean of a series over the last `seconds`; 0 if there is no sample."""
        since = self.times[-1] - seconds if self.times else 0.0
        total = count = 0.0
        for at, value in zip(reversed(self.times), reversed(self.columns[name]), strict=True):
            if at <= since:
                break
            total += value
            count += 1
        return total / count if count else 0.0


def state_counts(snapshot: MonitorSnapshot) -> dict[str, int]:
    """Return task counts by state. States without a count are 0."""
    counts = dict.fromkeys(("unassigned", "running", "success", "failed", "canceled"), 0)
    counts.update((counter.name, counter.count) for counter in snapshot.task_states)
    return counts
