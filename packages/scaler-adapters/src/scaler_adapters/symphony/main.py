"""The command `scaler_worker_adapter_symphony`."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_protocol.service.command import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of this process); returns its exit status."""
    return run_command(SymphonyAdapterSettings, _run, arguments)


def _run(settings: SymphonyAdapterSettings) -> int:
    # Imported late, so that -h and mistakes in flags are answered at once.
    from scaler_adapters.symphony.server import run

    return run(settings)
