"""The settings of every worker adapter: the scheduler of its workers, and the address of its webhook."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AliasChoices, Field

from scaler_protocol.service.settings import AddressListSetting, AlsoKey, CliPositionalArg, Short
from scaler_protocol.service.web_settings import WebServiceSettings
from scaler_protocol.service.worker_settings import WorkerSettings


class WebhookSettings(WebServiceSettings, WorkerSettings):
    """Settings of a worker adapter: those of its webhook, and those of the workers it starts."""

    token_variable: ClassVar[str] = "SCALER_ADAPTER_TOKEN"

    address: Annotated[CliPositionalArg[AddressListSetting], AlsoKey("scheduler_address")] = Field(
        description="scheduler that the workers connect to, as in tcp://127.0.0.1:2345, or several (a scheduler and its "
        "standby), separated by commas",
    )
    host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("host", "adapter_web_host"),
        description="network interface that the webhook listens on",
    )
    port: Annotated[int, Short("p")] = Field(
        default=8080,
        ge=0,
        le=65_535,
        validation_alias=AliasChoices("port", "adapter_web_port"),
        description="port that the webhook listens on; 0 chooses a free port",
    )
