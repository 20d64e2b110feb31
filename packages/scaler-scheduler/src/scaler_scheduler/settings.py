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
    """Routes tasks from clients to workers, and remembers each until it is answered.

    Clients and workers connect to ADDRESS. Unless an object storage server is named, one is started beside it.
    """

    command: ClassVar[str] = "scaler_scheduler"
    section: ClassVar[str] = "scheduler"

    address: Annotated[CliPositionalArg[BindAddressSetting], AlsoKey("scheduler_address")] = Field(
        description="where clients and workers connect, as in tcp://127.0.0.1:2345; port 0 takes a free one"
    )
    object_storage_address: Annotated[AddressSetting | None, Short("osa")] = Field(
        default=None, description="object storage server to use; without it, one is started on the port after ADDRESS"
    )
    monitor_address: Annotated[BindAddressSetting | None, Short("ma")] = Field(
        default=None, description="where monitors connect (default: two ports after ADDRESS)"
    )
    scaling_controller_strategy: Annotated[ScalingStrategy | None, BeforeValidator(_lower), Short("scs")] = Field(
        default=None,
        description="when worker adapters are asked for more or fewer workers: none, vanilla (one adapter), "
        "fixed_elastic (two), capability (default: vanilla with a webhook url, else none)",
    )
    adapter_webhook_urls: Annotated[TextListSetting, Short("awu"), TakesSeveral()] = Field(
        default=(),
        validation_alias=AliasChoices("adapter_webhook_urls", "adapter_webhook_url"),
        description="worker adapters to ask for workers, as in http://127.0.0.1:8080",
    )
    adapter_webhook_token_file: Annotated[Path | None, Short("awtf")] = Field(
        default=None, description="file with the token that the worker adapters ask for"
    )
    scaling_cool_down_seconds: Annotated[float, Short("scd")] = Field(
        default=30, ge=0, description="how long workers that are not needed any more are kept"
    )
    no_worker_timeout_seconds: Annotated[float, Short("nwt")] = Field(
        default=0,
        ge=0,
        description="a task that no worker can run, with none on their way, fails after this time; 0: never",
    )
    protected: Annotated[bool, Short("p")] = Field(
        default=False, description="refuse a client's wish to shut the cluster down"
    )
    ends_cluster: Annotated[bool, Short("ec")] = Field(
        default=False,
        description="no other scheduler comes after this one: when it is stopped, workers end, and clients hear so at once",
    )
    allocate_policy: Annotated[Literal["even", "capability"], BeforeValidator(_lower), Short("ap")] = Field(
        default="capability",
        description="capability sends a task to workers that offer what it asks for, and spreads tasks that ask for nothing "
        "evenly; even spreads all tasks over all workers, whatever they ask for",
    )
    max_number_of_tasks_waiting: Annotated[int, Short("mt")] = Field(
        default=-1,
        ge=-1,
        description="tasks that may wait for a worker before clients are held back (those that nobody can run hold back their "
        "own client only); -1 for no limit",
    )
    max_task_attempts: Annotated[int, Short("mta")] = Field(
        default=3, ge=1, description="how often a task is started whose worker dies while running it"
    )
    client_timeout_seconds: Annotated[float, Short("ct")] = Field(
        default=60, gt=0, description="silence after which a client counts as lost and its tasks are cancelled"
    )
    worker_timeout_seconds: Annotated[float, Short("wt")] = Field(
        default=60, gt=0, description="silence after which a worker counts as lost and its tasks go elsewhere"
    )
    object_retention_seconds: Annotated[float, Short("ot")] = Field(
        default=60, ge=0, description="how long objects are kept after the client that owns them is lost"
    )
    load_balance_seconds: Annotated[float, Short("ls")] = Field(
        default=1, gt=0, description="time between two looks at how evenly waiting tasks are spread"
    )
    load_balance_trigger_times: Annotated[int, Short("lbt")] = Field(
        default=2, ge=1, description="uneven looks in a row before waiting tasks are moved"
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="threads that send to monitors",
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
