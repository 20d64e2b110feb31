"""Worker plugins as the code of tasks sees them: by their names, where they have been set up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PluginWorker:
    """The worker on which a plugin is set up or torn down: one process."""

    name: str
    """The worker's name, as `scaler_top` shows it."""
    scheduler_address: str = ""
    """The scheduler's address."""
    pid: int = field(default_factory=os.getpid)
    """The id of the process that runs the worker's tasks."""


class _Here:
    """The plugins of the client whose task runs in this process."""

    plugins: Mapping[str, Any] = {}


def set_plugins_here(plugins: Mapping[str, Any]) -> None:
    """From now on, tasks of a client with these plugins run in this process."""
    _Here.plugins = plugins


def plugin_here(name: str) -> Any:
    """See `scaler.worker_plugin`."""
    try:
        return _Here.plugins[name]
    except KeyError:
        raise KeyError(f"there is no worker plugin {name!r} here: a client has it on workers, in its tasks") from None
