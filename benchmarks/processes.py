"""The processes of one sample, however they were started, and what they use.

Whatever a system starts inherits the environment of the sample, also where it becomes a daemon with a session of its own. So a
variable with a random value finds them, and nobody else's. Some overwrite their environment with a title; those are found
as children of others, or, once orphaned, as children of the runner, which adopts orphans.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator

import psutil

MARK = "SCALER_BENCHMARK_SAMPLE"

KILL_SECONDS = 10.0
"""How long to go on killing what does not go away."""

_PR_SET_CHILD_SUBREAPER = 36
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied, ProcessLookupError, FileNotFoundError)


def adopt_orphans() -> None:
    """From now on, descendants of this process whose parent has died become its children (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """Return the living descendants of a process, by default of this one."""
    found = []
    with contextlib.suppress(*_GONE):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(*_GONE):
                if process.status() == psutil.STATUS_ZOMBIE:
                    # One of ours that was adopted: nobody else would ever ask for its status.
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(process.pid, os.WNOHANG)
                else:
                    found.append(process)
    return found


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes whose environment carries this mark, and their descendants."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(*_GONE):
            if process.environ().get(MARK) == mark:
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
    return list(found.values())


def of_this_sample() -> list[psutil.Process]:
    """Return all processes of the sample that runs here."""
    return marked(os.environ[MARK])


def started_by_this_sample() -> list[psutil.Process]:
    """Return all processes of the sample that runs here, but this one."""
    return [process for process in of_this_sample() if process.pid != os.getpid()]


def kill(find: Callable[[], list[psutil.Process]], grace_s: float) -> int:
    """End what is found until nothing is found; return how many processes there still were after the time of grace."""
    end = time.monotonic() + grace_s
    while (left := find()) and time.monotonic() < end:
        time.sleep(0.1)
    # Again and again: what is killed may just be starting something.
    end = time.monotonic() + KILL_SECONDS
    remaining = left
    while remaining and time.monotonic() < end:
        for process in remaining:
            with contextlib.suppress(*_GONE):
                process.kill()
        time.sleep(0.05)
        remaining = find()
    return len(left)


def listener(port: int) -> int:
    """Return the pid of the process of this sample that listens on a TCP port: that is how a server shows from outside."""
    for process in started_by_this_sample():
        with contextlib.suppress(*_GONE):
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return int(process.pid)
    raise RuntimeError(f"no process of this sample listens on port {port}")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that the living threads of a process have used, in nanosecond steps.

    The usual source, /proc/PID/stat, counts in steps of 10 ms: too coarse for microseconds per task.
    """
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(*_GONE), open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def pss_bytes(process: psutil.Process) -> int:
    """Return the proportional set size: private pages, and of shared ones this process's part."""
    with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss line for process {process.pid}")


def total_pss_bytes(processes: list[psutil.Process]) -> int:
    """Return the memory of all of them together; pages that they share count once."""
    total = 0
    for process in processes:
        with contextlib.suppress(*_GONE):
            total += pss_bytes(process)
    return total


def total_rss_bytes(processes: list[psutil.Process]) -> int:
    """Return the sum of the resident set sizes; pages that they share count in each."""
    total = 0
    for process in processes:
        with contextlib.suppress(*_GONE):
            total += process.memory_info().rss
    return total


class Peak:
    """The highest value seen while `watch` was active."""

    def __init__(self) -> None:
        self.value = 0.0


@contextlib.contextmanager
def watch(read: Callable[[], float], interval_s: float = 0.05) -> Iterator[Peak]:
    """Read a value again and again in the background and keep the highest."""
    peak = Peak()
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.is_set():
            peak.value = max(peak.value, read())
            stopped.wait(interval_s)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stopped.set()
        thread.join()
        peak.value = max(peak.value, read())
