"""The settings of `scaler_top`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

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
    """Shows in a terminal what a cluster is doing.

    The scheduler logs MONITOR_ADDRESS when it starts.
    """

    command: ClassVar[str] = "scaler_top"
    section: ClassVar[str] = "top"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("scaler_top tcp://127.0.0.1:2347", "watch the cluster; ? shows the keys"),
        ("scaler_top tcp://127.0.0.1:2347 --once --json", "print the figures once, for scripts"),
    )

    monitor_address: Annotated[CliPositionalArg[AddressSetting], AlsoKey("address")] = Field(
        description="monitor address of the scheduler, as in tcp://127.0.0.1:2347",
    )
    # It draws on the whole terminal, so log lines need another place.
    logging_paths: Annotated[TextListSetting, Short("lp"), TakesSeveral()] = Field(
        default=(), description="files to log to, as several words or separated by commas; missing folders are created"
    )
    timeout: Annotated[float, Short("t")] = Field(
        default=5, gt=0, description="seconds without a message after which the scheduler is shown as silent"
    )
    once: bool = Field(
        default=False, description="print the figures once and exit; the status is 1 if no message arrives in time"
    )
    # pydantic models have a method `json`, so the field needs another name.
    as_json: Annotated[bool, Short("j")] = Field(
        default=False,
        validation_alias=AliasChoices("json", "as_json"),
        description="with --once, print one JSON object, for scripts",
    )

    @model_validator(mode="after")
    def _json_is_for_once(self) -> Self:
        if self.as_json and not self.once:
            raise ValueError("--json needs --once: it prints one object and exits")
        return self
