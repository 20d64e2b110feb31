"""Programs run as `__main__`, where functions and classes travel by value, against real processes and in one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "main_programs"
SECONDS = 240


def run(program: str, *arguments: str) -> dict[str, Any]:
    """Run a program and return the problems it has found."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / program), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_each_call_gets_the_function_as_it_was_submitted(where: str) -> None:
    assert run("state.py", where) == {}


def test_the_same_with_a_custom_serializer() -> None:
    # What this serializer makes of classes and caches of `__main__` is cloudpickle's business.
    found = run("state.py", "cluster", "serializer")
    assert found.keys() <= {"class method", "class_attribute", "cached"}, found


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_classes_come_back_as_they_are_and_nothing_changes_them(where: str) -> None:
    assert run("classes.py", where) == {}


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_buffers_of_any_kind_number_and_size(where: str) -> None:
    assert run("buffers.py", where) == {}
