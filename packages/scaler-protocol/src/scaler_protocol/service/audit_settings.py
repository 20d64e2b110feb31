"""The setting of services that write an audit log, and the open file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.hangup import on_hangup
from scaler_protocol.service.settings import Protective, ServiceSettings, Short

if TYPE_CHECKING:
    from scaler_protocol.security.audit import AuditLog


class AuditSettings(ServiceSettings):
    """Adds `--audit-log` to a service."""

    audit_log: Annotated[Path | None, Short("al"), Protective()] = Field(
        default=None,
        description="file to append one JSON object to for each connection, refusal, submitted batch, cancellation, change of "
        "keys and shutdown; opened again on SIGHUP and after it was moved (default: none is written)",
    )


@contextlib.contextmanager
def open_audit_log(path: Path, service: str) -> Iterator[AuditLog]:
    """Open the audit log of a service while this is entered; SIGHUP opens it again.

    Raises ConfigurationError if it cannot be written.
    """
    with contextlib.closing(_open(path, service)) as log, on_hangup(log.reopen):
        yield log


def require_writable_audit_log(settings: AuditSettings) -> None:
    """Raise ConfigurationError if the audit log, if there is to be one, cannot be written."""
    if settings.audit_log is not None:
        _open(settings.audit_log, "").close()


def _open(path: Path, service: str) -> AuditLog:
    from scaler_protocol.security.audit import AuditLog

    try:
        return AuditLog(path, service)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            reason = f"there is no folder {path.parent}"
        raise ConfigurationError(f"--audit-log: cannot write to {path}: {reason}") from None
