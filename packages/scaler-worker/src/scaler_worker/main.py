"""The command `scaler_cluster`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process import run_alone

if TYPE_CHECKING:
    from scaler_protocol.address_list import AddressList
    from scaler_protocol.service.process import ServiceContext
    from scaler_worker.settings import ClusterSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of this process); returns its exit status."""
    return run_alone(service, arguments)


def service() -> WorkerService:
    """The agent, with its processors, as a part of a process; see `scaler_protocol.service.process`."""
    return WorkerService()


class WorkerService:
    """Imports late, so that -h and mistakes in flags are answered at once."""

    def __init__(self) -> None:
        from scaler_worker.shell.template_process import TemplateProcess

        # It imports what processors need while this process imports its own things. It shares none of those.
        self._template = TemplateProcess()
        self._addresses: AddressList | None = None

    @property
    def settings_class(self) -> type[ClusterSettings]:
        """The settings of `scaler_cluster`."""
        from scaler_worker.settings import ClusterSettings

        return ClusterSettings

    def prepare(self, settings: ClusterSettings, *, alone: bool) -> None:
        """Import what the agent needs, then read a late address. Raises ConfigurationError."""
        # Before the address is asked for: whoever gives it on standard input may wait for a scheduler that starts meanwhile.
        import scaler_worker.cluster  # noqa: F401
        from scaler_protocol.service.late_address import ON_INPUT, addresses_now

        if alone or settings.address != ON_INPUT:
            self._addresses = addresses_now(settings.address)

    async def serve(self, settings: ClusterSettings, context: ServiceContext) -> int:
        """Run the agent until it stops. Returns the exit status."""
        from scaler_protocol.address_list import AddressList
        from scaler_protocol.service.errors import ConfigurationError
        from scaler_worker.cluster import serve

        addresses = self._addresses
        if addresses is None:
            beside = context.addresses.get("scheduler")
            if beside is None:
                raise ConfigurationError("ADDRESS: - means the scheduler before it in this process, and there is none")
            addresses = AddressList((beside,))
        return await serve(settings, addresses, context, self._template)

    def close(self) -> None:
        """End the template, if it was started."""
        self._template.close()
