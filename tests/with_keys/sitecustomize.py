"""Gives keys to every cluster and every client that says nothing else: here, and in the programs that tests start.

Tests say nothing about keys. With SCALER_TEST_SECURITY, `tests/conftest.py` calls `install`, and from then on

- each command of Scaler that this process starts gets `--security-dir`,
- local clusters (`SchedulerClusterCombo`, `Scheduler`, `Cluster`) have the keys by default, and so do clients with an address
  and subscribers of monitors,
- each other program that this process starts finds this module as Python's `sitecustomize`, and does the same.

Commands of Scaler never load it: what they do with their keys is theirs. This module imports next to nothing, because some
of those programs look at what they have loaded.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from itertools import pairwise
from types import ModuleType

TYPE_CHECKING = False
"""That of `typing`, which need not be loaded."""

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

VARIABLE = "KEYS_OF_ALL_TESTS"
"""The security directory, in the environment of programs."""

MODULES = frozenset(
    (
        "scaler_scheduler",
        "scaler_objstore",
        "scaler_worker",
        *(f"scaler_ui.{name}" for name in ("dump", "top", "trace", "web")),
        *(f"scaler_adapters.{name}" for name in ("ecs", "native", "slurm", "symphony")),
    )
)
SCRIPTS = frozenset(
    (
        *("scaler_scheduler", "scaler_object_storage_server", "scaler_cluster"),
        *("scaler_dump", "scaler_top", "scaler_trace", "scaler_ui"),
        *(f"scaler_worker_adapter_{name}" for name in ("ecs", "native", "slurm", "symphony")),
    )
)

_without_keys: set[object] = set()
"""Addresses of clusters that have none: those within a process."""


def install(directory: str) -> Callable[[], None]:
    """Begin to give these keys; return what ends it."""
    undo: list[Callable[[], None]] = []
    changes: dict[str, Callable[[ModuleType], Callable[[], None]]] = {
        "subprocess": lambda module: _change_popen(module, directory),
        "scaler.client.security": lambda module: _change_clients(module, directory),
        "scaler.local.combo": lambda module: _change_default(module.SchedulerClusterCombo, "security", directory),
        "scaler.local.scheduler": lambda module: _change_default(module.Scheduler, "security_dir", directory),
        "scaler.local.cluster": lambda module: _change_default(module.Cluster, "security_dir", directory),
        "scaler.testing.in_process_cluster": _note_addresses,
        "scaler_protocol.transport.subscriber": lambda module: _change_subscribers(module, directory),
    }
    finder = _Finder(changes, undo)
    for name in [name for name in changes if name in sys.modules]:
        undo.append(changes.pop(name)(sys.modules[name]))
    sys.meta_path.insert(0, finder)

    def end() -> None:
        sys.meta_path.remove(finder)
        for step in reversed(undo):
            step()

    return end


class _Finder:
    """Changes a module once it has been imported."""

    def __init__(
        self, changes: dict[str, Callable[[ModuleType], Callable[[], None]]], undo: list[Callable[[], None]]
    ) -> None:
        self._changes = changes
        self._undo = undo

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = self._changes.pop(name, None)
        spec = None if change is None else PathFinder.find_spec(name, path, target)
        if change is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            self._undo.append(change(module))

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def with_flag(words: Sequence[Any], directory: str) -> list[Any] | None:
    """Return these words of a command line with `--security-dir`; None if they do not start a command of Scaler."""
    texts = [os.fsdecode(word) if isinstance(word, str | bytes | os.PathLike) else "" for word in words]
    is_module = any(flag == "-m" and name in MODULES for flag, name in pairwise(texts))
    if not is_module and not any(os.path.basename(text) in SCRIPTS for text in texts[:2]):
        return None
    has_flag = any(text in ("--security-dir", "-sd") or text.startswith("--security-dir=") for text in texts)
    return [*words] if has_flag else [*words, "--security-dir", directory]


def _change_popen(module: ModuleType, directory: str) -> Callable[[], None]:
    start = module.Popen.__init__

    def start_with_keys(self: Any, args: Any, *rest: Any, env: Mapping[str, str] | None = None, **options: Any) -> None:
        command = None if isinstance(args, str | bytes | os.PathLike) else with_flag(args, directory)
        if command is None:
            variables = {**(os.environ if env is None else env)}
            here = os.path.dirname(os.path.abspath(__file__))
            path = variables.get("PYTHONPATH")
            variables |= {"PYTHONPATH": here if path is None else f"{path}{os.pathsep}{here}", VARIABLE: directory}
            start(self, args, *rest, env=variables, **options)
        else:
            start(self, command, *rest, env=env, **options)

    module.Popen.__init__ = start_with_keys
    return lambda: setattr(module.Popen, "__init__", start)


def _change_clients(module: Any, directory: str) -> Callable[[], None]:
    resolved = module.resolved

    def resolved_with_keys(address: Any, security: Any) -> Any:
        is_file = isinstance(address, str | os.PathLike) and os.fspath(address).endswith(".scaler")
        if security is None and address is not None and not is_file and address not in _without_keys:
            security = directory
        return resolved(address, security)

    module.resolved = resolved_with_keys
    return lambda: setattr(module, "resolved", resolved)


def _change_default(made: Any, name: str, directory: str) -> Callable[[], None]:
    defaults = made.__init__.__kwdefaults__
    before = defaults[name]
    defaults[name] = directory
    return lambda: defaults.__setitem__(name, before)


def _change_subscribers(module: ModuleType, directory: str) -> Callable[[], None]:
    start = module.Subscriber.__init__

    def start_with_keys(self: Any, *args: Any, security: Any = None, **options: Any) -> None:
        from pathlib import Path

        from scaler_protocol.security.authority import KeyRole
        from scaler_protocol.security.directory import load_peer

        start(self, *args, security=security or load_peer(Path(directory), KeyRole.MONITOR), **options)

    module.Subscriber.__init__ = start_with_keys
    return lambda: setattr(module.Subscriber, "__init__", start)


def _note_addresses(module: ModuleType) -> Callable[[], None]:
    start = module.InProcessCluster.__init__

    def start_noted(self: Any, *args: Any, **options: Any) -> None:
        start(self, *args, **options)
        _without_keys.add(self.address)

    module.InProcessCluster.__init__ = start_noted
    return lambda: setattr(module.InProcessCluster, "__init__", start)


if __name__ == "sitecustomize" and os.environ.get(VARIABLE):
    install(os.environ[VARIABLE])
