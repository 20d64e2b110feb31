"""The settings of `scaler_object_storage_server`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from scaler_protocol.runtime.memory_limit import memory_limit_bytes
from scaler_protocol.service.audit_settings import AuditSettings
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.late_address import LateBindAddressSetting
from scaler_protocol.service.security_settings import ListeningSettings
from scaler_protocol.service.settings import AlsoKey, BytesSetting, CliPositionalArg, Short


def _half_of_memory() -> int:
    return memory_limit_bytes() // 2


class ObjectStorageSettings(ListeningSettings, AuditSettings, EventLoopSettings):
    """Stores large arguments and results of tasks until nobody needs them."""

    command: ClassVar[str] = "scaler_object_storage_server"
    section: ClassVar[str] = "object_storage_server"

    address: Annotated[CliPositionalArg[LateBindAddressSetting], AlsoKey("object_storage_address")] = Field(
        description="address to listen on, as in tcp://127.0.0.1:2346; port 0 chooses a free port; - reads the address from "
        "standard input",
    )
    memory_limit_bytes: Annotated[BytesSetting, Short("ml")] = Field(
        default_factory=_half_of_memory,
        gt=0,
        description="memory for stored objects in bytes; unless given, half of the memory of this machine or container. Beyond "
        "it objects go to --storage-path, or are refused without one",
    )
    storage_path: Annotated[Path | None, Short("sp")] = Field(
        default=None,
        description="folder for objects that do not fit into memory, which a restarted server takes over; each server needs "
        "its own (default: none, and all objects stay in memory)",
    )
    disk_limit_bytes: Annotated[BytesSetting | None, Short("dl")] = Field(
        default=None,
        gt=0,
        description="largest size of all objects in --storage-path in bytes (default: as much as the disk takes)",
    )
    storage_fsync: Annotated[bool, Short("sf")] = Field(
        default=False,
        description="wait until each object in --storage-path has reached the disk, so that it survives a power failure too",
    )
    object_size_limit_bytes: Annotated[BytesSetting, Short("osl")] = Field(
        default=16 * 1024**3, gt=0, description="largest size of one object in bytes"
    )
    object_retention_seconds: Annotated[float, Short("ot")] = Field(
        default=600,
        ge=10,
        description="how long the objects of a client are kept of which neither it nor its scheduler says that it lives",
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="accepted for older command lines, without effect: the server needs no further threads",
    )

    @model_validator(mode="after")
    def _check_disk(self) -> Self:
        if self.storage_path is None and (self.disk_limit_bytes is not None or self.storage_fsync):
            flag = "--storage-fsync" if self.disk_limit_bytes is None else "--disk-limit-bytes"
            raise ValueError(f"{flag} says how --storage-path is used, which is not given")
        return self
