"""What must be right before a scheduler starts anything. All that is wrong is said at once."""

from __future__ import annotations

import importlib

from scaler_protocol.service.audit_settings import require_writable_audit_log
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.problems import Problems
from scaler_protocol.service.security_settings import checked_binds, server_security
from scaler_protocol.service.storage_url import RedisUrl, StorageUrl
from scaler_scheduler.settings import SchedulerSettings


def checked(settings: SchedulerSettings) -> SchedulerSettings:
    """Return these settings, with the addresses that were checked. Raises ConfigurationError, a line for each problem."""
    problems = Problems()
    with problems.noted():
        _require_reachable_storage(settings)
    with problems.noted():
        settings = _with_checked_binds(settings)
    with problems.noted():
        server_security(settings)
    with problems.noted():
        require_writable_audit_log(settings)
    with problems.noted():
        _require_library("--standby-lease", settings.read_standby_lease())
    with problems.noted():
        _require_library("--storage-url", settings.read_storage_url())
    problems.raise_if_any()
    return settings


def _require_reachable_storage(settings: SchedulerSettings) -> None:
    own = settings.own_object_storage_address
    if own is not None and own.is_wildcard:
        example = settings.address.port or 2345
        raise ConfigurationError(
            f"ADDRESS: at {settings.address} every address of this machine is listened on, so it does not say where clients "
            f"and workers find the object storage server beside it. Give the address that they use, as in "
            f"tcp://10.0.0.5:{example}; or start scaler_object_storage_server, and give its address as "
            "--object-storage-address"
        )


def _require_library(flag: str, url: StorageUrl | None) -> None:
    if url is None:
        return
    name, extra = ("redis", "redis") if isinstance(url, RedisUrl) else ("obstore", "s3")
    try:
        importlib.import_module(name)
    except ImportError:
        raise ConfigurationError(
            f"{flag} {url} needs the package {name}: pip install 'scaler-scheduler[{extra}]'"
        ) from None


def _with_checked_binds(settings: SchedulerSettings) -> SchedulerSettings:
    given = {"ADDRESS": settings.address}
    if settings.monitor_address is not None:
        given["--monitor-address"] = settings.monitor_address
    found = checked_binds(settings, given)
    if found == given:
        return settings
    return settings.model_copy(update={"address": found["ADDRESS"], "monitor_address": found.get("--monitor-address")})
