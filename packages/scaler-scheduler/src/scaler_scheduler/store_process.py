"""The object storage server that a scheduler starts for itself.

The first one is forked as soon as this process has imported what both need, and learns its address once the scheduler has
bound its own: from then on both import the rest side by side, and share the memory of what they have in common.
"""

from __future__ import annotations

# Forked with them, the other process need not import them again. None of them starts a thread.
import asyncio  # noqa: F401
from pathlib import Path

from scaler_protocol.address import Address
from scaler_protocol.service.child import ChildService
from scaler_scheduler.settings import SchedulerSettings

MODULE = "scaler_objstore"

STORE_STOP_SECONDS = 5.0
"""How long it may take to stop, before it is killed."""


def fork_store(settings: SchedulerSettings) -> ChildService:
    """Return a server that waits for its address. To be called before there is a socket or a thread."""
    return ChildService.fork(MODULE, ["-", *_arguments(settings)])


def start_store(settings: SchedulerSettings, address: Address) -> ChildService:
    """Return a server that starts at this address, for one that has ended."""
    return ChildService.start(MODULE, [str(address), *_arguments(settings)])


def _arguments(settings: SchedulerSettings) -> list[str]:
    return [
        "--event-loop",
        settings.event_loop,
        "--logging-level",
        settings.logging_level,
        "--logging-format",
        settings.logging_format,
        "--logging-paths",
        *settings.logging_paths,
        *_option("--memory-limit-bytes", settings.object_storage_memory_bytes),
        *_option("--storage-path", _storage_path(settings)),
        *_option("--storage-url", settings.object_storage_url),
        *_option("--storage-endpoint", settings.object_storage_endpoint),
        *_option("--storage-password-file", settings.object_storage_password_file),
        *_option("--storage-timeout-seconds", settings.object_storage_timeout_seconds),
        *_option("--disk-limit-bytes", settings.object_storage_disk_bytes),
        *(() if settings.security_dir is None else ("--security-dir", str(settings.security_dir))),
        *(("--insecure",) if settings.insecure else ()),
        # Each writes whole lines to the end of the same file.
        *(() if settings.audit_log is None else ("--audit-log", str(settings.audit_log))),
    ]


def _storage_path(settings: SchedulerSettings) -> Path | None:
    """Where the server keeps objects that do not fit into memory: where it is told to, else below the path of the scheduler."""
    if settings.object_storage_path is not None or settings.object_storage_url is not None:
        return settings.object_storage_path
    return None if settings.storage_path is None else settings.storage_path / "objects"


def _option(flag: str, value: object) -> tuple[str, ...]:
    return () if value is None else (flag, str(value))
