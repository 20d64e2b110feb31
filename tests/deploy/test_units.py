"""The systemd units and the example file that goes with them."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.slurm.settings import SlurmAdapterSettings
from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.service.security_settings import SecuritySettings
from scaler_protocol.service.settings import ServiceSettings
from scaler_scheduler.settings import SchedulerSettings
from scaler_ui.top.settings import TopSettings
from scaler_ui.web.settings import WebSettings
from scaler_worker.settings import ClusterSettings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
INSTALLED = "/opt/scaler/bin"
COMMANDS: dict[str, type[ServiceSettings]] = {
    settings.command: settings
    for settings in (
        EcsAdapterSettings,
        NativeAdapterSettings,
        SlurmAdapterSettings,
        SymphonyAdapterSettings,
        ObjectStorageSettings,
        SchedulerSettings,
        TopSettings,
        WebSettings,
        ClusterSettings,
    )
}


def read_unit(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return unit


def test_every_service_has_a_unit() -> None:
    started = {read_unit(path)["Service"]["ExecStart"].split()[0] for path in UNITS}
    assert started == {f"{INSTALLED}/{command}" for command in COMMANDS if command != "scaler_top"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_its_command_with_the_example_file(path: Path) -> None:
    command, *arguments = read_unit(path)["Service"]["ExecStart"].split()
    settings_class = COMMANDS[Path(command).name]
    installed = [argument.replace("/etc/scaler", str(DEPLOY)) for argument in arguments]
    settings_class.from_command_line(installed)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_reports_watches_restarts_and_limits(path: Path) -> None:
    service = read_unit(path)["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    assert service["NoNewPrivileges"] == "yes"
    assert {"WatchdogSec", "MemoryMax", "LimitNOFILE", "TimeoutStopSec"} <= set(service)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_unit(path: Path, tmp_path: Path) -> None:
    # The commands are looked for where this test finds them, not where a production machine has them.
    here = Path(sys.executable).parent
    (tmp_path / path.name).write_text(path.read_text().replace(INSTALLED, str(here)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_every_section_of_the_example_file_can_have_keys(tmp_path: Path) -> None:
    text = (DEPLOY / "scaler.toml").read_text()
    file = tmp_path / "scaler.toml"
    file.write_text(re.sub(r"(?m)^\[.*\]$", r'\g<0>\nsecurity_dir = "/etc/scaler/keys"', text))
    for settings_class in COMMANDS.values():
        settings = settings_class.from_command_line(["--config", str(file)])
        assert isinstance(settings, SecuritySettings)
        assert settings.security_dir == Path("/etc/scaler/keys")


@pytest.mark.parametrize("name", ["scheduler", "object-storage"])
def test_servers_read_keys_again_on_reload(name: str) -> None:
    assert read_unit(DEPLOY / "systemd" / f"scaler-{name}.service")["Service"]["ExecReload"] == "kill -HUP $MAINPID"


def test_the_example_file_has_no_section_that_nobody_reads() -> None:
    sections = set(tomllib.loads((DEPLOY / "scaler.toml").read_text()))
    assert sections == {settings.section for settings in COMMANDS.values()}


RUN_TASKS = {"scaler-cluster", "scaler-worker-adapter-native", "scaler-worker-adapter-slurm"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_tasks_run_as_a_user_who_has_neither_the_server_s_key_nor_its_logs(path: Path) -> None:
    service = read_unit(path)["Service"]
    user = "scaler-worker" if path.stem in RUN_TASKS else "scaler"
    assert {service[name] for name in ("User", "Group", "LogsDirectory", "RuntimeDirectory")} == {user}
    assert service["WorkingDirectory"] == f"%t/{user}"
    section = COMMANDS[Path(service["ExecStart"].split()[0]).name].section
    written = tomllib.loads((DEPLOY / "scaler.toml").read_text())[section]["logging_paths"]
    assert [Path(name).parent.name for name in written] == ["dev", user]
