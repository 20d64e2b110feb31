"""The command without Symphony's Python module."""

from __future__ import annotations

import subprocess
import sys


def test_fences_are_refused_where_symphony_starts_the_processes() -> None:
    flags = ["--user", "nobody", "--processor-cpu-seconds=3"]
    ended = subprocess.run(
        [sys.executable, "-m", "scaler_adapters.symphony", "tcp://127.0.0.1:2345", "--service-name", "s", *flags],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "--processor-cpu-seconds, --user: Symphony starts the processes that run tasks" in ended.stderr


def test_a_preload_is_refused_where_symphony_starts_the_processes() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "scaler_adapters.symphony",
            "tcp://127.0.0.1:2345",
            "--service-name",
            "s",
            "--preload=os:getpid",
        ],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "--preload: Symphony starts the processes that run tasks" in ended.stderr


def test_symphony_without_its_python_module_is_one_clear_error() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "scaler_adapters.symphony", "tcp://127.0.0.1:2345", "--service-name", "s"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "soamapi is not installed; it comes with IBM Spectrum Symphony" in ended.stderr
