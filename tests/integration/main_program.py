"""Runs a program of `main_programs` as `__main__`, where functions and classes travel by value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROGRAMS = Path(__file__).parent / "main_programs"
_SECONDS = 240


def run_program(program: str, *arguments: str) -> dict[str, Any]:
    """Run a program and return the problems it has found."""
    done = subprocess.run(
        [sys.executable, str(_PROGRAMS / program), *arguments],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
