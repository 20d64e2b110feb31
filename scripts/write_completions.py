"""Write the shell completions of all commands, for bash and zsh: `python scripts/write_completions.py`.

They are files of the packages, in `packages/*/completions`, so that no command depends on a package that completes. Run it when
flags change; a test compares.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path

import shtab

from scaler.jobs import command as jobs
from scaler_protocol.security import command as keys
from scaler_protocol.service.settings import ServiceSettings

PACKAGES = Path(__file__).resolve().parents[1] / "packages"
SHELLS = {"bash": "{}", "zsh": "_{}"}
"""Where each shell looks: names of files, by that of the command."""

_WITHOUT_SETTINGS = {keys.COMMAND: keys.command_parser, jobs.COMMAND: jobs.command_parser}
"""Commands that are no services, with their parsers."""

_COMPLETED_AS_FILES = ("FILE", "DIR", "OUT")


def parsers() -> dict[str, tuple[Path, argparse.ArgumentParser, Collection[str]]]:
    """The parsers of all commands, by name, each with its package's folder, and the settings whose defaults are computed."""
    by_command = {settings.command: settings for settings in settings_classes()}
    found: dict[str, tuple[Path, argparse.ArgumentParser, Collection[str]]] = {}
    for folder in sorted(PACKAGES.iterdir()):
        metadata = folder / "pyproject.toml"
        if metadata.exists():
            for command in tomllib.loads(metadata.read_text(encoding="utf-8"))["project"].get("scripts", {}):
                if command in _WITHOUT_SETTINGS:
                    found[command] = (folder, _WITHOUT_SETTINGS[command](), frozenset())
                    continue
                fields = by_command[command].model_fields
                computed = frozenset(name for name, field in fields.items() if field.default_factory is not None)
                found[command] = (folder, by_command[command].parser(), computed)
    return found


def settings_classes() -> Iterator[type[ServiceSettings]]:
    """Yield the settings of all commands but `scaler_keys`, which has none."""
    for package in ("scaler_adapters", "scaler_objstore", "scaler_scheduler", "scaler_ui", "scaler_worker"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name.rpartition(".")[2] == "settings":
                for name, value in vars(importlib.import_module(module.name)).items():
                    is_settings = isinstance(value, type) and issubclass(value, ServiceSettings)
                    # Of a scheduler's two classes, the one that others may name has all flags.
                    if is_settings and hasattr(value, "command") and not name.startswith("_"):
                        yield value


def completions() -> dict[Path, str]:
    """What each file of completions must say."""
    texts = {}
    for command, (folder, parser, computed) in parsers().items():
        _adapt(parser, computed)
        for shell, name in SHELLS.items():
            text = re.sub(r"[ \t]+$", "", shtab.complete(parser, shell), flags=re.MULTILINE)
            texts[folder / "completions" / shell / name.format(command)] = text.rstrip("\n") + "\n"
    return texts


def _adapt(parser: argparse.ArgumentParser, computed: Collection[str] = ()) -> None:
    """Have a parser described as it is everywhere. `computed`: arguments whose defaults each machine has of its own."""
    for action in parser._actions:
        # A default that is a path, a number of CPUs or a size of this machine says nothing elsewhere.
        action.help = (action.help or "").replace(f" (default: {sys.executable})", "")
        if action.dest in computed:
            action.help = re.sub(r" \(default: [^)]*\)$", "", action.help)
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _adapt(inner)
        elif action.metavar in _COMPLETED_AS_FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


if __name__ == "__main__":
    for path, text in completions().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
