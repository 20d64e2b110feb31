"""The settings of `scaler_object_storage_server`."""

from __future__ import annotations

import os
from typing import ClassVar

from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.late_address import LateAddress, or_on_input
from scaler_protocol.service.setting_types import BIND_ADDRESS, integer
from scaler_protocol.service.settings import positional, setting


def _half_of_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class ObjectStorageSettings(EventLoopSettings):
    """Holds the bytes of large arguments and results by id until nobody needs them."""

    command: ClassVar[str] = "scaler_object_storage_server"
    section: ClassVar[str] = "object_storage_server"

    address: LateAddress = positional(
        or_on_input(BIND_ADDRESS),
        also_key="object_storage_address",
        description="where to listen, as in tcp://127.0.0.1:2346; port 0 takes a free one; - reads it from standard "
        "input",
    )
    memory_limit_bytes: int = setting(
        integer(at_least=1),
        "ml",
        default_factory=_half_of_memory,
        description="bytes of objects held in memory at most, by default half of this machine's memory",
    )
    object_size_limit_bytes: int = setting(
        integer(at_least=1), "osl", default=16 * 1024**3, description="largest object that is accepted"
    )
    io_threads: int = setting(
        integer(at_least=1),
        "wit",
        default=1,
        also=["worker_io_threads"],
        description="accepted for older command lines; no threads are needed",
    )
