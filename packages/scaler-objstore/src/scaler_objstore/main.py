"""The command `scaler_object_storage_server`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import importing, starting

if TYPE_CHECKING:
    from scaler_objstore.settings import ObjectStorageSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    with starting():
        from scaler_objstore.settings import ObjectStorageSettings
        from scaler_protocol.service.command import run_command

    return run_command(ObjectStorageSettings, _run, arguments)


def _run(settings: ObjectStorageSettings) -> int:
    # Imported late, so that -h and wrong flags are answered at once.
    with importing():
        from scaler_objstore.server import run

    return run(settings)
