"""Columns that are declared, and nothing else, arrive wherever the engine carries tasks and results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.columns.overlay import make_overlay

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overlay")
    make_overlay(folder)
    return folder


def run(overlay: Path, *arguments: str) -> None:
    """Run a module with the overlay in front, in processes of its own, and expect that it ends well."""
    # What plays the other ends for the cores' own tests is there.
    tests = [ROOT / "packages" / name / "tests" for name in ("scaler-adapters", "scaler-scheduler")]
    paths = [overlay, ROOT, *tests]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", ["cluster", "in_process", "symphony", "scheduler"])
def test_values_and_figures_arrive(overlay: Path, name: str) -> None:
    run(overlay, "tests.columns.checks", str(overlay), name)


@pytest.mark.timeout(150)
def test_values_and_figures_arrive_whatever_fails(overlay: Path) -> None:
    run(overlay, "simulation", "--seed", "1", "--steps", "400", "--seeds", "5")
