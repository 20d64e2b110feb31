"""The commands as they are installed: help, and what a mistake looks like from outside."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from scaler_protocol.service.settings import ServiceSettings
from scripts.write_completions import settings_classes

COMMANDS = [
    "scaler_cluster",
    "scaler_dump",
    "scaler_jobs",
    "scaler_keys",
    "scaler_object_storage_server",
    "scaler_scheduler",
    "scaler_top",
    "scaler_trace",
    "scaler_ui",
    "scaler_worker_adapter_ecs",
    "scaler_worker_adapter_native",
    "scaler_worker_adapter_slurm",
    "scaler_worker_adapter_symphony",
]

SERVICES = [command for command in COMMANDS if command not in ("scaler_jobs", "scaler_keys")]
"""Those with settings."""


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / command), *arguments], capture_output=True, text=True, timeout=30
    )


def test_these_are_all_commands() -> None:
    assert (
        sorted(script.name for script in entry_points(group="console_scripts") if "scaler" in script.name) == COMMANDS
    )


@pytest.mark.parametrize("command", SERVICES)
def test_help_is_answered(command: str) -> None:
    helped = run(command, "-h")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"usage: {command} ")
    assert "--config FILE, -c FILE" in helped.stdout


@pytest.mark.parametrize("settings", list(settings_classes()), ids=lambda settings: settings.command)
def test_the_help_ends_with_examples_that_are_understood(settings: type[ServiceSettings]) -> None:
    assert settings.examples
    shown = settings.parser().format_help()
    for line, meaning in settings.examples:
        command, *words = shlex.split(line)
        assert command == settings.command
        assert not settings.from_command_line(words).without_effect()
        assert shown.rindex(f"{meaning}:\n    {line}\n") > shown.index("examples:")


@pytest.mark.parametrize("command", SERVICES)
def test_mistakes_are_one_line_each_and_exit_status_2(command: str) -> None:
    required = {
        "scaler_worker_adapter_symphony": "--service-name=s",
        "scaler_worker_adapter_ecs": "--task-definition=t",
    }
    refused = run(command, "nowhere", "-ll", "LOUD", *filter(None, [required.get(command)]))
    assert (refused.returncode, refused.stdout) == (2, "")
    monitors = ("scaler_dump", "scaler_top", "scaler_trace", "scaler_ui")
    address = "MONITOR_ADDRESS" if command in monitors else "ADDRESS"
    first_words = sorted(line.split()[:2] for line in refused.stderr.splitlines())
    assert first_words == [[f"{command}:", "--logging-level:"], [f"{command}:", f"{address}:"]]


@pytest.mark.parametrize(
    ("command", "lacking", "lacked"),
    [("scaler_keys", ("add", "x"), "--role, --name"), ("scaler_jobs", ("cancel", "tcp://127.0.0.1:1"), "NAME")],
)
def test_some_commands_have_no_settings(command: str, lacking: tuple[str, ...], lacked: str) -> None:
    helped = run(command, "-h")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"usage: {command} ")
    assert helped.stdout.rstrip().splitlines()[-1].startswith(f"    {command} ")
    assert run(command, "--version").stdout.startswith(f"{command} ")
    for words, what in ((("nowhere",), "invalid choice"), ((), "COMMAND"), (lacking, lacked)):
        refused = run(command, *words)
        assert (refused.returncode, refused.stdout) == (2, "")
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"{command}: ")
        assert what in line


def test_a_command_says_which_older_flags_do_nothing() -> None:
    """A worker adapter of Symphony ends at once, as IBM's module is not there."""
    words = (
        "tcp://127.0.0.1:1",
        "-sn",
        "s",
        "--log-hub-address",
        "tcp://h:1",
        "--max-workers",
        "3",
        "-lp",
        "/dev/stderr",
    )
    ended = run("scaler_worker_adapter_symphony", *words)
    assert ended.returncode != 0
    lines = [line for line in ended.stderr.splitlines() if "has no effect" in line]
    assert [line.partition("--")[2].partition(" ")[0] for line in lines] == ["log-hub-address", "max-workers"]
