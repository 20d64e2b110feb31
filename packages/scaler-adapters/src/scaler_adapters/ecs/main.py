"""The command `scaler_worker_adapter_ecs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import starting

if TYPE_CHECKING:
    from scaler_adapters.ecs.adapter import EcsAdapter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    with starting():
        from scaler_adapters.ecs.settings import EcsAdapterSettings
        from scaler_adapters.service import run_adapter_command

    return run_adapter_command(EcsAdapterSettings, _load, arguments)


def _load() -> type[EcsAdapter]:
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler_adapters.ecs.adapter import EcsAdapter

    return EcsAdapter
