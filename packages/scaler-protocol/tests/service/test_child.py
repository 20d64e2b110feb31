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
from typing import Any

import psutil
import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.child import ChildService, describe_exit
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.testing.waiting import wait_until

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
def test_a_second_signal_ends_a_service_that_hangs(
    start_clock: StartClock, signal_number: signal.Signals, tmp_path: Path
) -> None:
    log = tmp_path / "clock.log"
    child = start_clock("--stubborn", "--logging-paths", str(log))
    child.wait_ready(30)
    os.kill(child.pid, signal_number)
    # Two of a kind that it has not taken yet would be one to it.
    wait_until(lambda: "stopping" in log.read_text())
    time.sleep(0.2)  # sleeps: it must not end in that time
    assert child.is_running
    os.kill(child.pid, signal_number)
    assert child.join(10) == 128 + signal_number


def test_a_child_that_does_not_stop_is_killed(start_clock: StartClock) -> None:
    child = start_clock("--stubborn")
    child.wait_ready(30)
    assert describe_exit(child.terminate(0.2)) == "killed by SIGKILL"


def test_a_child_that_cannot_start_is_explained(start_clock: StartClock, capfd: pytest.CaptureFixture[str]) -> None:
    child = start_clock("--no-such-flag")
    with pytest.raises(ServiceError, match="clock_service ended before it was ready: exit status 2") as caught:
        child.wait_ready(30)
    assert "scaler_clock: unrecognized arguments: --no-such-flag (-h lists the flags)" in str(caught.value)
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
            time.sleep(0.3)  # sleeps: it must not end in that time
            assert not is_gone(child_pid)
        finally:
            parent.kill()
    wait_until(lambda: is_gone(child_pid))


# A parent that forks the clock after it has opened a file and a log, prints its pid and descriptors, and waits.
FORKING_PARENT = textwrap.dedent(
    """
    import logging, os, sys, threading, time
    from scaler_protocol.service.child import ChildService
    from scaler_protocol.service.log import set_up_logging
    set_up_logging([os.devnull])
    kept = open(os.devnull)
    if sys.argv[1] == "threads":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    child = ChildService.fork("clock_service", ["--logging-paths", sys.argv[2]])
    child.wait_ready()
    targets = []
    for name in os.listdir(f"/proc/{child.pid}/fd"):
        try:
            targets.append(os.readlink(f"/proc/{child.pid}/fd/{name}"))
        except FileNotFoundError:
            pass  # closed meanwhile: it is still starting
    print(child.pid, os.getpgid(child.pid) == child.pid, targets.count(os.devnull), flush=True)
    print(open(f"/proc/{child.pid}/comm").read().strip(), flush=True)
    sys.stdin.readline()
    print(child.terminate(), child.is_running, flush=True)
    time.sleep(60)
    """
)


@pytest.fixture
def forking_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    parents: list[subprocess.Popen[str]] = []

    def start(how: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", FORKING_PARENT, how, str(tmp_path / "clock.log")]
        parents.append(subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return parents[-1]

    yield start
    for parent in parents:
        parent.kill()
        parent.communicate()


def lines_of(parent: subprocess.Popen[str], count: int) -> list[str]:
    assert parent.stdout is not None
    return [parent.stdout.readline().strip() for _ in range(count)]


def test_a_forked_service_holds_nothing_of_its_parent_s(forking_parent: Callable[..., Any], tmp_path: Path) -> None:
    parent = forking_parent("alone")
    (pid, leads_a_group, open_null_devices), name = lines_of(parent, 2)[0].split(), "clock_service"
    assert (leads_a_group, open_null_devices) == ("True", "0")
    assert Path(f"/proc/{pid}/comm").read_text().strip() == name[:15]
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert lines_of(parent, 1) == ["0 False"]
    # It logs to where it was told, not to where its parent does.
    assert "stopping" in (tmp_path / "clock.log").read_text()


def test_a_forked_service_ends_with_its_parent(forking_parent: Callable[..., Any]) -> None:
    parent = forking_parent("alone")
    pid = int(lines_of(parent, 1)[0].split()[0])
    parent.kill()
    wait_until(lambda: is_gone(pid))


def test_a_process_with_threads_does_not_fork(forking_parent: Callable[..., Any]) -> None:
    _, name = lines_of(forking_parent("threads"), 2)
    assert name.startswith("python")


def test_a_forked_service_that_cannot_start_is_explained() -> None:
    program = textwrap.dedent(
        """
        from scaler_protocol.service.child import ChildService
        from scaler_protocol.service.errors import ServiceError
        for module in ("no_such_service", "timeit"):
            child = ChildService.fork(module, ["-n1", "-r1", "1 / 0"])
            try:
                child.wait_ready(30)
            except ServiceError as error:
                print(error)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    told = done.stdout.splitlines()
    assert told[0] == "no_such_service ended before it was ready: exit status 1"
    assert "timeit ended before it was ready: exit status 1" in told
    # The reason comes along, for those who do not see stderr.
    assert "ImportError: No module named no_such_service" in told
    assert "No module named no_such_service" in done.stderr
