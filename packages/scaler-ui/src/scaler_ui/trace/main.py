"""The command `scaler_trace`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import starting
from scaler_ui.priority import give_way

if TYPE_CHECKING:
    from scaler_ui.trace.settings import TraceSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    with starting():
        from scaler_protocol.service.command import run_command
        from scaler_ui.trace.settings import TraceSettings

    return run_command(TraceSettings, _run, arguments)


def _run(settings: TraceSettings) -> int:
    # Before the imports, which take a second of a core.
    give_way()
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler_ui.trace.writer import run

    return run(settings)
