"""The shell completions in the packages are those of today's flags, and shells can read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.write_completions import PACKAGES, completions

WRITTEN = completions()


def test_each_command_has_its_completions_and_nobody_else() -> None:
    assert set(PACKAGES.glob("*/completions/*/*")) == set(WRITTEN)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_they_are_those_of_today_s_flags(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == WRITTEN[path], "run python scripts/write_completions.py"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_all_flags_of_the_help_are_completed(path: Path) -> None:
    program = Path(sys.executable).parent / path.name.removeprefix("_")
    shown = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=50, check=True).stdout
    flags = set(re.findall(r"^  (--[a-z-]+)", shown, re.MULTILINE))
    assert flags <= set(re.findall(r"--[a-z-]+", WRITTEN[path]))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_flags_and_files(tmp_path: Path) -> None:
    (tmp_path / "scaler.toml").touch()
    script = PACKAGES / "scaler-worker/completions/bash/scaler_cluster"
    program = f"""
    source {script}
    ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${{#COMP_LINE}}; COMPREPLY=()
      _shtab_scaler_cluster; echo "${{COMPREPLY[@]}}"; }}
    cd {tmp_path}
    ask scaler_cluster --num
    ask scaler_cluster --config sca
    """
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert [line.strip() for line in done.stdout.splitlines()] == ["--num-of-workers", "scaler.toml"], done.stderr
