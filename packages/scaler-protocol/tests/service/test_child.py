"""Services as real child processes: readiness, stages of stopping, and not outliving their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.child import ChildService, describe_exit
from scaler_protocol.service.errors import ServiceError

HERE = Path(__file__).parent

StartClock = Callable[..., ChildService]


@pytest.fixture
def start_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartClock]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    children: list[ChildService] = []

    def start(*arguments: str) -> ChildService:
        children.append(ChildService.start("clock_service", arguments))
        return children[-1]

    yield start
    for child in children:
        child.terminate(0)


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    # A container's first process may not collect orphans: a zombie has ended.
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("event_loop", ["builtin", "uvloop"])
def test_a_child_reports_its_addresses_and_stops_when_asked(start_clock: StartClock, event_loop: str) -> None:
    child = start_clock("--event-loop", event_loop)
    assert child.wait_ready(30) == {"clock": Address.parse("tcp://127.0.0.1:4711")}
    assert child.is_running
    assert child.terminate(10) == 0
    assert not child.is_running
    assert child.terminate(10) == 0


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_service_that_hangs(start_clock: StartClock, signal_number: signal.Signals) -> None:
    child = start_clock("--stubborn")
    child.wait_ready(30)
    os.kill(child.pid, signal_number)
    time.sleep(0.2)
    assert child.is_running
    os.kill(child.pid, signal_number)
    assert child.process.wait(10) == 128 + signal_number


def test_a_child_that_does_not_stop_is_killed(start_clock: StartClock) -> None:
    child = start_clock("--stubborn")
    child.wait_ready(30)
    assert describe_exit(child.terminate(0.2)) == "killed by SIGKILL"


def test_a_child_that_cannot_start_is_explained(start_clock: StartClock, capfd: pytest.CaptureFixture[str]) -> None:
    child = start_clock("--no-such-flag")
    with pytest.raises(ServiceError, match="clock_service ended before it was ready: exit status 2"):
        child.wait_ready(30)
    assert capfd.readouterr().err == "scaler_clock: unrecognized arguments: --no-such-flag (-h lists the flags)\n"


def test_a_child_that_says_nothing_is_given_up(start_clock: StartClock, monkeypatch: pytest.MonkeyPatch) -> None:
    child = ChildService.start("timeit", ["-n1", "-r1", "-s", "import time", "time.sleep(60)"])
    with pytest.raises(ServiceError, match=r"did not become ready within 0\.2 s"):
        child.wait_ready(0.2)
    assert not child.is_running


# A parent that starts the clock from the thread named in its argument, prints the clock's pid, and waits.
PARENT = textwrap.dedent(
    """
    import sys, threading, time
    from scaler_protocol.service.child import ChildService
    def start():
        child = ChildService.start("clock_service", sys.argv[2:])
        child.wait_ready()
        print(child.pid, flush=True)
    if sys.argv[1] == "thread":
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    else:
        start()
    time.sleep(60)
    """
)


@pytest.mark.parametrize("event_loop", ["builtin", "uvloop"])
@pytest.mark.parametrize("starter", ["main", "thread"])
def test_a_child_ends_with_its_parent_process_but_not_with_a_thread_of_it(
    starter: str, event_loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    arguments = [sys.executable, "-c", PARENT, starter, "--event-loop", event_loop, "--logging-paths", "/dev/null"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            child_pid = int(parent.stdout.readline())
            time.sleep(0.3)
            assert not is_gone(child_pid)
        finally:
            parent.kill()
    wait_until(lambda: is_gone(child_pid))
