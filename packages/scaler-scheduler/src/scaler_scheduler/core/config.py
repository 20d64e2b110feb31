"""What a scheduler core needs to know before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Times are in seconds. See `scaler_scheduler.settings` for the meaning to users."""

    incarnation: bytes
    object_storage_address: str = ""
    monitor_address: str = ""
    enforce_capabilities: bool = False
    waiting_tasks_max: int = -1
    client_timeout: float = 60.0
    worker_timeout: float = 60.0
    object_retention: float = 60.0
    load_balance_interval: float = 1.0
    load_balance_trigger_times: int = 2
    attempts_max: int = 3
    protected: bool = False
    heartbeat: float = 2.0
    recovery_grace: float = 6.0
    """After a start, tasks that clients announce again wait this long for the agents that may hold them."""
    disconnect_grace: float = 5.0
    """An agent whose connection closed may come back within this time."""
    unservable_grace: float = 2.0
    """A task whose capabilities nobody has is reported to its client after this time."""
    snapshot_interval: float = 1.0
