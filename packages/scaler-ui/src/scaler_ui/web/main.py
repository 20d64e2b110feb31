"""The command `scaler_ui`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import importing, starting
from scaler_ui.priority import give_way

if TYPE_CHECKING:
    from scaler_ui.web.settings import WebSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    with starting():
        from scaler_protocol.service.command import run_command
        from scaler_ui.web.settings import WebSettings

    return run_command(WebSettings, _run, arguments)


def _run(settings: WebSettings) -> int:
    # Before the imports, which take a second of a core.
    give_way()
    # Imported late, so that -h and wrong flags are answered at once.
    with importing():
        from scaler_ui.web.server import run

    return run(settings)
