"""The settings of `scaler_trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.settings import AddressSetting, AlsoKey, CliPositionalArg, Short


class TraceSettings(CommandSettings):
    """Watches a cluster for some seconds and writes when each task ran on which worker, as a Chrome trace for Perfetto.

    The scheduler logs MONITOR_ADDRESS when it starts.
    """

    command: ClassVar[str] = "scaler_trace"
    section: ClassVar[str] = "trace"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "scaler_trace tcp://127.0.0.1:2347 --seconds 30 --output trace.json",
            "record half a minute for https://ui.perfetto.dev",
        ),
    )

    monitor_address: Annotated[CliPositionalArg[AddressSetting], AlsoKey("address")] = Field(
        description="monitor address of the scheduler, as in tcp://127.0.0.1:2347",
    )
    output: Annotated[Path, Short("o")] = Field(default=Path("scaler-trace.json"), description="file to write")
    seconds: Annotated[float, Short("s")] = Field(
        default=10,
        gt=0,
        le=86_400,
        description="seconds to watch, from the scheduler's first message on; Ctrl-C ends earlier",
    )
    timeout: Annotated[float, Short("t")] = Field(
        default=5, gt=0, description="seconds to wait for the scheduler's first message"
    )
