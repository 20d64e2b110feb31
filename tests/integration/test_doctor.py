"""`python -m scaler`: what it says of an installation and of a cluster. And every command says its version."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scaler
from scaler import Cluster, Scheduler, SchedulerClusterCombo
from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.version import SOFTWARE_VERSION

PACKAGES = Path(__file__).parents[2] / "packages"
COMMANDS = sorted(
    command
    for path in PACKAGES.glob("*/pyproject.toml")
    for command in tomllib.loads(path.read_text(encoding="utf-8"))["project"].get("scripts", {})
)


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scaler", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_a_healthy_cluster() -> None:
    with SchedulerClusterCombo(n_workers=2) as cluster:
        text, found = doctor(cluster.get_address()), doctor(cluster.get_address(), "--json")
    assert (text.returncode, found.returncode) == (0, 0), text.stdout + text.stderr
    assert "all is well" in text.stdout.splitlines()
    said = json.loads(found.stdout)
    assert said["ok"] is True
    assert said["scheduler"]["scaler"] == said["here"]["scaler"] == said["workers"]["scaler"] == SOFTWARE_VERSION
    assert (said["workers"]["count"], said["workers"]["hosts"]) == (2, 1)
    assert 0 < said["workers"]["round_trip_seconds"] < 10


def test_a_cluster_without_workers_is_a_problem() -> None:
    with Scheduler(address="tcp://127.0.0.1:0") as scheduler:
        found = doctor(scheduler.get_address(), "--json", "--timeout", "5")
    assert found.returncode == 1
    said = json.loads(found.stdout)
    assert said["workers"]["count"] == 0
    assert "no workers are connected" in said["problems"][0]


def test_object_storage_that_cannot_be_reached_is_a_problem() -> None:
    nowhere = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with (
        Scheduler(address="tcp://127.0.0.1:0", object_storage_address=nowhere) as scheduler,
        Cluster(scheduler.get_address(), n_workers=1),
    ):
        found = doctor(scheduler.get_address(), "--json", "--timeout", "5")
    assert found.returncode == 1, found.stdout
    said = json.loads(found.stdout)
    assert said["workers"]["round_trip_seconds"] > 0
    assert [problem for problem in said["problems"] if nowhere in problem], said


def test_nobody_answers() -> None:
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    text, found = doctor(address, "--timeout", "1"), doctor(address, "--timeout", "1", "--json")
    assert (text.returncode, found.returncode) == (1, 1)
    assert f"no scheduler answers at {address}" in text.stdout
    assert json.loads(found.stdout)["scheduler"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nonsense"], "'nonsense' is not an address: expected tcp://host:port"),
        (["127.0.0.1:2345"], "did you mean tcp://127.0.0.1:2345?"),
        (["tcp://127.0.0.1:2345", "--timeout", "-1"], "--timeout must be greater than 0"),
        (["tcp://127.0.0.1:2345", "--security", "/nowhere"], "/nowhere"),
        (["--security", "keys"], "needs the address"),
        (["--frobnicate"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(arguments: list[str], text: str) -> None:
    done = doctor(*arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_address_it_shows_what_is_here() -> None:
    done = doctor()
    assert done.returncode == 0
    assert f"Scaler {SOFTWARE_VERSION}" in done.stdout


def test_the_package_says_its_version() -> None:
    assert scaler.__version__ == SOFTWARE_VERSION
    assert doctor("--version").stdout == f"scaler {SOFTWARE_VERSION}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_its_version(command: str) -> None:
    program = Path(sys.executable).parent / command
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == f"{command} {SOFTWARE_VERSION}\n"
