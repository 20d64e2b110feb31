"""What every worker adapter can be told: whom its workers serve, and where its webhook listens."""

from __future__ import annotations

from pathlib import Path

from scaler_protocol.address import Address
from scaler_protocol.service.setting_types import ADDRESS, PATH, SWITCH, integer, text
from scaler_protocol.service.settings import positional, setting
from scaler_protocol.service.worker_settings import WorkerSettings


class WebhookSettings(WorkerSettings):
    """Settings of a worker adapter: those of its webhook, and those of the workers it starts."""

    address: Address = positional(
        ADDRESS,
        also_key="scheduler_address",
        description="scheduler that the workers serve, as in tcp://127.0.0.1:2345",
    )
    host: str = setting(
        text(),
        default="127.0.0.1",
        also=["adapter_web_host"],
        description="network interface the webhook listens on",
    )
    port: int = setting(
        integer(at_least=0, at_most=65_535),
        "p",
        default=8080,
        also=["adapter_web_port"],
        description="port the webhook listens on; 0 takes a free one",
    )
    auth_token_file: Path | None = setting(
        PATH, "atf", default=None, description="file with the token that callers of the webhook must give"
    )
    insecure: bool = setting(
        SWITCH, default=False, description="let the webhook listen beyond this machine without a token"
    )
