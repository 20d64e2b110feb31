"""Runs tests while their processes are paused at random moments: `python -m tests.paused_run PATH`, or `nox -s races -- PATH`.

What relies on one process being faster than another fails so within minutes, and otherwise once in a hundred runs of the suite.
This module is also the plugin of pytest that lets threads take turns at other moments in each test. A failure is not always a
race: a test may have half a second for something on purpose. Ask whether a busy machine could do the same.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence

import psutil
import pytest

PAUSES_SECONDS = (0.005, 0.02, 0.05, 0.25)
BETWEEN_SECONDS = 0.1
"""Most between two pauses."""

LOOK_SECONDS = 1.0
"""How often new processes are looked for."""

SWITCH_SECONDS = (1e-6, 1e-4, 0.005, 0.03, 0.1)
"""How long a thread runs while others wait; Python's own is the third."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Run one test with a random switch interval."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(random.choice(SWITCH_SECONDS))
    try:
        return (yield)
    finally:
        sys.setswitchinterval(usual)


def main(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments, pause what it starts, and return its exit status."""
    tests = subprocess.Popen([sys.executable, "-m", "pytest", "-p", "tests.paused_run", *arguments])
    try:
        while tests.poll() is None:
            _pause_some(_started_by(tests.pid))
    finally:
        tests.terminate()
    return tests.wait()


def _started_by(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _pause_some(processes: Sequence[psutil.Process]) -> None:
    until = time.monotonic() + LOOK_SECONDS
    while (now := time.monotonic()) < until:
        time.sleep(min(random.uniform(0.0, BETWEEN_SECONDS), until - now))  # sleeps: tests run meanwhile
        if processes:
            _pause(random.choice(processes))


def _pause(process: psutil.Process) -> None:
    try:
        # Services, processors, clients, and the processes of a spread run; not browsers and databases. What a test has stopped
        # stays so.
        if not _is_ours(process.name()) or process.status() == psutil.STATUS_STOPPED:
            return
        process.send_signal(signal.SIGSTOP)
    except psutil.Error:
        return
    try:
        time.sleep(random.choice(PAUSES_SECONDS))  # sleeps: the pause
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)


def _is_ours(name: str) -> bool:
    return "python" in name or "scaler" in name or name == "node"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
