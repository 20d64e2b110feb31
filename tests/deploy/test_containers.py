"""The files for containers. No engine runs here: a linter reads the image's file, and the commands parse their command lines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.service.settings import ServiceSettings
from scaler_scheduler.settings import SchedulerSettings
from scaler_worker.settings import ClusterSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "container"
IMAGE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMMANDS: dict[str, type[ServiceSettings]] = {
    settings.command: settings for settings in (SchedulerSettings, ClusterSettings, ObjectStorageSettings)
}
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))[
        "services"
    ]
    return services


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint")
def test_a_linter_finds_nothing_in_the_image_s_file() -> None:
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, "--format", "json", FOLDER / "Dockerfile"], capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_the_image_is_small_and_has_no_rights() -> None:
    stages = re.findall(r"^FROM (\S+)", IMAGE, re.MULTILINE)
    assert len(stages) == 2
    assert all(stage.endswith("-slim") for stage in stages)
    last = IMAGE[IMAGE.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "COPY" not in last


def test_the_image_has_every_package_and_only_extras_that_exist() -> None:
    built = dict(re.findall(r"packages/(scaler-\w+)(?:\[([\w,]+)\])?", IMAGE))
    projects = {
        path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for path in ROOT.glob("packages/*/pyproject.toml")
    }
    assert set(built) == set(projects)
    for name, extras in built.items():
        assert set(filter(None, extras.split(","))) <= set(projects[name].get("optional-dependencies", {})), name


def test_what_is_copied_into_the_build_is_there() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "*"
    for line in lines[1:]:
        if line.startswith("!"):
            assert list(ROOT.glob(line[1:])), line


@pytest.mark.parametrize("name", [name for name in services() if name != "keys"])
def test_the_commands_take_their_command_lines(name: str) -> None:
    command, *arguments = services()[name]["command"]
    settings = COMMANDS[command].from_command_line(arguments)
    assert str(getattr(settings, "security_dir", None)) == "/keys/cluster"


@pytest.mark.parametrize("name", list(services()))
def test_services_have_few_rights_and_publish_to_this_machine_only(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert set(service.get("depends_on", ())) <= set(services())
    assert (ROOT / "deploy/container" / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).exists()


def test_addresses_in_the_cluster_are_names_of_services() -> None:
    for service in services().values():
        for host in re.findall(r"tcp://([\w.]+):", " ".join(service["command"])):
            assert host == "0.0.0.0" or host in services()


def test_only_servers_can_read_the_server_s_key() -> None:
    assert {name for name, service in services().items() if "keys:/keys" in service["volumes"]} == {
        *("keys", "storage", "scheduler"),
    }


def test_keys_are_made_once_and_workers_get_their_own(tmp_path: Path) -> None:
    shell, flag, script = services()["keys"]["command"]
    script = re.sub(r"/(worker-)?keys/", lambda match: f"{tmp_path}{match[0]}", script)
    for folder in ("keys", "worker-keys"):
        (tmp_path / folder).mkdir()
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    made = []
    for _ in range(2):
        subprocess.run([shell, flag, script], check=True, env=environment, capture_output=True, timeout=50)
        made.append({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert made[0] == made[1]
    assert {path.name for path in (tmp_path / "worker-keys/cluster").iterdir()} == {"server.pub", "worker.key"}
