"""How workers run: the settings of `scaler_cluster` that the worker adapters take too and pass on.

They live here, and not in `scaler_worker`, because adapters start workers as processes and do not import them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field

from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.settings import AddressSetting, CapabilitiesSetting, Short
from scaler_protocol.service.worker_count import check_worker_count

WorkerCountSetting = Annotated[int, AfterValidator(check_worker_count)]
"""How many workers one agent has."""


class WorkerSettings(EventLoopSettings):
    """What may be said about every worker, whoever starts it."""

    per_worker_capabilities: Annotated[CapabilitiesSetting, Short("pwc")] = Field(
        default="", description="what each worker offers, as in linux,cpu=4; a task may ask for these names"
    )
    per_worker_task_queue_size: Annotated[int, Short("wtqs")] = Field(
        default=1000, ge=1, description="most tasks a worker holds, running and waiting"
    )
    heartbeat_interval_seconds: Annotated[float, Short("his")] = Field(
        default=2, gt=0, description="time between two signs of life to the scheduler"
    )
    task_timeout_seconds: Annotated[float, Short("tts")] = Field(
        default=0, ge=0, description="longest a task may run before it is ended with an error; 0 for no limit"
    )
    death_timeout_seconds: Annotated[float, Short("dts")] = Field(
        default=300, gt=0, description="give up and end when no scheduler answers for so long"
    )
    garbage_collect_interval_seconds: Annotated[float, Short("gc")] = Field(
        default=30, gt=0, description="time between two garbage collections in a worker's process"
    )
    trim_memory_threshold_bytes: Annotated[int, Short("tm")] = Field(
        default=1024**3, ge=0, description="resident memory above which a worker's process gives free memory back"
    )
    hard_processor_suspend: Annotated[bool, Short("hps")] = Field(
        default=False,
        description="accepted for older configurations, without effect: a task that waits for its own tasks must hear from them",
    )
    object_storage_address: Annotated[AddressSetting | None, Short("osa")] = Field(
        default=None, description="object storage server, where it differs from what the scheduler says"
    )
    preload: str | None = Field(
        default=None,
        description="run once in every worker's process before its first task: pkg.module:function(arguments)",
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="accepted for older command lines; no threads are needed",
    )
