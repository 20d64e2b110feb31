"""Figures over time: one sample per snapshot. The last hour is kept, as columns."""

from __future__ import annotations

from array import array

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
)
"""Rates are per second. The CPU of workers is the sum over all of them; 100 is one busy core."""


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

        values = {
            "waiting": states["unassigned"],
            "running": states["running"],
            "success_rate": rate(states["success"], before["success"]),
            "failed_rate": rate(states["failed"], before["failed"]),
            "workers": len(snapshot.workers),
            "busy_workers": sum(worker.state == ProcessorState.RUNNING for worker in snapshot.workers),
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


def state_counts(snapshot: MonitorSnapshot) -> dict[str, int]:
    """Return task counts by state. States without a count are 0."""
    counts = dict.fromkeys(("unassigned", "running", "success", "failed", "canceled"), 0)
    counts.update((counter.name, counter.count) for counter in snapshot.task_states)
    return counts
