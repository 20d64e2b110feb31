"""The command `scaler_cluster`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scaler_protocol.address import Address
from scaler_protocol.service.command import run_command
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.setting_types import ADDRESS
from scaler_worker.settings import ON_INPUT, ClusterSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of this process); returns its exit status."""
    return run_command(ClusterSettings, _run, arguments)


def _run(settings: ClusterSettings) -> int:
    # Imported late, so that -h and mistakes in flags are answered at once.
    from scaler_worker.shell.template_process import TemplateProcess

    template = TemplateProcess()
    try:
        # While the template imports what processors need. The address is asked for last: whoever gives it on standard
        # input may be waiting for a scheduler that starts at the same time.
        from scaler_worker.cluster import run

        address = _address_on_input() if settings.address == ON_INPUT else settings.address
        return run(settings, address, template)
    finally:
        template.close()


def _address_on_input() -> Address:
    line = sys.stdin.readline()
    if not line:
        raise ConfigurationError("ADDRESS: standard input ended without one")
    try:
        return ADDRESS.read(line.strip())
    except ValueError as error:
        raise ConfigurationError(f"ADDRESS: on standard input: {error}") from None
