"""The settings of `scaler_scheduler`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from scaler_protocol.address import Address
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.setting_types import (
    ADDRESS,
    BIND_ADDRESS,
    PATH,
    SWITCH,
    choice,
    integer,
    number,
    several,
    text,
)
from scaler_protocol.service.settings import positional, setting

AllocatePolicy = Literal["even", "capability"]
ScalingStrategy = Literal["none", "vanilla", "fixed_elastic", "capability"]

_WEBHOOK_URLS_NEEDED: dict[ScalingStrategy, int] = {"vanilla": 1, "fixed_elastic": 2, "capability": 1}


def _check_url(url: str) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not of the form http://127.0.0.1:8080")


class SchedulerSettings(EventLoopSettings):
    """Routes tasks from clients to workers, and remembers each until it is answered.

    Clients and workers connect to ADDRESS. Unless an object storage server is named, one is started beside it.
    """

    command: ClassVar[str] = "scaler_scheduler"
    section: ClassVar[str] = "scheduler"

    address: Address = positional(
        BIND_ADDRESS,
        also_key="scheduler_address",
        description="where clients and workers connect, as in tcp://127.0.0.1:2345; port 0 takes a free one",
    )
    object_storage_address: Address | None = setting(
        ADDRESS,
        "osa",
        default=None,
        description="object storage server to use; without it, one is started on the port after ADDRESS",
    )
    monitor_address: Address | None = setting(
        BIND_ADDRESS, "ma", default=None, description="where monitors connect (default: two ports after ADDRESS)"
    )
    scaling_controller_strategy: ScalingStrategy | None = setting(
        choice(ScalingStrategy),
        "scs",
        default=None,
        description="when worker adapters are asked for more or fewer workers: none, vanilla (one adapter), "
        "fixed_elastic (two), capability (default: vanilla with a webhook url, else none)",
    )
    adapter_webhook_urls: tuple[str, ...] = setting(
        several(text(check=_check_url)),
        "awu",
        default=(),
        also=["adapter_webhook_url"],
        takes_several=True,
        description="worker adapters to ask for workers, as in http://127.0.0.1:8080",
    )
    adapter_webhook_token_file: Path | None = setting(
        PATH, "awtf", default=None, description="file with the token that the worker adapters ask for"
    )
    scaling_cool_down_seconds: float = setting(
        number(at_least=0), "scd", default=30, description="how long workers that are not needed any more are kept"
    )
    no_worker_timeout_seconds: float = setting(
        number(at_least=0),
        "nwt",
        default=0,
        description="a task that no worker can run, with none on their way, fails after this time; 0: never",
    )
    protected: bool = setting(SWITCH, "p", default=False, description="refuse a client's wish to shut the cluster down")
    allocate_policy: AllocatePolicy = setting(
        choice(AllocatePolicy),
        "ap",
        default="even",
        description="even spreads tasks over all workers; capability looks for workers that offer what a task asks for",
    )
    max_number_of_tasks_waiting: int = setting(
        integer(at_least=-1),
        "mt",
        default=-1,
        description="tasks that may wait for a worker before clients are held back; -1 for no limit",
    )
    max_task_attempts: int = setting(
        integer(at_least=1),
        "mta",
        default=3,
        description="how often a task is started whose worker dies while running it",
    )
    client_timeout_seconds: float = setting(
        number(more_than=0),
        "ct",
        default=60,
        description="silence after which a client counts as lost and its tasks are cancelled",
    )
    worker_timeout_seconds: float = setting(
        number(more_than=0),
        "wt",
        default=60,
        description="silence after which a worker counts as lost and its tasks go elsewhere",
    )
    object_retention_seconds: float = setting(
        number(at_least=0),
        "ot",
        default=60,
        description="how long objects are kept after the client that owns them is lost",
    )
    load_balance_seconds: float = setting(
        number(more_than=0),
        "ls",
        default=1,
        description="time between two looks at how evenly waiting tasks are spread",
    )
    load_balance_trigger_times: int = setting(
        integer(at_least=1), "lbt", default=2, description="uneven looks in a row before waiting tasks are moved"
    )
    io_threads: int = setting(
        integer(at_least=1),
        "wit",
        default=1,
        also=["worker_io_threads"],
        description="threads that send to monitors",
    )

    def check(self) -> None:
        strategy, urls = self.scaling_strategy, self.adapter_webhook_urls
        needed = _WEBHOOK_URLS_NEEDED.get(strategy, 0)
        if len(urls) < needed or (urls and strategy != "capability" and len(urls) > needed):
            raise ValueError(
                f"--scaling-controller-strategy {strategy} goes with {needed} --adapter-webhook-urls, not {len(urls)}"
            )

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
