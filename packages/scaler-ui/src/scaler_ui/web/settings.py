"""The settings of `scaler_ui`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AliasChoices, Field

from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.settings import AddressSetting, AlsoKey, CliPositionalArg


class WebSettings(CommandSettings):
    """Shows in a browser what a cluster is doing, at http://HOST:PORT.

    MONITOR_ADDRESS is printed by the scheduler when it starts.
    """

    command: ClassVar[str] = "scaler_ui"
    section: ClassVar[str] = "webui"

    monitor_address: Annotated[CliPositionalArg[AddressSetting], AlsoKey("address")] = Field(
        description="monitor address of the scheduler, as in tcp://127.0.0.1:2347",
    )
    host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("host", "web_host"),
        description="network interface to listen on",
    )
    port: int = Field(
        default=50_001,
        ge=0,
        le=65_535,
        validation_alias=AliasChoices("port", "web_port"),
        description="port to listen on; 0 takes a free one",
    )
