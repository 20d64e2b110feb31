"""The settings of `scaler_scheduler`.

What only the process needs is declared here. What the core needs is declared in `config` and becomes a setting too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_type_hints
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, create_model, field_validator, model_validator
from pydantic_settings import NoDecode

from scaler_protocol.address import Address
from scaler_protocol.service.audit_settings import AuditSettings
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.secret_files import read_secret
from scaler_protocol.service.security_settings import ListeningSettings
from scaler_protocol.service.settings import (
    AddressSetting,
    AlsoKey,
    BindAddressSetting,
    BytesSetting,
    CliPositionalArg,
    Short,
    TakesSeveral,
    TextListSetting,
)
from scaler_protocol.service.storage_url import RedisUrl, S3Url, StorageUrl, parse_endpoint, parse_storage_url
from scaler_scheduler.config import Flag, ScalingConfig, SchedulerConfig, flags
from scaler_scheduler.group_shares import parse_shares, share_texts

ScalingStrategy = Literal["none", "vanilla", "fixed_elastic", "capability"]

_WEBHOOK_URLS_NEEDED: dict[ScalingStrategy, int] = {"vanilla": 1, "fixed_elastic": 2, "capability": 1}

_OF_OWN_STORAGE = (
    "object_storage_memory_bytes",
    "object_storage_path",
    "object_storage_url",
    "object_storage_endpoint",
    "object_storage_password_file",
    "object_storage_timeout_seconds",
    "object_storage_disk_bytes",
)


ShareSetting = Annotated[tuple[str, ...], NoDecode, BeforeValidator(share_texts)]
"""Groups of clients, a text for each: a TOML table, an array, or one text separated by commas."""


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class _ProcessSettings(ListeningSettings, AuditSettings, EventLoopSettings):
    """Assigns tasks of clients to workers, and keeps each task until its result has arrived.

    Clients and workers connect to ADDRESS. The scheduler starts an object storage server unless one is named.
    """

    command: ClassVar[str] = "scaler_scheduler"
    section: ClassVar[str] = "scheduler"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "scaler_scheduler tcp://127.0.0.1:2345",
            "for programs and workers on this machine; monitors connect to port 2347",
        ),
        (
            "scaler_scheduler tcp://0.0.0.0:2345 --security-dir keys",
            "for other machines too, with keys that scaler_keys has made",
        ),
        (
            "scaler_scheduler tcp://127.0.0.1:2345 --adapter-webhook-urls http://127.0.0.1:8080",
            "with workers that an adapter starts when they are needed",
        ),
    )

    address: Annotated[CliPositionalArg[BindAddressSetting], AlsoKey("scheduler_address")] = Field(
        description="address that clients and workers connect to, as in tcp://127.0.0.1:2345; port 0 chooses a free port"
    )
    object_storage_address: Annotated[AddressSetting | None, Short("osa")] = Field(
        default=None, description="object storage server to use (default: one is started on the port after ADDRESS)"
    )
    object_storage_memory_bytes: Annotated[BytesSetting | None, Short("osm")] = Field(
        default=None,
        gt=0,
        description="memory for the objects of the object storage server that the scheduler starts, in bytes (default: half "
        "of the memory of this machine or container)",
    )
    object_storage_path: Annotated[Path | None, Short("osp")] = Field(
        default=None,
        description="folder for objects that do not fit into that memory, which a restarted server takes over (default: none)",
    )
    object_storage_url: Annotated[str | None, Short("osu")] = Field(
        default=None,
        description="instead of that folder, a Redis or Valkey server or a bucket of S3, as --storage-url of "
        "scaler_object_storage_server (default: none)",
    )
    object_storage_endpoint: Annotated[str | None, Short("ose")] = Field(
        default=None, description="URL of a store other than AWS that speaks S3; for --object-storage-url s3://…"
    )
    object_storage_password_file: Annotated[Path | None, Short("ospf")] = Field(
        default=None,
        description="file with the password for --object-storage-url redis://…, which only its owner may read",
    )
    object_storage_timeout_seconds: Annotated[float | None, Short("ost")] = Field(
        default=None,
        gt=0,
        le=600,
        description="longest time that one request to --object-storage-url may take (default: 20)",
    )
    object_storage_disk_bytes: Annotated[BytesSetting | None, Short("osd")] = Field(
        default=None,
        gt=0,
        description="largest size of all objects in that folder or store, in bytes (default: as much as it takes)",
    )
    storage_path: Annotated[Path | None, Short("sp")] = Field(
        default=None,
        description="folder where jobs are kept, with their results, for a scheduler that is started after this one; the object "
        "storage server that the scheduler starts has a part of it, unless it is told otherwise (default: none: jobs live as "
        "long as the scheduler)",
    )
    storage_url: Annotated[str | None, Short("su")] = Field(
        default=None,
        description="instead of that folder, a Redis or Valkey server, as in redis://host:6379/0/scaler, or a bucket of S3, as "
        "in s3://bucket/scaler, where jobs are kept, so that they outlive this host; objects do not go there, but to "
        "--object-storage-url (default: none)",
    )
    storage_endpoint: Annotated[str | None, Short("se")] = Field(
        default=None, description="URL of a store other than AWS that speaks S3; for --storage-url s3://…"
    )
    storage_password_file: Annotated[Path | None, Short("spf")] = Field(
        default=None, description="file with the password for --storage-url redis://…, which only its owner may read"
    )
    monitor_address: Annotated[BindAddressSetting | None, Short("ma")] = Field(
        default=None, description="address that monitors connect to (default: two ports after ADDRESS)"
    )
    standby_of: Annotated[AddressSetting | None, Short("so")] = Field(
        default=None,
        description="address of the first scheduler: this one accepts nobody until that one is gone, and then takes over",
    )
    standby_lease: Annotated[str | None, Short("sl")] = Field(
        default=None,
        description="a Redis or Valkey server, as in redis://host:6379/0/scaler: of all schedulers that name the same one, the "
        "first is the one that has a lease there, and the others are standbys",
    )
    standby_lease_password_file: Annotated[Path | None, Short("slpf")] = Field(
        default=None, description="file with the password for --standby-lease, which only its owner may read"
    )
    dashboard_url: Annotated[str, Short("du")] = Field(
        default="",
        description="where scaler_ui shows this cluster, as in http://host:50001; clients tell it to people "
        "(Client.dashboard_url)",
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
    share: Annotated[ShareSetting, Short("sh"), TakesSeveral()] = Field(
        default=(),
        description="groups of clients and their weights, as in pricing=3,research=1: while both have tasks waiting, one gets "
        "three times the core seconds of the other; limits may follow, as in research=1:max_running=100:max_waiting=1000; with "
        "keys, clients are in the group that is named as their key, otherwise they name theirs; the others are in group default",
    )
    adapter_webhook_token_file: Annotated[Path | None, Short("awtf")] = Field(
        default=None, description="file with the token that the worker adapters require"
    )
    adapter_webhook_ca_file: Annotated[Path | None, Short("awcf")] = Field(
        default=None,
        description="certificates (PEM) that the https webhooks of worker adapters are checked against, instead of those of "
        "the public authorities",
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="accepted for older command lines, without effect: the scheduler needs no further threads",
    )

    @field_validator("share")
    @classmethod
    def _check_shares(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(str, parse_shares(texts)))

    @field_validator("adapter_webhook_urls")
    @classmethod
    def _check_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is not of the form http://127.0.0.1:8080")
        return urls

    @field_validator("standby_lease")
    @classmethod
    def _check_lease(cls, text: str | None) -> str | None:
        if text is not None and not isinstance(parse_storage_url(text, "--standby-lease-password-file"), RedisUrl):
            raise ValueError("a lease needs a Redis or Valkey server, as in redis://host:6379/0/scaler")
        return text

    @field_validator("storage_url")
    @classmethod
    def _check_storage_url(cls, text: str | None) -> str | None:
        if text is not None:
            parse_storage_url(text)
        return text

    @field_validator("storage_endpoint", "object_storage_endpoint")
    @classmethod
    def _check_storage_endpoint(cls, url: str | None) -> str | None:
        return None if url is None else parse_endpoint(url)

    @field_validator("dashboard_url")
    @classmethod
    def _check_dashboard_url(cls, url: str) -> str:
        if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ValueError(f"{url!r} is not of the form http://127.0.0.1:50001")
        return url

    @model_validator(mode="after")
    def _check_storage(self) -> Self:
        given = [name for name in _OF_OWN_STORAGE if getattr(self, name) is not None]
        if given and self.object_storage_address is not None:
            flag = given[0].replace("_", "-")
            raise ValueError(
                f"--{flag} is for an object storage server that the scheduler starts, and --object-storage-address names "
                "another one, which has settings of its own"
            )
        url = self.object_storage_url
        if url is not None and self.object_storage_path is not None:
            raise ValueError("--object-storage-path and --object-storage-url are both given: objects go to one of them")
        if self.object_storage_disk_bytes is not None and self.object_storage_path is None and url is None:
            raise ValueError(
                "--object-storage-disk-bytes says how --object-storage-path or --object-storage-url is used, and neither is given"
            )
        # What else is wrong with them the server says, which reads them.
        if url is None:
            for name in ("object_storage_endpoint", "object_storage_password_file", "object_storage_timeout_seconds"):
                if getattr(self, name) is not None:
                    flag = name.replace("_", "-")
                    raise ValueError(f"--{flag} says how --object-storage-url is used, which is not given")
        return self

    @model_validator(mode="after")
    def _check_jobs_storage(self) -> Self:
        if self.storage_url is not None and self.storage_path is not None:
            raise ValueError("--storage-path and --storage-url are both given: jobs are kept in one of them")
        url = None if self.storage_url is None else parse_storage_url(self.storage_url)
        if self.storage_password_file is not None and not isinstance(url, RedisUrl):
            raise ValueError("--storage-password-file is for a --storage-url redis://…, which is not given")
        if self.storage_endpoint is not None and not isinstance(url, S3Url):
            raise ValueError("--storage-endpoint is for a --storage-url s3://…, which is not given")
        return self

    @model_validator(mode="after")
    def _check_standby(self) -> Self:
        if self.standby_lease is None and self.standby_lease_password_file is not None:
            raise ValueError("--standby-lease-password-file is for a --standby-lease, which is not given")
        if self.standby_lease is not None and self.standby_of is not None:
            raise ValueError(
                "--standby-of and --standby-lease are both given: one of them decides which scheduler is first"
            )
        if self.standby_lease is not None and getattr(self, "ends_cluster"):  # noqa: B009 - a field of the class below
            raise ValueError(
                "--ends-cluster says that no scheduler comes after this one, and --standby-lease that there may be one"
            )
        if self.standby_of is not None and self.standby_of == self.address:
            raise ValueError(f"--standby-of names {self.standby_of}, the address of this scheduler itself")
        if self.standby_of is not None and getattr(self, "ends_cluster"):  # noqa: B009 - a field of the class below
            raise ValueError(
                "--ends-cluster says that no scheduler comes after this one, and --standby-of that there is one"
            )
        return self

    @model_validator(mode="after")
    def _check_scaling(self) -> Self:
        strategy, urls = self.scaling_strategy, self.adapter_webhook_urls
        needed = _WEBHOOK_URLS_NEEDED.get(strategy, 0)
        if len(urls) < needed or (urls and strategy != "capability" and len(urls) > needed):
            raise ValueError(
                f"--scaling-controller-strategy {strategy} goes with {needed} --adapter-webhook-urls, not {len(urls)}"
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

    def read_standby_lease(self) -> RedisUrl | None:
        """Return `standby_lease` with its password. Raises ConfigurationError if that cannot be read."""
        url = _with_password(self.standby_lease, self.standby_lease_password_file, "--standby-lease-password-file")
        assert not isinstance(url, S3Url)
        return url

    def read_storage_url(self) -> StorageUrl | None:
        """Return `storage_url` with its password. Raises ConfigurationError if that cannot be read."""
        return _with_password(self.storage_url, self.storage_password_file, "--storage-password-file")

    def core_config(self, incarnation: bytes, object_storage_address: str, monitor_address: str) -> SchedulerConfig:
        """What the core is told: these addresses, and every setting that it declares."""
        strategy = self.scaling_strategy
        return SchedulerConfig(
            incarnation=incarnation,
            object_storage_address=object_storage_address,
            monitor_address=monitor_address,
            dashboard_url=self.dashboard_url,
            scaling=None if strategy == "none" else ScalingConfig(strategy, self.adapter_webhook_urls),
            shares=parse_shares(self.share),
            **{name: getattr(self, name) for name in flags()},
        )


def _with_password(text: str | None, password_file: Path | None, flag: str) -> StorageUrl | None:
    url = None if text is None else parse_storage_url(text)
    if password_file is None or not isinstance(url, RedisUrl):
        return url
    return replace(url, password=read_secret(password_file, flag))


def _field(kind: Any, default: Any, flag: Flag) -> tuple[Any, Any]:
    """A field of the settings for one of the core's configuration."""
    if flag.choices:
        kind = Annotated[Literal[flag.choices], BeforeValidator(_lower)]
    if flag.read is not None:
        kind = Annotated[kind, BeforeValidator(flag.read)]
    field = Field(default=default, gt=flag.above, ge=flag.at_least, description=flag.meaning)
    return Annotated[kind, Short(flag.short)], field


if TYPE_CHECKING:

    class SchedulerSettings(_ProcessSettings):
        """See `_ProcessSettings`. The flags of `config` are fields too; `config` says what each of them means."""

        scaling_cool_down_seconds: float
        no_worker_timeout_seconds: float
        protected: bool
        ends_cluster: bool
        allocate_policy: str
        resources: str
        max_number_of_tasks_waiting: int
        max_task_attempts: int
        client_timeout_seconds: float
        worker_timeout_seconds: float
        object_retention_seconds: float
        load_balance_seconds: float
        load_balance_trigger_times: int
        standby_lease_seconds: float
        jobs_max: int
        job_tasks_max: int
        jobs_bytes_max: int
        job_keep_seconds: float

else:
    _kinds = get_type_hints(SchedulerConfig)
    SchedulerSettings = create_model(
        "SchedulerSettings",
        __base__=_ProcessSettings,
        __module__=__name__,
        __doc__=_ProcessSettings.__doc__,
        **{name: _field(_kinds[name], default, flag) for name, (default, flag) in flags().items()},
    )
