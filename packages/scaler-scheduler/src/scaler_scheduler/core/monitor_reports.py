"""What monitors are told and when: task events and failures as they happen, a snapshot of everything once a second."""

from __future__ import annotations

from scaler_scheduler.core import effects, events
from scaler_scheduler.core.jobs.keeping import Jobs
from scaler_scheduler.core.monitor import StoreFigures
from scaler_scheduler.core.resource_waits import resource_waits
from scaler_scheduler.core.scaling import Scaling
from scaler_scheduler.core.state import SchedulerState

STORE_ANSWER_SECONDS = 0.5
"""How long a snapshot waits for the figures of the object storage server when a monitor has come."""


class MonitorReports:
    """Publishes what `Monitor` keeps, while anybody listens."""

    def __init__(self, state: SchedulerState, scaling: Scaling | None, jobs: Jobs, now: float) -> None:
        self._config = state.config
        self._started_at = state.started_at
        self._clients = state.clients
        self._agents = state.agents
        self._functions = state.functions
        self._ready = state.ready
        self._resources = state.resources
        self._monitor = state.monitor
        self._outbox = state.outbox
        self._scaling = scaling
        self._jobs = jobs
        self._snapshot_at = self._snapshot_due = now
        """When the next snapshot goes out, and when it would if that did not wait for the object storage server."""
        self._watched = False
        """Whether any monitor listens."""
        self._unix_offset = 0.0

    def next_deadline(self) -> float:
        """Return when the next snapshot is due; inf while nobody listens."""
        return self._snapshot_at if self._watched else float("inf")

    def on_store_report(self, event: events.StoreReported) -> None:
        """Keep the figures of the object storage server. A snapshot may have waited for them."""
        self._monitor.store = StoreFigures.of(event.status)
        self._snapshot_at = min(self._snapshot_at, self._snapshot_due)

    def on_tick(self, tick: events.Tick, now: float) -> None:
        """Take in who listens, before anything else happens at this tick."""
        self._watched = tick.monitors > 0
        if tick.joined and tick.store_asked:
            # What was last heard of the store is as old as the last monitor, or nothing yet.
            self._snapshot_at = max(self._snapshot_due, now + STORE_ANSWER_SECONDS)
        if self._monitor.listening and not tick.events:
            self._monitor.forget_events()
        self._monitor.listening = tick.events
        if tick.unix_time:
            self._unix_offset = tick.unix_time - now

    def publish(self, tick: events.Tick, now: float) -> None:
        """Publish what is new, after everything else at this tick."""
        if not self._watched:
            return
        if self._monitor.listening:
            happened = self._monitor.take_events(self._functions, now, self._unix_offset)
            if happened is not None:
                self._outbox.add(effects.Publish(happened))
        failures = self._monitor.failures(self._unix_offset, all_kept=tick.joined)
        if failures is not None:
            self._outbox.add(effects.Publish(failures))
        if now >= self._snapshot_at:
            self._snapshot_at = self._snapshot_due = now + self._config.snapshot_interval_seconds
            if self._scaling is not None:
                self._monitor.adapters = self._scaling.statuses()
                self._monitor.scaling_events = self._scaling.log.events(self._unix_offset)
            snapshot = self._monitor.snapshot(
                now,
                tick.unix_time,
                self._started_at,
                tick.cpu_percent,
                tick.rss_bytes,
                list(self._agents.by_peer.values()),
                self._clients,
                self._functions,
                self._jobs.statuses(),
                self._jobs.count,
                resource_waits(self._ready.lines, self._agents, self._resources),
            )
            self._outbox.add(effects.Publish(snapshot))
