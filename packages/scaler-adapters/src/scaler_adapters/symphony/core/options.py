"""Who an agent in Symphony is, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.capabilities import pinned_slot
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import asked_of


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


def refusal_of(batch: m.TaskBatch) -> str:
    """Return what tasks of a batch ask for that Symphony does not give; empty where there is nothing."""
    if not asked_of(batch.options).idempotent:
        return (
            "idempotent=False cannot be kept in Symphony, which may run a task again by itself; have it run by other workers "
            "(capabilities, host=…), or submit it without this option"
        )
    if batch.capabilities and pinned_slot(batch.capabilities) is not None:
        return "worker=… cannot be kept in Symphony, which puts tasks on its hosts by itself; host=… names its adapter"
    return ""
