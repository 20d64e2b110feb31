"""The command `scaler_cluster`."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.service.command import run_command
from scaler_protocol.service.late_address import address_now
from scaler_protocol.service.readiness import Readiness
from scaler_protocol.service.setting_types import ADDRESS
from scaler_worker.settings import ClusterSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of this process); returns its exit status."""
    return run_command(ClusterSettings, _run, arguments)


def _run(settings: ClusterSettings) -> int:
    # Imported late, so that -h and mistakes in flags are answered at once.
    from scaler_worker.shell.template_process import TemplateProcess

    # First of all, because it takes out of the environment what processors must not inherit.
    readiness = Readiness.from_environment()
    template = TemplateProcess()
    try:
        # While the template imports what processors need. The address is asked for last: whoever gives it on standard
        # input may be waiting for a scheduler that starts at the same time.
        from scaler_worker.cluster import run

        return run(settings, address_now(settings.address, ADDRESS), readiness, template)
    finally:
        template.close()
