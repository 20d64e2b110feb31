"""Who an agent in Symphony is, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.wire import messages as m


@dataclass(slots=True, frozen=True)
class SymphonyOptions:
    """The settings of one agent. Times are in seconds."""

    name: str
    incarnation: bytes
    worker_names: tuple[str, ...]
    """One per slot: as many as the base concurrency."""
    scheduler_address: str
    capabilities: m.Capabilities = ()
    hostname: str = ""
    pid: int = 0
    queue_limit: int = 1000
    heartbeat_seconds: float = 2.0
    death_timeout_seconds: float = 300.0
    task_timeout_seconds: float = 0.0
    """0 for no limit."""
    object_storage_address: str = ""
    """Empty for the one that the scheduler names."""
    security_dir: str = ""
    """Where hosts of Symphony have the worker's key, for clients inside tasks; empty without keys."""


def hello_of(options: SymphonyOptions) -> m.Hello:
    """Return what an agent says of itself to the scheduler."""
    return m.Hello(
        role=m.Role.AGENT,
        name=options.name,
        incarnation=options.incarnation,
        worker_names=options.worker_names,
        capabilities=options.capabilities,
        hostname=options.hostname,
        pid=options.pid,
        capacity=0,
        queue_limit=options.queue_limit,
    )
