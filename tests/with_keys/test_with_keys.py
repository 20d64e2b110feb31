"""What gives keys to all tests does so: a suite with keys that had none would be green for nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaler_protocol.testing.security_directory import make_security_directory
from tests.with_keys.sitecustomize import VARIABLE, with_flag

FLAG = ["--security-dir", "/keys"]
KEYS_OF_ALL = Path(__file__).parent

PROGRAM = """
import subprocess, sys
from scaler import Client, SchedulerClusterCombo
from scaler.testing import InProcessCluster

if __name__ == "__main__":
    with InProcessCluster() as plain, Client(plain.address) as client:
        print(client.submit(pow, 2, 3).result(30))
    with SchedulerClusterCombo(n_workers=1) as combo:
        with Client(combo.get_address()) as client:
            print(client.submit(pow, 2, 4).result(30))
        without = "import scaler, sys; scaler.Client(sys.argv[1])"
        done = subprocess.run([sys.executable, "-I", "-c", without, combo.get_address()], capture_output=True, text=True)
        print("only peers with keys" in done.stderr)
"""


@pytest.mark.parametrize(
    ("words", "gets"),
    [
        (["python", "-P", "-m", "scaler_scheduler", "tcp://127.0.0.1:0"], True),
        (["/bin/scaler_top", "tcp://127.0.0.1:1"], True),
        (["python", "/bin/scaler_cluster", "tcp://127.0.0.1:1"], True),
        (["sh", "-c", 'exec "$@"', "sh", "python", "-m", "scaler_worker", "tcp://127.0.0.1:1"], True),
        (["python", "-m", "tests.integration.interruptions", "tcp://127.0.0.1:1"], False),
        (["python", "-c", "import scaler_worker"], False),
        (["sleep", "1"], False),
    ],
)
def test_commands_of_scaler_get_the_flag(words: list[str], gets: bool) -> None:
    assert with_flag(words, "/keys") == ([*words, *FLAG] if gets else None)


@pytest.mark.parametrize("own", [["-sd", "/own"], ["--security-dir", "/own"], ["--security-dir=/own"]])
def test_who_says_something_is_left_alone(own: list[str]) -> None:
    words = ["python", "-m", "scaler_worker", "tcp://127.0.0.1:1", *own]
    assert with_flag(words, "/keys") == words


def test_programs_get_keys(tmp_path: Path) -> None:
    path = make_security_directory(tmp_path / "keys")
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(KEYS_OF_ALL), VARIABLE: str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if not line.startswith("[")]
    assert said == ["8", "16", "True"], done.stderr
