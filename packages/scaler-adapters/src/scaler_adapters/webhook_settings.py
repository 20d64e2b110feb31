"""What every worker adapter can be told: whom its workers serve, and where its webhook listens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field

from scaler_protocol.service.settings import AddressSetting, AlsoKey, CliPositionalArg, Short
from scaler_protocol.service.worker_settings import WorkerSettings


class WebhookSettings(WorkerSettings):
    """Settings of a worker adapter: those of its webhook, and those of the workers it starts."""

    address: Annotated[CliPositionalArg[AddressSetting], AlsoKey("scheduler_address")] = Field(
        description="scheduler that the workers serve, as in tcp://127.0.0.1:2345",
    )
    host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("host", "adapter_web_host"),
        description="network interface the webhook listens on",
    )
    port: Annotated[int, Short("p")] = Field(
        default=8080,
        ge=0,
        le=65_535,
        validation_alias=AliasChoices("port", "adapter_web_port"),
        description="port the webhook listens on; 0 takes a free one",
    )
    auth_token_file: Annotated[Path | None, Short("atf")] = Field(
        default=None, description="file with the token that callers of the webhook must give"
    )
    insecure: bool = Field(default=False, description="let the webhook listen beyond this machine without a token")
