"""Which sections of a shared file the commands know of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.slurm.settings import SlurmAdapterSettings
from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings import ServiceSettings
from scaler_protocol.service.settings_file import KNOWN_SECTIONS
from scaler_scheduler.settings import SchedulerSettings
from scaler_ui.dump.settings import DumpSettings
from scaler_ui.top.settings import TopSettings
from scaler_ui.trace.settings import TraceSettings
from scaler_ui.web.settings import WebSettings
from scaler_worker.settings import ClusterSettings

PAGE = Path(__file__).resolve().parents[2] / "docs/machines.md"

COMMANDS: list[type[ServiceSettings]] = [
    ClusterSettings,
    DumpSettings,
    EcsAdapterSettings,
    NativeAdapterSettings,
    ObjectStorageSettings,
    SchedulerSettings,
    SlurmAdapterSettings,
    SymphonyAdapterSettings,
    TopSettings,
    TraceSettings,
    WebSettings,
]


def test_every_section_is_known() -> None:
    assert {command.section for command in COMMANDS} == KNOWN_SECTIONS


def test_sections_of_other_components_are_passed_over_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "all.toml"
    file.write_text("".join(f"[{section}]\n" for section in sorted(KNOWN_SECTIONS)))
    SchedulerSettings.from_command_line(["tcp://127.0.0.1:1", "-c", str(file)])
    ClusterSettings.from_command_line(["tcp://127.0.0.1:1", "-c", str(file)])
    assert capsys.readouterr().err == ""


def test_a_scheduler_that_was_meant_to_be_protected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.toml"
    file.write_text("[shceduler]\nprotected = true\n")
    assert not SchedulerSettings.from_command_line(["tcp://127.0.0.1:1", "-c", str(file)]).protected
    assert "nobody reads the section [shceduler]; did you mean [scheduler]?" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[sheduler]\nsecurity_dir = 'keys'\n", "security_dir = 'keys'\n[scheduler]\n"])
def test_keys_that_nobody_would_read_end_the_start(text: str, tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        SchedulerSettings.from_command_line(["tcp://127.0.0.1:1", "-c", str(file)])
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{file}: ")
    assert "[scheduler]" in line


@pytest.mark.parametrize("setting", ["user = 'games'", "processor_cpu_seconds = 1", "environment_deny = 'AWS_*'"])
def test_fences_that_nobody_would_read_end_the_start(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    file.write_text(f"[clusters]\n{setting}\n")
    with pytest.raises(ConfigurationError, match=r"nobody reads the section \[clusters\]; did you mean \[cluster\]"):
        ClusterSettings.from_command_line(["tcp://127.0.0.1:1", "-c", str(file)])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.command)
def test_the_page_and_the_help_name_the_section(
    command: type[ServiceSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and f"`{command.command}`" in line]
    assert f"`[{command.section}]`" in row
    with pytest.raises(SystemExit):
        command.from_command_line(["-h"])
    shown = capsys.readouterr().out
    assert f"[{command.section}]" in shown
    assert not re.search(r"\(default: [^)]*\)\s+\(default: ", shown)
