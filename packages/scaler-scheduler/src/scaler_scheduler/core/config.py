"""What a scheduler core needs to know before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """How workers are asked for. Times are in seconds."""

    strategy: str
    """A value of `policy.scaling.Strategy`."""
    urls: tuple[str, ...]
    """Webhooks of the worker adapters, in the order in which they are filled."""
    cool_down_seconds: float = 30.0
    """Workers that are not needed any more are kept for so long."""
    arrival_seconds: float = 60.0
    """Workers that an adapter has started must have connected after so long."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Times are in seconds. See `scaler_scheduler.settings` for the meaning to users."""

    incarnation: bytes
    object_storage_address: str = ""
    monitor_address: str = ""
    enforce_capabilities: bool = True
    waiting_tasks_max: int = -1
    client_timeout: float = 60.0
    worker_timeout: float = 60.0
    object_retention: float = 60.0
    load_balance_interval: float = 1.0
    load_balance_trigger_times: int = 2
    attempts_max: int = 3
    protected: bool = False
    ends_cluster: bool = False
    """Nobody comes after this scheduler: when it is stopped, the whole cluster ends."""
    heartbeat: float = 2.0
    recovery_grace: float = 6.0
    """After a start, tasks that clients announce again wait this long for the agents that may hold them."""
    disconnect_grace: float = 5.0
    """An agent whose connection closed may come back within this time."""
    unservable_grace: float = 2.0
    """A task whose capabilities nobody has is reported to its client after this time."""
    no_worker_timeout: float = 0.0
    """A task that nobody can run fails after this time; 0: it waits."""
    snapshot_interval: float = 1.0
    scaling: ScalingConfig | None = None
    """None: nobody is asked for workers."""
