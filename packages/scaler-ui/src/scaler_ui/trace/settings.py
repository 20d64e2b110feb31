"""The settings of `scaler_trace`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from scaler_protocol.address import Address
from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.setting_types import ADDRESS, PATH, number
from scaler_protocol.service.settings import positional, setting


class TraceSettings(CommandSettings):
    """Watches a cluster for some seconds and writes what ran where and when as a Chrome trace, which Perfetto opens.

    MONITOR_ADDRESS is printed by the scheduler when it starts.
    """

    command: ClassVar[str] = "scaler_trace"
    section: ClassVar[str] = "trace"

    monitor_address: Address = positional(
        ADDRESS, also_key="address", description="monitor address of the scheduler, as in tcp://127.0.0.1:2347"
    )
    output: Path = setting(PATH, "o", default=Path("scaler-trace.json"), description="file to write")
    seconds: float = setting(
        number(more_than=0, at_most=86_400),
        "s",
        default=10,
        description="seconds to watch, from the scheduler's first sign of life; Ctrl-C ends earlier",
    )
    timeout: float = setting(
        number(more_than=0), "t", default=5, description="seconds to wait for the scheduler's first sign of life"
    )
