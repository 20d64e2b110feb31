"""The settings of `scaler_top`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.settings import (
    AddressSetting,
    AlsoKey,
    CliPositionalArg,
    Short,
    TakesSeveral,
    TextListSetting,
)


class TopSettings(CommandSettings):
    """Shows in a terminal what a cluster is doing, like top.

    MONITOR_ADDRESS is printed by the scheduler when it starts.
    """

    command: ClassVar[str] = "scaler_top"
    section: ClassVar[str] = "top"

    monitor_address: Annotated[CliPositionalArg[AddressSetting], AlsoKey("address")] = Field(
        description="monitor address of the scheduler, as in tcp://127.0.0.1:2347",
    )
    # It draws on the whole terminal, where log lines would be in the way.
    logging_paths: Annotated[TextListSetting, Short("lp"), TakesSeveral()] = Field(
        default=(), description="files to log to, several words or separated by commas; missing folders are created"
    )
    timeout: Annotated[float, Short("t")] = Field(
        default=5, gt=0, description="seconds of silence after which the scheduler is shown as not answering"
    )
