"""A run whose processes are paused pauses what tests start, lets what they have stopped be, and has their exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.deployment import ROOT

STORY = """
import signal, subprocess, sys

IS_PAUSED = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [18]); print(flush=True); signal.sigwait([18])"

def test_what_is_started_is_paused():
    stopped = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
    paused = subprocess.Popen([sys.executable, "-c", IS_PAUSED], stdout=-1)
    try:
        stopped.stdout.readline()
        stopped.send_signal(signal.SIGSTOP)
        assert paused.wait(60) == 0
        status = open(f"/proc/{stopped.pid}/stat").read().split()[2]
        assert status == "T"
    finally:
        for process in (stopped, paused):
            process.kill()
            process.wait()

def test_that_fails():
    assert False
"""


@pytest.mark.parametrize(("chosen", "status"), [("paused", 0), ("fails", 1)])
def test_a_run_whose_processes_are_paused(tmp_path: Path, chosen: str, status: int) -> None:
    (tmp_path / "test_story.py").write_text(STORY)
    command = [sys.executable, "-m", "tests.paused_run", str(tmp_path), "-q", "-p", "no:cacheprovider", "-k", chosen]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert "1 deselected" in ended.stdout
