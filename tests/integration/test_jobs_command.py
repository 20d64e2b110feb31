"""The command `scaler_jobs` on a real scheduler."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.integration.deployment import Deployment


def squared(number: int) -> int:
    return number * number


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scaler.jobs", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_lists_shows_cancels_and_forgets(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    address = scheduler.address
    assert command("list", address).stdout == "there are no jobs\n"
    client = deployment.client(scheduler, name="night shift")
    with client.job("overnight"):
        client.submit(squared, 2)
    shown = command("list", address).stdout.splitlines()
    assert shown[0].split()[:3] == ["NAME", "WAITING", "RUNNING"]
    assert shown[1].split()[:3] == ["overnight", "1", "0"]
    assert shown[1].endswith("night shift")
    (told,) = json.loads(command("cancel", address, "overnight", "--json").stdout)
    assert (told["name"], told["canceled"], told["tasks"]) == ("overnight", 1, 1)
    assert "FORGOTTEN IN" in command("status", address, "overnight").stdout
    assert command("forget", address, "overnight").stdout == "overnight is forgotten\n"
    unknown = command("status", address, "overnight")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "scaler_jobs: there is no job 'overnight'\n"
