"""The settings of `scaler_scheduler`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from scaler_protocol.address import Address
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.settings import (
    AddressSetting,
    AlsoKey,
    BindAddressSetting,
    CliPositionalArg,
    Short,
    TakesSeveral,
    TextListSetting,
)

ScalingStrategy = Literal["none", "vanilla", "fixed_elastic", "capability"]

_WEBHOOK_URLS_NEEDED: dict[ScalingStrategy, int] = {"vanilla": 1, "fixed_elastic": 2, "capability": 1}


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class SchedulerSettings(EventLoopSettings):
    """Assigns tasks of clients to workers, and keeps each task until its result has arrived.

    Clients and workers connect to ADDRESS. The scheduler starts an object storage server unless one is named.
    """

    command: ClassVar[str] = "scaler_scheduler"
    section: ClassVar[str] = "scheduler"

    address: Annotated[CliPositionalArg[BindAddressSetting], AlsoKey("scheduler_address")] = Field(
        description="address that clients and workers connect to, as in tcp://127.0.0.1:2345; port 0 chooses a free port"
    )
    object_storage_address: Annotated[AddressSetting | None, Short("osa")] = Field(
        default=None, description="object storage server to use (default: one is started on the port after ADDRESS)"
    )
    monitor_address: Annotated[BindAddressSetting | None, Short("ma")] = Field(
        default=None, description="address that monitors connect to (default: two ports after ADDRESS)"
    )
    scaling_controller_strategy: Annotated[ScalingStrategy | None, BeforeValidator(_lower), Short("scs")] = Field(
        default=None,
        description="how the scheduler requests workers from worker adapters: none, vanilla (one adapter), "
        "fixed_elastic (two), capability (any number); default: vanilla if there is a webhook URL, otherwise none",
    )
    adapter_webhook_urls: Annotated[TextListSetting, Short("awu"), TakesSeveral()] = Field(
        default=(),
        validation_alias=AliasChoices("adapter_webhook_urls", "adapter_webhook_url"),
        description="webhooks of the worker adapters to use, as in http://127.0.0.1:8080",
    )
    adapter_webhook_token_file: Annotated[Path | None, Short("awtf")] = Field(
        default=None, description="file with the token that the worker adapters require"
    )
    scaling_cool_down_seconds: Annotated[float, Short("scd")] = Field(
        default=30, ge=0, description="seconds that workers are kept after they were last needed"
    )
    no_worker_timeout_seconds: Annotated[float, Short("nwt")] = Field(
        default=0,
        ge=0,
        description="seconds after which a task fails if no worker can run it and none is starting; 0: never",
    )
    protected: Annotated[bool, Short("p")] = Field(
        default=False, description="refuse requests of clients to shut the cluster down"
    )
    ends_cluster: Annotated[bool, Short("ec")] = Field(
        default=False,
        description="the cluster ends with this scheduler: when it is stopped, workers stop too, and clients are told at once",
    )
    allocate_policy: Annotated[Literal["even", "capability"], BeforeValidator(_lower), Short("ap")] = Field(
        default="capability",
        description="how tasks are assigned: capability sends each task to a worker that offers the capabilities it "
        "asks for, even ignores capabilities; both spread tasks evenly",
    )
    max_number_of_tasks_waiting: Annotated[int, Short("mt")] = Field(
        default=-1,
        ge=-1,
        description="largest number of tasks that wait for a worker; then clients must wait before they submit more; "
        "tasks that no worker can run count against their own client only; -1: no limit",
    )
    max_task_attempts: Annotated[int, Short("mta")] = Field(
        default=3, ge=1, description="how many times a task is tried if workers die while they run it"
    )
    client_timeout_seconds: Annotated[float, Short("ct")] = Field(
        default=60,
        gt=0,
        description="seconds without a message after which a client counts as lost and its tasks are cancelled",
    )
    worker_timeout_seconds: Annotated[float, Short("wt")] = Field(
        default=60,
        gt=0,
        description="seconds without a message after which workers count as lost and their tasks run elsewhere",
    )
    object_retention_seconds: Annotated[float, Short("ot")] = Field(
        default=60, ge=0, description="seconds that objects are kept after the client that owns them was lost"
    )
    load_balance_seconds: Annotated[float, Short("ls")] = Field(
        default=1, gt=0, description="seconds between two checks of how evenly waiting tasks are spread"
    )
    load_balance_trigger_times: Annotated[int, Short("lbt")] = Field(
        default=2, ge=1, description="uneven checks in a row after which waiting tasks are moved"
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="number of threads that send to monitors",
    )

    @field_validator("adapter_webhook_urls")
    @classmethod
    def _check_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is not of the form http://127.0.0.1:8080")
        return urls

    @model_validator(mode="after")
    def _check_scaling(self) -> Self:
        strategy, urls = self.scaling_strategy, self.adapter_webhook_urls
        needed = _WEBHOOK_URLS_NEEDED.get(strategy, 0)
        if len(urls) < needed or (urls and strategy != "capability" and len(urls) > needed):
            raise ValueError(
                f"--scaling-controller-strategy {strategy} goes with {needed} --adapter-webhook-urls, not {len(urls)}"
            )
        return self

    @model_validator(mode="after")
    def _check_object_storage(self) -> Self:
        # Its own server's address is also what clients and workers are told.
        own = self.own_object_storage_address
        if own is not None and own.is_wildcard:
            raise ValueError(
                f"ADDRESS: {self.address} does not say where clients and workers can reach the object storage server beside "
                "it; give an address of this machine, or --object-storage-address"
            )
        return self

    @property
    def scaling_strategy(self) -> ScalingStrategy:
        """The strategy in effect: what was asked for, else vanilla as soon as there is an adapter to ask."""
        return self.scaling_controller_strategy or ("vanilla" if self.adapter_webhook_urls else "none")

    @property
    def monitor_bind_address(self) -> Address:
        """Where to publish: what was asked for, else two ports after `address`."""
        return self.monitor_address or self.address.with_port_offset(2)

    @property
    def own_object_storage_address(self) -> Address | None:
        """Where to start an object storage server; None when an existing one was named."""
        return self.address.with_port_offset(1) if self.object_storage_address is None else None
