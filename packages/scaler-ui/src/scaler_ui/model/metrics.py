"""The model as Prometheus metrics. Every name begins with `scaler_` and ends with its unit; docs/monitoring.md explains them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scaler_protocol.runtime.resources import ONE, Amounts, ResourcesError, parse_amounts
from scaler_protocol.wire.messages import MonitorSnapshot, Tally
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.figures import counts
from scaler_ui.model.history import state_counts
from scaler_ui.model.jobs import STATES


def render_metrics(model: ClusterModel, silent_s: float) -> bytes:
    """Return the text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ModelCollector(model, silent_s))
    return generate_latest(registry)


WAITING = ("submitted", "returned")
"""The states of tasks without a worker."""


class _ModelCollector(Collector):
    def __init__(self, model: ClusterModel, silent_s: float) -> None:
        self._model = model
        self._silent_s = silent_s

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics of the model."""
        model = self._model
        yield _gauge("scaler_monitor_silence_seconds", "Time since the scheduler's last snapshot", self._silent_s)
        yield _counter("scaler_monitor_missed_messages", "Monitor messages that did not arrive", model.missed_messages)
        yield _counter("scaler_scheduler_restarts", "Scheduler processes seen after the first", model.restarts)
        if model.snapshot is not None:
            yield from _of_snapshot(model.snapshot)
            yield _gauge(
                "scaler_oldest_waiting_task_seconds",
                "Time that the oldest known task has waited for a worker; 0: none waits",
                _oldest_waiting_s(model, model.snapshot.time_seconds),
            )


def _oldest_waiting_s(model: ClusterModel, now: float) -> float:
    """Return how long the oldest task without a worker has waited, of those whose submission was seen."""
    since = (row.submitted_at for row in model.tasks.unfinished if row.state in WAITING and row.submitted_at)
    return max(0.0, now - min(since, default=now))


def _of_snapshot(snapshot: MonitorSnapshot) -> Iterable[Metric]:
    states = state_counts(snapshot)
    yield _gauges("scaler_tasks", "Unfinished tasks", "state", {s: states[s] for s in ("unassigned", "running")})
    finished = {s: states[s] for s in ("success", "failed", "canceled")}
    yield _counters("scaler_tasks_finished", "Finished tasks since the scheduler started", "result", finished)
    yield _counter("scaler_items_failed", "Items of map chunks that failed", snapshot.failed_items)
    yield _counter(
        "scaler_stale_results", "Results dropped because their attempt was no longer valid", snapshot.stale_results
    )
    yield _counter("scaler_task_events_omitted", "Task events not published to monitors", snapshot.events_omitted)
    functions = counts(snapshot.functions)
    yield _gauges("scaler_function_tasks", "Unfinished tasks by function", "function", functions)
    failed = counts(snapshot.failed_functions)
    yield _counters("scaler_function_tasks_failed", "Failed tasks by function", "function", failed)
    yield _gauge("scaler_scheduler_is_standby", "1 while another scheduler is first", float(snapshot.standby))
    yield _gauge("scaler_scheduler_cpu_percent", "CPU of the scheduler process; 100 is one core", snapshot.cpu_percent)
    yield _gauge("scaler_scheduler_memory_bytes", "Resident memory of the scheduler process", snapshot.rss_bytes)
    yield _gauge("scaler_scheduler_start_time_seconds", "Unix time of its start", snapshot.started_seconds)
    sent, received = counts(snapshot.sent), counts(snapshot.received)
    yield _counters("scaler_scheduler_messages_sent", "Messages sent, by kind", "kind", sent)
    yield _counters("scaler_scheduler_messages_received", "Messages received, by kind", "kind", received)
    yield _gauge("scaler_workers", "Connected workers", len(snapshot.workers))
    yield _gauge("scaler_agents", "Connected agents; each has one or more workers", len(snapshot.agents))
    yield _gauge("scaler_clients", "Connected clients", len(snapshot.clients))
    yield from _of_tallies("client", snapshot.client_names)
    yield from _of_tallies("label", snapshot.labels)
    yield from _of_groups(snapshot)
    yield from _of_jobs(snapshot)
    yield _gauge("scaler_graphs", "Graphs in progress", len(snapshot.graphs))
    yield _gauge("scaler_objects", "Objects in storage", snapshot.object_count)
    yield _gauge(
        "scaler_object_memory_bytes", "Memory that objects use; identical objects count once", snapshot.object_bytes
    )
    yield _gauge("scaler_object_memory_limit_bytes", "Memory that objects may use", snapshot.object_limit_bytes)
    yield from _of_workers(snapshot)
    yield from _of_adapters(snapshot)


def _of_tallies(what: str, tallies: Iterable[Tally]) -> Iterable[Metric]:
    unfinished = GaugeMetricFamily(f"scaler_{what}_tasks", f"Unfinished tasks by {what}", labels=(what,))
    finished = CounterMetricFamily(
        f"scaler_{what}_tasks_finished",
        f"Finished tasks by {what} since the scheduler started",
        labels=(what, "result"),
    )
    for tally in tallies:
        unfinished.add_metric((tally.name,), tally.unfinished)
        finished.add_metric((tally.name, "success"), tally.succeeded)
        finished.add_metric((tally.name, "failed"), tally.failed)
    yield from (unfinished, finished)


def _of_groups(snapshot: MonitorSnapshot) -> Iterable[Metric]:
    weight = GaugeMetricFamily("scaler_group_weight", "Weight of a group of clients (--share)", labels=("group",))
    clients = GaugeMetricFamily("scaler_group_clients", "Connected clients of a group", labels=("group",))
    tasks = GaugeMetricFamily("scaler_group_tasks", "Unfinished tasks of a group", labels=("group", "state"))
    used = CounterMetricFamily(
        "scaler_group_core_seconds",
        "Running time of a group's tasks that have ended since the scheduler started",
        labels=("group",),
    )
    refused = CounterMetricFamily(
        "scaler_group_tasks_refused", "Tasks refused because as many of their group waited as may", labels=("group",)
    )
    for group in snapshot.groups:
        of_group = (group.name,)
        weight.add_metric(of_group, group.weight)
        clients.add_metric(of_group, group.clients)
        tasks.add_metric((group.name, "waiting"), group.waiting)
        tasks.add_metric((group.name, "running"), group.running)
        used.add_metric(of_group, group.used_seconds)
        refused.add_metric(of_group, group.refused)
    yield from (weight, clients, tasks, used, refused)


def _of_jobs(snapshot: MonitorSnapshot) -> Iterable[Metric]:
    yield _gauge("scaler_jobs", "Jobs at the scheduler", snapshot.job_count)
    kept = sum(job.size_bytes for job in snapshot.jobs)
    yield _gauge("scaler_job_bytes", "Arguments and results kept for jobs, of the 1,000 that changed last", kept)
    tasks = {state: float(sum(getattr(job, state) for job in snapshot.jobs)) for state in STATES}
    yield _gauges("scaler_job_tasks", "Tasks of jobs, of the 1,000 that changed last", "state", tasks)


def _of_workers(snapshot: MonitorSnapshot) -> Iterable[Metric]:
    labels = ("worker", "agent", "host")
    cpu = GaugeMetricFamily("scaler_worker_cpu_percent", "CPU of the worker's process; 100 is one core", labels=labels)
    memory = GaugeMetricFamily("scaler_worker_memory_bytes", "Resident memory of the worker's process", labels=labels)
    assigned = GaugeMetricFamily("scaler_worker_tasks", "Tasks assigned to the worker", labels=labels)
    for worker in snapshot.workers:
        values = (worker.name, worker.agent, worker.hostname)
        cpu.add_metric(values, worker.cpu_percent)
        memory.add_metric(values, worker.rss_bytes)
        assigned.add_metric(values, worker.sent)
    yield from (cpu, memory, assigned)
    of_agent = ("agent", "host")
    free = GaugeMetricFamily(
        "scaler_agent_host_memory_free_bytes", "Free memory on the agent's machine", labels=of_agent
    )
    latency = GaugeMetricFamily(
        "scaler_agent_latency_seconds", "Round trip between agent and scheduler", labels=of_agent
    )
    silence = GaugeMetricFamily("scaler_agent_silence_seconds", "Time since the agent's last message", labels=of_agent)
    for agent in snapshot.agents:
        free.add_metric((agent.name, agent.hostname), agent.rss_free_bytes)
        latency.add_metric((agent.name, agent.hostname), agent.latency_seconds)
        silence.add_metric((agent.name, agent.hostname), agent.last_seen_seconds)
    yield from (free, latency, silence)
    of_resource = (*of_agent, "resource")
    offered = GaugeMetricFamily("scaler_resource_offered", "What the agent's host offers to tasks", labels=of_resource)
    used = GaugeMetricFamily("scaler_resource_used", "What of this tasks are using", labels=of_resource)
    for agent in snapshot.agents:
        in_use = dict(_amounts(agent.resources_used))
        for name, amount in _amounts(agent.resources):
            offered.add_metric((agent.name, agent.hostname, name), amount / ONE)
            used.add_metric((agent.name, agent.hostname, name), in_use.get(name, 0) / ONE)
    yield from (offered, used)


def _amounts(told: str) -> Amounts:
    """Read a list of amounts. One that cannot be read must not take all other numbers away."""
    try:
        return parse_amounts(told)
    except ResourcesError:
        return ()


def _of_adapters(snapshot: MonitorSnapshot) -> Iterable[Metric]:
    groups = GaugeMetricFamily("scaler_adapter_groups", "Worker groups of an adapter", labels=("adapter", "kind"))
    for adapter in snapshot.adapters:
        groups.add_metric((adapter.url, "existing"), adapter.groups)
        groups.add_metric((adapter.url, "requested"), adapter.requested_groups)
        groups.add_metric((adapter.url, "starting"), adapter.starting_groups)
    yield groups


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
