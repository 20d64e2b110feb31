"""What a scheduler core needs to know before it starts.

A number that users set is declared here and nowhere else: its field is also the flag and the TOML key of that name. The
command's settings (`scaler_scheduler.settings`) and its help are made from these declarations. The core is not imported here:
settings are read before that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scaler_protocol.runtime.resources import normal_amounts
from scaler_scheduler.group_shares import GroupShare
from scaler_scheduler.policy.listed import PLACEMENT_POLICIES


@dataclass(frozen=True, slots=True)
class Flag:
    """How users set a field of `SchedulerConfig`."""

    short: str
    """The short form of the flag, without its dash."""
    meaning: str
    """One sentence for the command's help."""
    above: float | None = None
    """Exclusive lower bound."""
    at_least: float | None = None
    """Inclusive lower bound."""
    choices: tuple[str, ...] = ()
    """The texts that are allowed, where not any is."""
    read: Callable[[Any], Any] | None = None
    """Checks what was given, and returns it in its usual form; raises ValueError."""


def _flag(default: Any, short: str, meaning: str, **limits: Any) -> Any:
    return field(default=default, metadata={"flag": Flag(short, meaning, **limits)})


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """Who is asked for workers, and how. Times are in seconds."""

    strategy: str
    """A value of `policy.scaling.Strategy`."""
    urls: tuple[str, ...]
    """Webhooks of the worker adapters, in the order in which they are filled."""
    arrival_seconds: float = 60.0
    """Workers that an adapter has started must have connected after so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Everything that one scheduler differs from another in."""

    incarnation: bytes
    object_storage_address: str = ""
    monitor_address: str = ""
    address: str = ""
    """Where clients connect, as monitors are told."""
    dashboard_url: str = ""
    """Where people see this cluster in a browser; empty: nowhere that is known."""
    scaling: ScalingConfig | None = None
    """None: nobody is asked for workers."""
    shares: tuple[GroupShare, ...] = ()
    """The groups of clients that share the cluster; empty: all clients are equal."""
    is_first: bool = True
    """Whether it accepts peers. One that does not is the standby of another scheduler, and tells them so."""
    term: int = 0
    """Its number among all times that some scheduler became the first one; see `core.succession`."""

    # --- what users set

    scaling_cool_down_seconds: float = _flag(
        30, "scd", "seconds that workers are kept after they were last needed", at_least=0
    )
    no_worker_timeout_seconds: float = _flag(
        0,
        "nwt",
        "seconds after which a task fails if no worker can run it and none is starting; 0: never",
        at_least=0,
    )
    protected: bool = _flag(False, "p", "refuse requests of clients to shut the cluster down")
    ends_cluster: bool = _flag(
        False,
        "ec",
        "the cluster ends with this scheduler: when it is stopped, workers stop too, and clients are told at once",
    )
    allocate_policy: str = _flag(
        "capability",
        "ap",
        "how tasks are assigned: "
        + "; ".join(f"{name} {policy.summary}" for name, policy in PLACEMENT_POLICIES.items()),
        choices=tuple(PLACEMENT_POLICIES),
    )
    resources: str = _flag(
        "",
        "rs",
        "limits for the whole cluster, as in licence=3: tasks that ask for these names never have more at a time",
        read=normal_amounts,
    )
    max_number_of_tasks_waiting: int = _flag(
        -1,
        "mt",
        "largest number of tasks that wait for a worker; then clients must wait before they submit more; tasks that no worker "
        "can run count against their own client only; -1: no limit",
        at_least=-1,
    )
    max_task_attempts: int = _flag(
        3, "mta", "how many times a task is tried if workers die while they run it", at_least=1
    )
    client_timeout_seconds: float = _flag(
        60,
        "ct",
        "seconds without a message after which a client counts as lost and its tasks are cancelled",
        above=0,
    )
    worker_timeout_seconds: float = _flag(
        60,
        "wt",
        "seconds without a message after which workers count as lost and their tasks run elsewhere",
        above=0,
    )
    object_retention_seconds: float = _flag(
        60, "ot", "seconds that objects are kept after the client that owns them was lost", at_least=0
    )
    load_balance_seconds: float = _flag(
        1, "ls", "seconds between two checks of how evenly waiting tasks are spread", above=0
    )
    load_balance_trigger_times: int = _flag(
        2, "lbt", "uneven checks in a row after which waiting tasks are moved", at_least=1
    )
    standby_lease_seconds: float = _flag(
        3, "sls", "seconds without a sign of life of the first scheduler after which its standby takes over", at_least=1
    )
    jobs_max: int = _flag(1000, "jm", "largest number of jobs, which are tasks that outlive their client", at_least=0)
    job_tasks_max: int = _flag(1_000_000, "jtm", "largest number of tasks in one job", at_least=1)
    jobs_bytes_max: int = _flag(
        1 << 30, "jbm", "largest size of the arguments and results of all jobs together, in bytes", at_least=0
    )
    job_keep_seconds: float = _flag(
        7 * 86400.0, "jks", "seconds that a job is kept after its last task has ended, unless it says itself", above=0
    )

    # --- what is the same for all users

    keeps_jobs: bool = False
    """Whether the shell keeps journals of jobs, so that they are there after a restart."""
    journals_wait: bool = False
    """Whether answers that say that something is kept wait until the shell says that it is there."""
    jobs_are_elsewhere: bool = False
    """Whether another scheduler has the journals, or they cannot be read: until then no job is made, and none is answered."""
    unix_offset_seconds: float = 0.0
    """Unix time when the core's clock shows 0."""

    heartbeat_seconds: float = 2.0
    """Peers send a sign of life as often as this."""
    recovery_grace_seconds: float = 6.0
    """After a start, tasks that clients announce again wait this long for the agents that may hold them."""
    disconnect_grace_seconds: float = 5.0
    """An agent whose connection closed may come back within this time."""
    unservable_grace_seconds: float = 2.0
    """A task whose capabilities nobody has is reported to its client after this time."""
    snapshot_interval_seconds: float = 1.0
    """How often monitors get a snapshot."""


def flags() -> Mapping[str, tuple[Any, Flag]]:
    """Return the default and the flag of each field that users set."""
    return {item.name: (item.default, item.metadata["flag"]) for item in fields(SchedulerConfig) if item.metadata}
