"""How workers run: the settings of `scaler_cluster` that the worker adapters take too and pass on.

They live here, and not in `scaler_worker`, because adapters start workers as processes and do not import them.
"""

from __future__ import annotations

from scaler_protocol.address import Address
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.setting_types import ADDRESS, CAPABILITIES, SWITCH, integer, number, text
from scaler_protocol.service.settings import setting

PRELOAD_CHARACTERS_MAX = 10_000
"""It travels to every process in one packet."""


class WorkerSettings(EventLoopSettings):
    """What may be said about every worker, whoever starts it."""

    per_worker_capabilities: str = setting(
        CAPABILITIES,
        "pwc",
        default="",
        description="what each worker offers, as in linux,cpu=4; a task may ask for these names",
    )
    per_worker_task_queue_size: int = setting(
        integer(at_least=1), "wtqs", default=1000, description="most tasks a worker holds, running and waiting"
    )
    heartbeat_interval_seconds: float = setting(
        number(more_than=0), "his", default=2, description="time between two signs of life to the scheduler"
    )
    task_timeout_seconds: float = setting(
        number(at_least=0),
        "tts",
        default=0,
        description="longest a task may run before it is ended with an error; 0 for no limit",
    )
    death_timeout_seconds: float = setting(
        number(more_than=0), "dts", default=300, description="give up and end when no scheduler answers for so long"
    )
    garbage_collect_interval_seconds: float = setting(
        number(more_than=0),
        "gc",
        default=30,
        description="time between two garbage collections in a worker's process",
    )
    trim_memory_threshold_bytes: int = setting(
        integer(at_least=0),
        "tm",
        default=1024**3,
        description="resident memory above which a worker's process gives free memory back",
    )
    hard_processor_suspend: bool = setting(
        SWITCH,
        "hps",
        default=False,
        description="accepted for older configurations, without effect: a task that waits for its own tasks must hear from them",
    )
    object_storage_address: Address | None = setting(
        ADDRESS,
        "osa",
        default=None,
        description="object storage server, where it differs from what the scheduler says",
    )
    preload: str | None = setting(
        text(at_most=PRELOAD_CHARACTERS_MAX),
        default=None,
        description="run once in every worker's process before its first task: pkg.module:function(arguments)",
    )
    io_threads: int = setting(
        integer(at_least=1),
        "wit",
        default=1,
        also=["worker_io_threads"],
        description="accepted for older command lines; no threads are needed",
    )
