"""The command `scaler_scheduler`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process import run_alone

if TYPE_CHECKING:
    from scaler_protocol.service.child import ChildService
    from scaler_protocol.service.process import ServiceContext
    from scaler_scheduler.settings import SchedulerSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of this process); returns its exit status."""
    return run_alone(service, arguments)


def service() -> SchedulerService:
    """The scheduler as a part of a process; see `scaler_protocol.service.process`."""
    return SchedulerService()


class SchedulerService:
    """Imports late, so that -h and mistakes in flags are answered at once."""

    def __init__(self) -> None:
        self._store: ChildService | None = None
        self.checked: SchedulerSettings | None = None
        """As given, but with the addresses that were checked."""

    @property
    def settings_class(self) -> type[SchedulerSettings]:
        """The settings of `scaler_scheduler`."""
        from scaler_scheduler.settings import SchedulerSettings

        return SchedulerSettings

    def prepare(self, settings: SchedulerSettings, *, alone: bool) -> None:
        """Check what the settings name. Fork the object storage server, if one is needed, and import the scheduler meanwhile."""
        from scaler_scheduler.start_checks import checked

        settings = self.checked = checked(settings)
        if alone:
            from scaler_protocol.service.open_files import raise_open_files_limit

            # Not where an agent shares the process: its tasks would get the higher limit, and not all programs bear that.
            raise_open_files_limit()
        if settings.own_object_storage_address is not None:
            from scaler_scheduler.store_process import fork_store

            # It imports what this process does not, at the same time.
            self._store = fork_store(settings)
        import scaler_scheduler.server  # noqa: F401

    async def serve(self, settings: SchedulerSettings, context: ServiceContext) -> int:
        """Run the scheduler until it stops. Returns the exit status."""
        from scaler_scheduler.server import serve

        return await serve(self.checked or settings, context, self._store)

    def close(self) -> None:
        """Stop the object storage server, if one was started."""
        if self._store is not None:
            from scaler_scheduler.store_process import STORE_STOP_SECONDS

            self._store.terminate(STORE_STOP_SECONDS)
