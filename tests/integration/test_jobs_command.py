"""The command `scaler_jobs` on a real scheduler."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

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
    # Nothing is forgotten where a name is wrong, and a name that is given twice is one job.
    assert command("forget", address, "overnight", "nightly").returncode == 1
    twice = command("forget", address, "overnight", "overnight")
    assert (twice.returncode, twice.stdout, twice.stderr) == (0, "overnight is forgotten\n", "")
    unknown = command("status", address, "overnight")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "scaler_jobs: there is no job 'overnight'\n"


@pytest.mark.parametrize("arguments", [["scaler.jobs", "list"], ["scaler"]])
def test_ctrl_c_while_a_scheduler_is_waited_for_leaves_no_traceback(arguments: list[str]) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", *arguments, "tcp://127.0.0.1:1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith("no scheduler at tcp://127.0.0.1:1")
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=30) == ("", "")
    assert waiting.returncode == 130


def test_the_directory_of_keys_has_the_flag_of_other_commands_too() -> None:
    for arguments in (["scaler.jobs", "list"], ["scaler"]):
        refused = subprocess.run(
            [sys.executable, "-m", *arguments, "tcp://127.0.0.1:1", "--security-dir", "/no/such"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert refused.returncode == 2
        assert "/no/such is no directory" in refused.stderr
