"""The settings of workers, which `scaler_cluster` has, and which worker adapters have too and pass on.

They live here, and not in `scaler_worker`, because adapters start workers as processes and do not import them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field

from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.fence_settings import FenceSettings
from scaler_protocol.service.settings import (
    AddressSetting,
    BytesSetting,
    CapabilitiesSetting,
    ResourcesSetting,
    Short,
    TextListSetting,
)
from scaler_protocol.service.worker_count import check_worker_count

WorkerCountSetting = Annotated[int, AfterValidator(check_worker_count)]
"""The number of workers of one agent."""


class WorkerSettings(EventLoopSettings, FenceSettings):
    """Settings of workers, whether `scaler_cluster` or a worker adapter starts them."""

    per_worker_capabilities: Annotated[CapabilitiesSetting, Short("pwc")] = Field(
        default="",
        validation_alias=AliasChoices("per_worker_capabilities", "worker_capabilities"),
        description="capabilities of each worker, as in linux,cpu=4; tasks may ask for these names",
    )
    resources: Annotated[ResourcesSetting, Short("res")] = Field(
        default="",
        description="counted resources of each host, for all its workers together, as in gpu=2,mem=64GiB,licence=3; cores, mem "
        "and gpu are what the machine has unless they are given here; 0: none",
    )
    gpu_devices: Annotated[TextListSetting, Short("gd")] = Field(
        default=(),
        description="the GPUs of each host, by number or UUID, separated by commas (default: those in CUDA_VISIBLE_DEVICES, "
        "otherwise those that NVML finds)",
    )
    per_worker_task_queue_size: Annotated[int, Short("wtqs")] = Field(
        default=1000,
        ge=1,
        validation_alias=AliasChoices("per_worker_task_queue_size", "worker_task_queue_size", "per_worker_queue_size"),
        description="largest number of tasks that a worker holds, running and waiting",
    )
    heartbeat_interval_seconds: Annotated[float, Short("his", "hi")] = Field(
        default=2,
        gt=0,
        validation_alias=AliasChoices("heartbeat_interval_seconds", "heartbeat_interval"),
        description="seconds between two heartbeats to the scheduler",
    )
    task_timeout_seconds: Annotated[float, Short("tts")] = Field(
        default=0, ge=0, description="seconds after which a running task is stopped and fails; 0: no limit"
    )
    death_timeout_seconds: Annotated[float, Short("dts", "ds")] = Field(
        default=300, gt=0, description="seconds without an answer from a scheduler after which workers stop"
    )
    garbage_collect_interval_seconds: Annotated[float, Short("gc")] = Field(
        default=30, gt=0, description="seconds between two garbage collections in a worker's process"
    )
    trim_memory_threshold_bytes: Annotated[BytesSetting, Short("tm")] = Field(
        default=1024**3,
        ge=0,
        description="resident memory in bytes above which a worker's process returns free memory to the system",
    )
    hard_processor_suspend: Annotated[bool, Short("hps")] = Field(
        default=False,
        description="accepted without effect, for older configurations: a suspended task could not receive results",
    )
    object_storage_address: Annotated[AddressSetting | None, Short("osa")] = Field(
        default=None, description="object storage server, if it is not the one the scheduler names"
    )
    preload: str | None = Field(
        default=None,
        description="call made once in every worker's process before its first task: pkg.module:function(arguments)",
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="accepted for older command lines, without effect: the server needs no further threads",
    )
    task_output_bytes: Annotated[BytesSetting, Short("tob")] = Field(
        default=256 * 1024,
        ge=0,
        le=64 * 1024**2,
        description="how much of what its tasks print and log each worker's process keeps for monitors, in bytes; 0: nothing",
    )
    hide_task_arguments: Annotated[bool, Short("hta")] = Field(
        default=False,
        description="do not keep the arguments of tasks that fail for monitors, which show them shortened beside the error",
    )
