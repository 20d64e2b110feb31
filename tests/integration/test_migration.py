"""docs/migration.md: its programs print what it says, and its commands are taken."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_protocol.service.settings import ServiceSettings
from scaler_scheduler.settings import SchedulerSettings
from scaler_worker.settings import ClusterSettings

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SETTINGS: dict[str, type[ServiceSettings]] = {
    settings.command: settings
    for settings in (
        ClusterSettings,
        SchedulerSettings,
        NativeAdapterSettings,
        SymphonyAdapterSettings,
        EcsAdapterSettings,
    )
}
LIBRARIES = ("dask", "joblib")


def test_each_program_is_followed_by_what_it_prints() -> None:
    assert len(PROGRAMS) == PAGE.count("```python\n") == PAGE.count("```text\n")


@pytest.mark.parametrize(("program", "printed"), PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_print_what_the_page_says(program: str, printed: str, tmp_path: Path) -> None:
    for library in LIBRARIES:
        if f"import {library}\n" in program and importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=55)
    assert run.returncode == 0, run.stderr
    # `Scheduler` and `Cluster` log to the program's own output.
    assert [line for line in run.stdout.splitlines() if not line.startswith("[INFO]")] == printed.splitlines()
    # What the page says the third program is told.
    warned = re.findall(r"(\w*Warning): ", run.stderr)
    assert warned == (["DeprecationWarning", "UserWarning"] if "# warns" in program else [])


@pytest.mark.parametrize("line", COMMANDS)
def test_older_command_lines_are_taken(line: str) -> None:
    command, *words = shlex.split(line)
    settings = SETTINGS[command].from_command_line(words)
    silent = [
        flag
        for flag in ("--log-hub-address", "--max-workers")
        if flag in words and command != "scaler_worker_adapter_native"
    ]
    assert [given.partition(" ")[0] for given in settings.without_effect()] == silent


def test_flags_of_the_table_exist() -> None:
    table = PAGE.partition("| older flag | today |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(--[a-z-]+)`", table))
    known = {flag for settings in SETTINGS.values() for flag in settings._long_flags()}
    assert named - known == {"--drain-seconds"}


def test_names_of_the_table_are_there() -> None:
    table = PAGE.partition("| older place | today |")[2].partition("\n\n")[0]
    places = re.findall(r"`(scaler\.[a-z_.]+)\.([A-Z]\w+)`", table)
    assert len(places) >= 8
    for module, name in places:
        found: Any = getattr(importlib.import_module(module), name)
        assert isinstance(found, type)
