"""Runs a program of `main_programs` as `__main__`, where functions and classes travel by value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scaler import SchedulerClusterCombo
from scaler.testing import InProcessCluster

_ROOT = Path(__file__).parents[2]
_PROGRAMS = Path(__file__).parent / "main_programs"
PROGRAM_SECONDS = 240
"""A program may take so long. Tests that run one need a timeout beyond that."""


def run_program(program: str, *arguments: str) -> dict[str, Any]:
    """Run a program and return the problems it has found."""
    done = subprocess.run(
        [sys.executable, str(_PROGRAMS / program), *arguments],
        # For `open_cluster`, which programs use.
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def open_cluster(where: str) -> Iterator[str]:
    """For programs: yield the address of a cluster of one worker, of one in this process, or the one that `where` is."""
    if where == "in process":
        with InProcessCluster() as cluster:
            yield cluster.address
    elif where == "cluster":
        with SchedulerClusterCombo(n_workers=1) as combo:
            yield combo.get_address()
    else:
        yield where
