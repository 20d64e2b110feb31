"""The settings of `scaler_object_storage_server`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AliasChoices, Field

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
        description="largest size of all stored objects in bytes; unless given, half of the memory of this machine or container",
    )
    object_size_limit_bytes: Annotated[BytesSetting, Short("osl")] = Field(
        default=16 * 1024**3, gt=0, description="largest size of one object in bytes"
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="accepted for older command lines, without effect: the server needs no further threads",
    )
