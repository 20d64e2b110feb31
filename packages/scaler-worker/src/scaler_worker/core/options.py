"""Who an agent is and what it may do."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.wire import messages as m


@dataclass(slots=True, frozen=True)
class AgentOptions:
    """What an agent is told when it is made. It has one slot per name in `worker_names`."""

    name: str
    incarnation: bytes
    worker_names: tuple[str, ...]
    capabilities: m.Capabilities = ()
    resources: str = ""
    """What the host offers for all workers together."""
    devices: tuple[str, ...] = ()
    """Its GPUs, as many as it offers."""
    enforces_memory: bool = False
    """Whether tasks that ask for memory end when they take more."""
    hostname: str = ""
    pid: int = 0
    queue_limit: int = 1000
    """Most tasks held per slot."""
    heartbeat_seconds: float = 2.0
    task_timeout_seconds: float = 0.0
    """Longest a task may run; 0 for no limit."""
    death_timeout_seconds: float = 300.0
    """How long the scheduler may be silent before the agent gives up."""
    scheduler_address: str = ""
    """Named by the error if no scheduler answers."""
    scheduler_addresses: tuple[str, ...] = ()
    """Where there are several schedulers: their addresses, in the order in which they are tried."""
    object_storage_address: str = ""
    """Overrides what the scheduler says."""
    object_cache_bytes: int = 1024**3
    memory_bytes: int = 0
    """The memory of the host or container; 0: not known."""
    processor_limit_bytes: int = 0
    """What one processor may use of it; 0: there is no limit."""
    identity_prefix: bytes = b""
    """How the ids of clients inside its tasks begin; empty without keys."""


def hello_of(options: AgentOptions) -> m.Hello:
    """Return the message with which the agent introduces itself to a scheduler."""
    return m.Hello(
        role=m.Role.AGENT,
        name=options.name,
        incarnation=options.incarnation,
        hostname=options.hostname,
        pid=options.pid,
        worker_names=options.worker_names,
        capabilities=options.capabilities,
        # Nothing, until a new session has heard what is held (`Inventory`): a scheduler that came back would send
        # an attempt that is under way here a second time. What is wanted follows at once, in a heartbeat.
        capacity=0,
        queue_limit=options.queue_limit,
        takes_chains=True,
        resources=options.resources,
        devices=options.devices,
        memory_bytes=options.memory_bytes,
        processor_limit_bytes=options.processor_limit_bytes,
    )
