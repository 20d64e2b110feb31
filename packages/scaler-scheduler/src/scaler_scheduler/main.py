"""The command `scaler_scheduler`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.interrupts import quiet_interrupts

if TYPE_CHECKING:
    from scaler_scheduler.settings import SchedulerSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of this process); returns its exit status."""
    with quiet_interrupts():
        from scaler_protocol.service.command import run_command
        from scaler_scheduler.settings import SchedulerSettings

    return run_command(SchedulerSettings, _run, arguments)


def _run(settings: SchedulerSettings) -> int:
    # Imported late, so that -h and mistakes in flags are answered at once.
    from scaler_protocol.service.readiness import Readiness
    from scaler_scheduler.store_process import STORE_STOP_SECONDS, fork_store

    # First of all, because it takes out of the environment what the storage server must not inherit.
    readiness = Readiness.from_environment()
    store = None if settings.own_object_storage_address is None else fork_store(settings)
    try:
        from scaler_scheduler.server import run

        return run(settings, readiness, store)
    finally:
        if store is not None:
            store.terminate(STORE_STOP_SECONDS)
