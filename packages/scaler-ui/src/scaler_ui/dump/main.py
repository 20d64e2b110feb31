"""The command `scaler_dump`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import starting

if TYPE_CHECKING:
    from scaler_ui.dump.settings import DumpSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    with starting():
        from scaler_protocol.service.command import run_command
        from scaler_ui.dump.settings import DumpSettings

    return run_command(DumpSettings, _run, arguments)


def _run(settings: DumpSettings) -> int:
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler_ui.dump.writer import run

    return run(settings)
