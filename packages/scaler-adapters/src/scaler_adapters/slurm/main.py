"""The command `scaler_worker_adapter_slurm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import starting

if TYPE_CHECKING:
    from scaler_adapters.slurm.adapter import SlurmAdapter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    with starting():
        from scaler_adapters.service import run_adapter_command
        from scaler_adapters.slurm.settings import SlurmAdapterSettings

    return run_adapter_command(SlurmAdapterSettings, _load, arguments)


def _load() -> type[SlurmAdapter]:
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler_adapters.slurm.adapter import SlurmAdapter

    return SlurmAdapter
