"""The setting of services that write an audit log, and the open file."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings import ServiceSettings, Short

if TYPE_CHECKING:
    from scaler_protocol.security.audit import AuditLog


class AuditSettings(ServiceSettings):
    """Adds `--audit-log` to a service."""

    audit_log: Annotated[Path | None, Short("al")] = Field(
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
    with contextlib.closing(log):
        if threading.current_thread() is not threading.main_thread():
            yield log
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, log.reopen)
        try:
            yield log
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
