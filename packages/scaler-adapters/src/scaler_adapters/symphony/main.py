"""The command `scaler_worker_adapter_symphony`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import starting

if TYPE_CHECKING:
    from scaler_adapters.symphony.adapter import SymphonyAdapter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    with starting():
        from scaler_adapters.service import run_adapter_command
        from scaler_adapters.symphony.settings import SymphonyAdapterSettings

    return run_adapter_command(SymphonyAdapterSettings, _load, arguments)


def _load() -> type[SymphonyAdapter]:
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler_adapters.symphony.adapter import SymphonyAdapter

    return SymphonyAdapter
