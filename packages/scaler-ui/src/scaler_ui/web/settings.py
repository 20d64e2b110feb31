"""The settings of `scaler_ui`."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AliasChoices, Field, field_validator

from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.late_address import LateAddressSetting
from scaler_protocol.service.settings import (
    AlsoKey,
    CliPositionalArg,
    Secret,
    Short,
    TakesSeveral,
    TextListSetting,
)
from scaler_protocol.service.web_settings import WebServiceSettings


class WebSettings(WebServiceSettings, CommandSettings):
    """Shows in a browser what a cluster is doing, at http://HOST:PORT.

    The scheduler logs MONITOR_ADDRESS when it starts.
    """

    command: ClassVar[str] = "scaler_ui"
    section: ClassVar[str] = "webui"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("scaler_ui tcp://127.0.0.1:2347", "pages at http://127.0.0.1:50001, for this machine"),
        ("scaler_ui tcp://127.0.0.1:2347 --host 0.0.0.0 --token-file token", "for other machines too, with a token"),
    )
    token_variable: ClassVar[str] = "SCALER_UI_TOKEN"

    monitor_address: Annotated[CliPositionalArg[LateAddressSetting], AlsoKey("address")] = Field(
        description="monitor address of the scheduler, as in tcp://127.0.0.1:2347",
    )
    host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("host", "web_host"),
        description="network interface to listen on; needs --token-file if other machines can reach it",
    )
    port: int = Field(
        default=50_001,
        ge=0,
        le=65_535,
        validation_alias=AliasChoices("port", "web_port"),
        description="port to listen on; 0 chooses a free port",
    )
    token: Annotated[str, Secret()] = Field(
        default="", description="the token itself; other users of this machine can see it, so prefer --token-file"
    )
    timeout: Annotated[float, Short("t")] = Field(
        default=5, gt=0, description="seconds without a message after which the scheduler is shown as silent"
    )
    history_file: str = Field(
        default="",
        description="keep the last hour of figures in this file (half a megabyte), so that it survives a restart of the pages",
    )

    allowed_frames: Annotated[TextListSetting, TakesSeveral()] = Field(
        default=(),
        description="sites whose pages may show these in a frame, such as notebooks, as in http://localhost:8888 or "
        "http://localhost:* (default: none)",
    )
    otel_endpoint: str = Field(
        default="",
        description="send finished tasks as OpenTelemetry spans to this OTLP/HTTP receiver, as in http://127.0.0.1:4318",
    )

    @field_validator("allowed_frames")
    @classmethod
    def _check_frames(cls, frames: tuple[str, ...]) -> tuple[str, ...]:
        for frame in frames:
            if not re.fullmatch(r"https?://[\w.\-\[\]]+(:(\d+|\*))?", frame, re.ASCII):
                raise ValueError(f"{frame!r} is not of the form http://localhost:8888")
        return frames

    @field_validator("otel_endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str) -> str:
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{endpoint!r} is not a URL that begins with http:// or https://")
        return endpoint
