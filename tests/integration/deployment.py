"""Real Scaler processes for tests: started on free ports, watched, and ended in order."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from scaler import Client
from scaler_protocol.address import Address
from scaler_protocol.service.child import ChildService
from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.testing.waiting import wait_until
from tests.own_surroundings import others_use_shared_memory

Value = TypeVar("Value")

ROOT = Path(__file__).parents[2]
"""On the workers' path, so that tasks may use functions of test modules."""

ANY_PORT = "tcp://127.0.0.1:0"
SCHEDULER_BLOCKS = 50
"""Blocks of ports that the schedulers of one process of tests take in turns."""

START_S = 30.0
WAIT_S = 30.0
LOG_TAIL_CHARACTERS = 6_000


def wait_for(what: str, look: Callable[[], Value], timeout_s: float = WAIT_S) -> Value:
    """Return the first true value of `look`; fail with `what` when there is none in time."""
    return wait_until(look, timeout_s, what=what, pause_seconds=0.02)


def wait_for_output(captured: pytest.CaptureFixture[str], out: str, err: str) -> None:
    """Wait until this test's program has written these texts to its standard output and error."""
    so_far = ["", ""]

    def arrived() -> bool:
        read = captured.readouterr()
        so_far[:] = so_far[0] + read.out, so_far[1] + read.err
        return out in so_far[0] and err in so_far[1]

    wait_for(f"{out!r} and {err!r} as output", arrived)


def segments_of(pid: int) -> int:
    """How many segments of large objects a process has open."""
    found = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += "scaler-segment" in os.readlink(path)
        except OSError:
            continue
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet counts as ended."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@dataclass
class Service:
    """One running command."""

    child: ChildService
    addresses: dict[str, Address]
    log_path: Path

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def address(self) -> str:
        """The scheduler's or store's own address."""
        return str(self.addresses.get("scheduler") or self.addresses["object_storage"])

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, text: str, timeout_s: float = WAIT_S) -> None:
        wait_for(f"{text!r} in the log of {self.child.name}", lambda: text in self.log(), timeout_s)

    def children(self) -> list[int]:
        """Process ids of everything it has started."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """kill -9, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.child.join(10)

    def terminate(self) -> int:
        return self.child.terminate()

    def wait_end(self, timeout_s: float = WAIT_S) -> int:
        return self.child.join(timeout_s)


@dataclass
class Deployment:
    """A scheduler and what belongs to it. `close` ends all of it, clients first."""

    folder: Path
    services: list[Service] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    def start(self, module: str, *arguments: str, ready: bool = True, **environment: str) -> Service:
        """Start `python -m module arguments…`, wait until it answers, and keep its output for failures."""
        log_path = self.folder / f"{len(self.services)}-{module}.log"
        with log_path.open("wb") as log:
            child = ChildService.start(
                module, arguments, stdout=log, stderr=log, environment={"PYTHONPATH": str(ROOT), **environment}
            )
        _seen.add(child.pid)
        service = Service(child, {}, log_path)
        self.services.append(service)
        if ready:
            try:
                service.addresses = child.wait_ready(START_S)
            except Exception as error:
                error.add_note(service.log()[-LOG_TAIL_CHARACTERS:])
                raise
        return service

    def scheduler(self, *flags: str, address: str | None = None) -> Service:
        """Start a scheduler; without `address` at one where it can be started again, with its store and monitors beside it."""
        return self.start("scaler_scheduler", address or next(_scheduler_addresses), *flags)

    def storage(self, *flags: str, address: str = ANY_PORT) -> Service:
        return self.start("scaler_objstore", address, *flags)

    def workers(self, scheduler: Service | str, *flags: str, count: int = 2) -> Service:
        address = scheduler if isinstance(scheduler, str) else scheduler.address
        return self.start("scaler_worker", address, "-n", str(count), *flags)

    def client(self, scheduler: Service | str, **settings: Any) -> Client:
        address = scheduler if isinstance(scheduler, str) else scheduler.address
        client = Client(address=address, **settings)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.disconnect()
        # Workers before the scheduler: they say goodbye to somebody.
        for service in reversed(self.services):
            service.terminate()

    def logs(self) -> Iterator[tuple[str, str]]:
        for service in self.services:
            yield service.log_path.name, service.log()[-LOG_TAIL_CHARACTERS:]


def _addresses_in_turns() -> Iterator[str]:
    """Addresses for schedulers, whose next two ports are free too. The system gives these ports to nobody meanwhile."""
    given = []
    for _ in range(SCHEDULER_BLOCKS):
        given.append(f"tcp://127.0.0.1:{free_ports(3)[0]}")
        yield given[-1]
    yield from itertools.cycle(given)


_scheduler_addresses = _addresses_in_turns()


# --- what a test may leave behind: nothing

_seen: set[int] = set()
"""Processes that were this one's children, or theirs, at some time."""


@dataclass(frozen=True)
class Traces:
    """What this process and its children hold of the machine."""

    processes: frozenset[int]
    listening: frozenset[tuple[str, int]]
    shared_memory: frozenset[str]
    threads: frozenset[str]

    def beyond(self, before: Traces) -> list[str]:
        """What is here now and was not before, in words."""
        words = []
        for pid in sorted(self.processes - before.processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                words.append(f"process {pid}: {' '.join(psutil.Process(pid).cmdline())[:200]}")
        words += [f"listening port {host}:{port}" for host, port in sorted(self.listening - before.listening)]
        words += [f"/dev/shm/{name}" for name in sorted(self.shared_memory - before.shared_memory)]
        words += [f"thread {name}" for name in sorted(self.threads - before.threads)]
        return words


def traces() -> Traces:
    """Look around. Orphans of our children count too: `become_subreaper` makes them ours."""
    me = psutil.Process()
    alive = []
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process.pid)
    # All at once: Linux walks through all connections of the machine for each process that is asked for its own.
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in alive
    }
    _seen.update(alive)
    folder = Path("/dev/shm")
    shared = {path.name for path in folder.glob("scaler*") if not _is_somebody_else_s_file(path.name, alive)}
    threads = {thread.name for thread in threading.enumerate() if not _is_somebody_else_s(thread)}
    return Traces(frozenset(alive), frozenset(listening), frozenset(shared), frozenset(threads))


def _is_somebody_else_s_file(name: str, ours: list[int]) -> bool:
    """Names hold the process id of their maker: one that lives and is not ours works for another run on this machine.

    One that is gone was ours, unless other processes of this run use the same shared memory: then it was if we have seen it.
    """
    makers = [int(digits) for digits in re.findall(r"-([0-9]+)-", name)]
    if others_use_shared_memory() and not any(maker in _seen for maker in makers):
        return True
    return any(psutil.pid_exists(maker) and maker not in ours for maker in makers)


def _is_somebody_else_s(thread: threading.Thread) -> bool:
    """The test runner's timers, and the one thread that pyzmq keeps per process once a large frame was sent uncopied."""
    return thread.name.startswith("pytest_timeout") or type(thread).__name__ == "GarbageCollectorThread"


def heed_interrupts() -> None:
    """Have Ctrl-C mean something to the processes of tests, also where a shell runs these in the background and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def become_subreaper() -> None:
    """From now on an orphan of our children becomes our child, so that none gets lost. Linux."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
