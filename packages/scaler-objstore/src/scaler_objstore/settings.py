"""The settings of `scaler_object_storage_server`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from scaler_protocol.runtime.memory_limit import memory_limit_bytes
from scaler_protocol.service.audit_settings import AuditSettings
from scaler_protocol.service.command import EventLoopSettings
from scaler_protocol.service.late_address import LateBindAddressSetting
from scaler_protocol.service.secret_files import read_secret
from scaler_protocol.service.security_settings import ListeningSettings
from scaler_protocol.service.settings import AlsoKey, BytesSetting, CliPositionalArg, Short
from scaler_protocol.service.storage_url import RedisUrl, S3Url, parse_endpoint, parse_storage_url


def _half_of_memory() -> int:
    return memory_limit_bytes() // 2


class ObjectStorageSettings(ListeningSettings, AuditSettings, EventLoopSettings):
    """Stores large arguments and results of tasks until nobody needs them."""

    command: ClassVar[str] = "scaler_object_storage_server"
    section: ClassVar[str] = "object_storage_server"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "scaler_object_storage_server tcp://127.0.0.1:2346",
            "on its own, for a scheduler with --object-storage-address",
        ),
        (
            "scaler_object_storage_server tcp://127.0.0.1:2346 --memory-limit-bytes 8GiB --storage-path /var/tmp/scaler",
            "with a folder for what does not fit into memory",
        ),
    )

    address: Annotated[CliPositionalArg[LateBindAddressSetting], AlsoKey("object_storage_address")] = Field(
        description="address to listen on, as in tcp://127.0.0.1:2346; port 0 chooses a free port; - reads the address from "
        "standard input",
    )
    memory_limit_bytes: Annotated[BytesSetting, Short("ml")] = Field(
        default_factory=_half_of_memory,
        gt=0,
        description="memory for stored objects in bytes; unless given, half of the memory of this machine or container. Beyond "
        "it objects go to --storage-path, or are refused without one",
    )
    storage_path: Annotated[Path | None, Short("sp")] = Field(
        default=None,
        description="folder for objects that do not fit into memory, which a restarted server takes over; each server needs "
        "its own (default: none, and all objects stay in memory)",
    )
    storage_url: Annotated[str | None, Short("su")] = Field(
        default=None,
        description="instead of --storage-path, a Redis or Valkey server or a bucket of S3: redis://HOST:PORT/DATABASE/PREFIX "
        "(with TLS: rediss://), valkey://, s3://BUCKET/PREFIX; each server needs its own prefix. Credentials for S3 come from "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )
    storage_endpoint: Annotated[str | None, Short("se")] = Field(
        default=None,
        description="URL of a store other than AWS that speaks S3, as in http://127.0.0.1:9000; for --storage-url s3://…",
    )
    storage_password_file: Annotated[Path | None, Short("spf")] = Field(
        default=None, description="file with the password for --storage-url redis://…, which only its owner may read"
    )
    storage_timeout_seconds: Annotated[float, Short("sts")] = Field(
        default=20.0,
        gt=0,
        le=600,
        description="longest time that one request to --storage-url may take; a failed one is repeated for twenty seconds",
    )
    disk_limit_bytes: Annotated[BytesSetting | None, Short("dl")] = Field(
        default=None,
        gt=0,
        description="largest size of all objects in --storage-path or --storage-url in bytes (default: as much as it takes)",
    )
    storage_fsync: Annotated[bool, Short("sf")] = Field(
        default=False,
        description="wait until each object in --storage-path has reached the disk, so that it survives a power failure too",
    )
    object_size_limit_bytes: Annotated[BytesSetting, Short("osl")] = Field(
        default=16 * 1024**3, gt=0, description="largest size of one object in bytes"
    )
    object_retention_seconds: Annotated[float, Short("ot")] = Field(
        default=600,
        ge=10,
        description="how long the objects of a client are kept of which neither it nor its scheduler says that it lives",
    )
    io_threads: Annotated[int, Short("wit")] = Field(
        default=1,
        ge=1,
        validation_alias=AliasChoices("io_threads", "worker_io_threads"),
        description="accepted for older command lines, without effect: the server needs no further threads",
    )

    @field_validator("storage_url")
    @classmethod
    def _check_storage_url(cls, text: str | None) -> str | None:
        if text is not None:
            parse_storage_url(text)
        return text

    @field_validator("storage_endpoint")
    @classmethod
    def _check_storage_endpoint(cls, endpoint: str | None) -> str | None:
        return None if endpoint is None else parse_endpoint(endpoint)

    @model_validator(mode="after")
    def _check_storage(self) -> Self:
        below = parse_storage_url(self.storage_url) if self.storage_url is not None else None
        if below is not None and self.storage_path is not None:
            raise ValueError("--storage-path and --storage-url are both given: objects go to one of them")
        if self.storage_path is None and self.storage_fsync:
            raise ValueError("--storage-fsync says how --storage-path is used, which is not given")
        if self.storage_path is None and below is None and self.disk_limit_bytes is not None:
            raise ValueError(
                "--disk-limit-bytes says how --storage-path or --storage-url is used, and neither is given"
            )
        if self.storage_endpoint is not None and not isinstance(below, S3Url):
            raise ValueError("--storage-endpoint says where a --storage-url s3://… is, which is not given")
        if self.storage_password_file is not None and not isinstance(below, RedisUrl):
            raise ValueError("--storage-password-file is for a --storage-url redis://…, which is not given")
        return self

    def read_storage_url(self) -> RedisUrl | S3Url:
        """Return `storage_url` with its password. Raises ConfigurationError if that cannot be read."""
        url = parse_storage_url(self.storage_url or "")
        if isinstance(url, RedisUrl) and self.storage_password_file is not None:
            return replace(url, password=read_secret(self.storage_password_file, "--storage-password-file"))
        return url
