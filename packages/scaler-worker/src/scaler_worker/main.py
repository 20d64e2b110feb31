"""The command `scaler_cluster`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.interrupts import quiet_interrupts

if TYPE_CHECKING:
    from scaler_protocol.service.readiness import Readiness
    from scaler_worker.settings import ClusterSettings
    from scaler_worker.shell.template_process import TemplateProcess


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of this process); returns its exit status."""
    with quiet_interrupts():
        from scaler_protocol.service.child import die_with_parent
        from scaler_protocol.service.readiness import Readiness
        from scaler_worker.shell.template_process import TemplateProcess

        # First of all, because these take out of the environment what processors must not inherit.
        die_with_parent()
        readiness = Readiness.from_environment()
        template = TemplateProcess()
        # While the template imports what processors need. It shares none of this.
        from scaler_protocol.service.command import run_command
        from scaler_worker.settings import ClusterSettings

    try:
        return run_command(ClusterSettings, lambda settings: _run(settings, readiness, template), arguments)
    finally:
        template.close()


def _run(settings: ClusterSettings, readiness: Readiness, template: TemplateProcess) -> int:
    # Imported late, so that -h and mistakes in flags are answered at once. The address is asked for last: whoever gives it
    # on standard input may be waiting for a scheduler that starts at the same time.
    from scaler_protocol.service.late_address import address_now
    from scaler_worker.cluster import run

    return run(settings, address_now(settings.address), readiness, template)
