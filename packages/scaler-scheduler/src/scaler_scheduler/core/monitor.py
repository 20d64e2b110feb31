"""Figures for people. Counting costs a few additions per batch; events are kept only while somebody listens."""

from __future__ import annotations

from array import array
from collections import Counter as Count
from collections.abc import Iterable
from typing import TYPE_CHECKING

from scaler_protocol import messages as m
from scaler_protocol.columns import Column

if TYPE_CHECKING:
    from scaler_scheduler.core.agents import AgentRecord
    from scaler_scheduler.core.clients import ClientRecord
    from scaler_scheduler.core.functions import FunctionRegistry
    from scaler_scheduler.core.tasks import Task

EVENTS_MAX = 100_000
"""Events kept between two publications; more are counted and dropped."""

NO_WORKER = 0xFFFF


class Monitor:
    """Counts and, while `listening`, task events."""

    def __init__(self, incarnation: bytes) -> None:
        self.listening = False
        self.sent: Count[str] = Count()
        self.received: Count[str] = Count()
        self.success_count = 0
        self.failed_count = 0
        self.canceled_count = 0
        self.stale_count = 0
        """Results that were dropped because the task was answered, cancelled or given to somebody else."""
        self._incarnation = incarnation
        self._sequence = 0
        self._events: list[tuple[float, bytes, int, int, str, bytes, int]] = []
        self._dropped = 0

    def record(
        self, state: m.TaskEvent, tasks: Iterable[Task], worker: str, now: float, durations: Iterable[int] = ()
    ) -> None:
        """Note what happened to tasks. Call only while `listening`."""
        taken = iter(durations)
        for task in tasks:
            if len(self._events) >= EVENTS_MAX:
                self._dropped += 1
                continue
            duration = next(taken, 0)
            client_id = task.options.client.id
            self._events.append((now, client_id, task.number, state, worker, task.function, duration))

    def take_events(self, functions: FunctionRegistry, unix_offset: float) -> m.MonitorEvents | None:
        """Return what was noted since the last call as one message, or None."""
        if not self._events and not self._dropped:
            return None
        clients: dict[bytes, int] = {}
        workers: dict[str, int] = {}
        names: dict[bytes, int] = {}
        columns: dict[str, list[int]] = {name: [] for name in ("c", "n", "s", "w", "f", "d")}
        times = array("d")
        for at, client_id, number, state, worker, function, duration in self._events:
            times.append(at + unix_offset)
            columns["c"].append(clients.setdefault(client_id, len(clients)))
            columns["n"].append(number)
            columns["s"].append(state)
            columns["w"].append(workers.setdefault(worker, len(workers)) if worker else NO_WORKER)
            columns["f"].append(names.setdefault(function, len(names)))
            columns["d"].append(duration)
        self._events.clear()
        self._sequence += 1
        message = m.MonitorEvents(
            sequence=self._sequence,
            time_seconds=times,
            clients=columns["c"],
            client_table=tuple(clients),
            numbers=columns["n"],
            states=columns["s"],
            workers=columns["w"],
            worker_table=tuple(workers),
            functions=columns["f"],
            function_table=tuple(functions.name(function) for function in names),
            durations=columns["d"],
            dropped=self._dropped,
        )
        self._dropped = 0
        return message

    def snapshot(
        self,
        now: float,
        unix_time: float,
        cpu_percent: float,
        rss_bytes: int,
        agents: Iterable[AgentRecord],
        clients: Iterable[ClientRecord],
        function_counts: dict[str, int],
    ) -> m.MonitorSnapshot:
        self._sequence += 1
        workers = tuple(status for agent in agents for status in _worker_statuses(agent, now))
        client_statuses = tuple(_client_status(client, now) for client in clients)
        running = sum(client.running for client in client_statuses)
        return m.MonitorSnapshot(
            sequence=self._sequence,
            time_seconds=unix_time,
            incarnation=self._incarnation,
            cpu_percent=cpu_percent,
            rss_bytes=rss_bytes,
            task_states=(
                m.Counter("unassigned", sum(client.waiting for client in client_statuses)),
                m.Counter("running", running),
                m.Counter("success", self.success_count),
                m.Counter("failed", self.failed_count),
                m.Counter("canceled", self.canceled_count),
            ),
            sent=tuple(m.Counter(name, count) for name, count in sorted(self.sent.items())),
            received=tuple(m.Counter(name, count) for name, count in sorted(self.received.items())),
            workers=workers,
            clients=client_statuses,
            functions=tuple(m.Counter(name, count) for name, count in sorted(function_counts.items())),
        )


def _worker_statuses(agent: AgentRecord, now: float) -> Iterable[m.WorkerStatus]:
    """One row per worker. Tasks are assigned to the host; they are shown spread over its workers."""
    beat = agent.heartbeat
    names = agent.hello.worker_names or (agent.hello.name,)
    count = len(names)
    capabilities = ",".join(name if value == -1 else f"{name}={value}" for name, value in agent.hello.capabilities)
    assigned, queued = len(agent.tasks), min(beat.queued, len(agent.tasks))
    limit = agent.hello.queue_limit or agent.capacity
    for index, name in enumerate(names):

        def spread(total: int, index: int = index) -> int:
            return total // count + (index < total % count)

        def of(column: Column, default: int = 0, index: int = index) -> int:
            return column[index] if index < len(column) else default

        sent = spread(assigned)
        yield m.WorkerStatus(
            name=name,
            agent=agent.hello.name,
            hostname=agent.hello.hostname,
            pid=of(beat.processor_pids),
            state=of(beat.processor_states, m.ProcessorState.STARTING),
            agent_cpu_percent=beat.cpu_percent,
            agent_rss_bytes=beat.rss_bytes,
            cpu_percent=of(beat.processor_cpu_percents) / 10,
            rss_bytes=of(beat.processor_rss_bytes),
            rss_free_bytes=beat.rss_free_bytes,
            free=max(0, limit - sent),
            sent=sent,
            queued=min(sent, spread(queued)),
            capabilities=capabilities,
            latency_seconds=beat.latency_seconds,
            last_seen_seconds=max(0.0, now - agent.last_seen),
        )


def _client_status(client: ClientRecord, now: float) -> m.ClientStatus:
    waiting_rows = sum(graph.waiting for graph in client.graphs)
    return m.ClientStatus(
        name=client.name,
        incarnation=client.id,
        hostname=client.hello.hostname,
        pid=client.hello.pid,
        waiting=len(client.tasks) - client.assigned_count + waiting_rows,
        running=client.assigned_count,
        finished=client.finished_count,
        failed=client.failed_count,
        last_seen_seconds=max(0.0, now - client.last_seen),
    )
