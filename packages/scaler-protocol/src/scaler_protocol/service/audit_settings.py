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
def open_audit_log(path: Path) -> Iterator[AuditLog]:
    """Open the audit log while this is entered; SIGHUP opens it again. Raises ConfigurationError if it cannot be written."""
    from scaler_protocol.security.audit import AuditLog

    try:
        log = AuditLog(path)
    except OSError as error:
        raise ConfigurationError(f"--audit-log: cannot write to {path}: {error.strerror}") from None
    with contextlib.closing(log), on_hangup(log.reopen):
        yield log
