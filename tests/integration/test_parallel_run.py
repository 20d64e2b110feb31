"""A run that is spread over processes says which test hung or crashed, goes on with the others, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.deployment import ROOT, is_gone

HANGS_AND_CRASHES = """
import faulthandler, subprocess, time, pytest

def test_hangs():
    time.sleep(100)

def test_crashes():
    faulthandler._sigsegv()

def test_leaves_a_process():
    open("left", "w").write(str(subprocess.Popen(["sleep", "100"], start_new_session=True).pid))

@pytest.mark.skip(reason="it is told at the end")
def test_is_skipped():
    pass
"""

PASSES = """
import pytest

@pytest.mark.parametrize("number", range(10))
def test_passes(number):
    pass
"""

PATIENCE_SECONDS = 50.0


def test_a_spread_run_goes_on_after_a_hang_and_a_crash_and_names_both(tmp_path: Path) -> None:
    conftest = (
        ROOT / "conftest.py"
    ).read_text() + "\nimport tests.parallel_run\ntests.parallel_run.END_SECONDS = 0.5\n"
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 2\ntimeout_method = thread\n")
    (tmp_path / "test_bad.py").write_text(HANGS_AND_CRASHES)
    (tmp_path / "test_good.py").write_text(PASSES)
    own = ("PYTEST_XDIST_", "PYTEST_CURRENT", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "pytest_timeout", "-n", "2", "-ra"],
        cwd=tmp_path,
        env={
            **environment,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(tmp_path),
            # Others take seconds to import, in each of the four processes.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, told
    # Each once, and all others after them.
    assert "2 failed, 11 passed, 1 skipped" in ended.stdout, told
    assert "FAILED test_bad.py::test_hangs" in ended.stdout
    assert "FAILED test_bad.py::test_crashes" in ended.stdout
    assert "it is told at the end" in ended.stdout
    # The stacks of both.
    assert "in test_hangs" in ended.stderr
    assert "in test_crashes" in ended.stderr
    left = int((tmp_path / "left").read_text())
    assert f"left behind: process {left}: sleep 100" in ended.stdout
    assert is_gone(left)
    assert not list(tmp_path.glob("tests-gw*"))
