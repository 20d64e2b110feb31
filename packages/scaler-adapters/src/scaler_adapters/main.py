"""The command `python -m scaler_adapters NAME`, which runs the adapter installed under this name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler_protocol.service.process_start import starting

if TYPE_CHECKING:
    from scaler_adapters.adapter import WorkerAdapter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with starting():
        from importlib.metadata import entry_points

        from scaler_adapters.adapter import ENTRY_POINTS
        from scaler_adapters.service import run_adapter_command

        installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
        usage = (
            f"usage: python -m scaler_adapters NAME ADDRESS [flags]; installed adapters: {', '.join(sorted(installed))}"
        )
        if words and words[0] in ("-h", "--help"):
            print(usage)
            return 0
        if not words or words[0] not in installed:
            print(usage, file=sys.stderr)
            return 2
        adapter_class: type[WorkerAdapter] = installed[words[0]].load()
    return run_adapter_command(adapter_class.settings_class, lambda: adapter_class, words[1:])
