"""The settings of `scaler_cluster`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from scaler_protocol.service.late_address import LateAddressListSetting
from scaler_protocol.service.security_settings import InsecureSettings
from scaler_protocol.service.settings import (
    AlsoKey,
    BindAddressSetting,
    BytesSetting,
    CliPositionalArg,
    Protective,
    Short,
    TextListSetting,
)
from scaler_protocol.service.worker_count import check_worker_count
from scaler_protocol.service.worker_settings import WorkerCountSetting, WorkerSettings


def _default_worker_count(earlier: dict[str, Any]) -> int:
    return len(earlier.get("worker_names", ())) or os.cpu_count() or 1


class ClusterSettings(InsecureSettings, WorkerSettings):
    """Runs workers on this machine for the scheduler at ADDRESS.

    Each worker runs one task at a time in a process of its own.
    """

    command: ClassVar[str] = "scaler_cluster"
    section: ClassVar[str] = "cluster"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("scaler_cluster tcp://127.0.0.1:2345", "a worker for each CPU"),
        (
            "scaler_cluster tcp://scheduler:2345 --num-of-workers 8 --per-worker-capabilities gpu",
            "eight workers that also run tasks which ask for gpu",
        ),
        (
            "scaler_cluster tcp://scheduler:2345 --preload my_package.models:load --task-timeout-seconds 600",
            "workers that load something once, and end tasks after ten minutes",
        ),
    )

    address: Annotated[CliPositionalArg[LateAddressListSetting], AlsoKey("scheduler_address")] = Field(
        description="scheduler to connect to, as in tcp://127.0.0.1:2345, or several (a scheduler and its standby), separated "
        "by commas; - reads the address from standard input",
    )
    worker_names: Annotated[TextListSetting, Short("wn")] = Field(
        default=(), description="names of the workers, separated by commas (default: host name and number)"
    )
    num_of_workers: Annotated[WorkerCountSetting, Short("n")] = Field(
        default_factory=_default_worker_count,
        description="number of workers (default: the number of --worker-names, otherwise of CPUs)",
    )

    object_storage: bool = Field(
        default=False,
        description="run an object storage server beside the workers: large results stay on their host, and other hosts fetch "
        "them from there",
    )
    object_storage_bind_address: BindAddressSetting | None = Field(
        default=None,
        description="where that server listens, and other hosts reach it (default: a free port at the address from which this "
        "host reaches the scheduler)",
    )
    object_storage_memory_bytes: BytesSetting | None = Field(
        default=None,
        gt=0,
        description="memory for the objects of that server, in bytes (default: half of the memory of this machine or container)",
    )
    object_storage_security_dir: Annotated[Path | None, Protective()] = Field(
        default=None,
        description="directory with the keys of a server for it, as `scaler_keys export DIR server OUT` makes it (default: "
        "--security-dir, if it has them)",
    )

    @model_validator(mode="after")
    def _check_object_storage(self) -> Self:
        names = ("object_storage_bind_address", "object_storage_memory_bytes", "object_storage_security_dir")
        given = [name for name in names if getattr(self, name) is not None]
        if given and not self.object_storage:
            flag = given[0].replace("_", "-")
            raise ValueError(f"--{flag} is for the server that --object-storage starts, which is not given")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = self.worker_names
        # What is made from them is no value that was given.
        check_worker_count(self.num_of_workers)
        if names and len(names) != self.num_of_workers:
            raise ValueError(f"--worker-names has {len(names)} names for --num-of-workers {self.num_of_workers}")
        if len(set(names)) != len(names):
            raise ValueError("--worker-names gives the same name to two workers")
        return self
