"""What it costs to be looked at: single submits with scaler_ui, scaler_top and metrics attached, against without.

First the scheduler's memory, in a cluster that has done little else: under the same moderate load for a while without monitors,
then as long with stopped ones. What may wait for a stopped one is bounded in messages (`SEND_QUEUE_MESSAGES` of the publisher),
and ends when ZeroMQ's heartbeats cut it off, within half a minute. So what the scheduler holds for it (`held_mib`) has a bound,
and what has none goes on growing: the growth that counts begins when that queue has had time to fill and to be given up, and
stands beside the growth in as long a time without monitors.

Then the rates, of two clusters that stand side by side: one is watched, the other is not, and rounds of a fraction of a
second take turns, so that whatever the machine does meets both alike. In each turn: the other cluster, the watched one,
and the watched one with its monitors stopped by SIGSTOP. They are stopped whenever it is not their turn, too; what they missed
meanwhile they read in it. In further turns nobody is watched: how far such a comparison may be trusted. Clusters differ a little
by themselves, so each is watched as often as the other, and a ratio is the geometric mean of both medians. The monitors run on
the same machine: with two cores, what they compute themselves is taken from the cluster too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import statistics
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, NamedTuple

import psutil

from benchmarks import processes
from benchmarks.system import Cluster, free_ports
from benchmarks.tasks import identity
from benchmarks.workload import Better, Metric, Run, Workload, check, growing

ROUND_SECONDS = 0.2
"""Twice as many of half the length tell more: the machine changes slowly."""
TURNS, TURNS_QUICK = 80, 8
"""In each block."""
BLOCKS = 2
"""How often each of the two clusters is watched."""
SHARE_ROUNDS = 10
"""As long as so many rounds the monitors' own share is measured, at once."""
PAUSE_SECONDS = 0.1
"""Before each round, whichever it is."""
SETTLE_SECONDS = 1.5
FILL_SECONDS, FILL_SECONDS_QUICK = 40.0, 5.0
"""By then a stopped monitor's queue is as full as it gets: it is cut off after 25 to 30 s."""
WATCH_SECONDS, WATCH_SECONDS_QUICK = 75.0, 6.0
"""How long the scheduler's memory is watched, without monitors and again with stopped ones."""
BURST_TASKS = 2_000
"""Under way at once meanwhile: what tens of thousands take is not all given back, and growth would hide in it."""
WARM_SECONDS, WARM_SECONDS_QUICK = 45.0, 5.0
"""Until caches, buffers and estimates are made."""
READ_SECONDS = 0.5
START_SECONDS = 30.0
ROWS, COLUMNS = 40, 150

VIEWER = """
import sys, threading, time, urllib.request
base = sys.argv[1]
def follow():
    with urllib.request.urlopen(base + "/api/stream") as stream:
        while stream.read(1024):
            pass
threading.Thread(target=follow, daemon=True).start()
while True:
    urllib.request.urlopen(base + "/metrics").read()
    time.sleep(5)
"""
"""A page that is open and a Prometheus server, which asks every five seconds."""


class Monitors(Workload):
    """See the module."""

    name = "monitors"
    title = "Single submits with scaler_ui, scaler_top and metrics attached, against without"
    metrics = (
        Metric("attached_ratio", "submit with monitors : without", "", Better.HIGHER, target=0.97),
        Metric("stopped_ratio", "submit with stopped monitors : without", "", Better.HIGHER, target=0.97),
        Metric("control_ratio", "the same comparison with nobody watching", "", Better.HIGHER),
        Metric("attached_cpu_ratio", "processor time per task: without : with monitors", "", Better.HIGHER),
        Metric("stopped_cpu_ratio", "processor time per task: without : stopped monitors", "", Better.HIGHER),
        Metric("control_cpu_ratio", "processor time per task: nobody watching", "", Better.HIGHER),
        Metric("stopped_growth_mib", "scheduler's growth with stopped monitors", "MiB", Better.LOWER, target=2),
        Metric("unwatched_growth_mib", "scheduler's growth in as long without", "MiB", Better.LOWER),
        Metric("held_mib", "memory held for stopped monitors", "MiB", Better.LOWER, target=16),
    )
    systems = ("scaler",)
    limit_s = 1_500.0

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as first, run.cluster() as second:
            memory = _watch_memory(first, quick=run.quick)
            count, _ = growing(lambda count: _submit(first, count), first=200, last=200_000, seconds=ROUND_SECONDS)
            # The second one's caches and estimates are to be as warm.
            growing(lambda count: _submit(second, count), first=200, last=count, seconds=ROUND_SECONDS)
            return memory | _compare(first, second, count, TURNS_QUICK if run.quick else TURNS)


def _submit(cluster: Cluster, count: int) -> float:
    """Run so many tasks; return the seconds they took."""
    begin = time.perf_counter()
    results = cluster.gather([cluster.submit(identity, number) for number in range(count)])
    taken = time.perf_counter() - begin
    check(results, list(range(count)))
    return taken


class _Round(NamedTuple):
    rate: float
    cpu_per_task: float
    """Seconds of processor time of client, clusters and monitors together: hardly moved by what else the machine does."""


class _Pair(NamedTuple):
    """One round beside another."""

    rate: float
    cpu: float
    """Of the other one's processor time a task: below 1 where this one's is higher."""


class _Comparison:
    """Pairs of rounds, apart for each of the two clusters: the clusters themselves differ a little."""

    def __init__(self) -> None:
        self._pairs: tuple[list[_Pair], list[_Pair]] = ([], [])

    def add(self, which: int, one: _Round, other: _Round) -> None:
        self._pairs[which].append(_Pair(one.rate / other.rate, other.cpu_per_task / one.cpu_per_task))

    def figures(self, name: str) -> dict[str, float]:
        pairs = self._pairs[0] + self._pairs[1]
        return {
            f"{name}_ratio": self._middle(lambda pair: pair.rate),
            f"{name}_cpu_ratio": self._middle(lambda pair: pair.cpu),
            f"{name}_lowest": min(pair.rate for pair in pairs),
            f"{name}_highest": max(pair.rate for pair in pairs),
            f"{name}_pairs": len(pairs),
        }

    def _middle(self, read: Callable[[_Pair], float]) -> float:
        return statistics.geometric_mean(statistics.median(map(read, pairs)) for pairs in self._pairs)


def _compare(first: Cluster, second: Cluster, count: int, turns: int) -> dict[str, float]:
    attached, stopped, control = _Comparison(), _Comparison(), _Comparison()
    shares: list[float] = []
    clusters = first, second
    for block in range(2 * BLOCKS):
        # One after the other, then the other way round.
        which = (block + block // 2) % 2
        watched, alone = clusters[which], clusters[1 - which]
        pids = _pids()
        for turn in range(turns):
            one, other = _in_turn(turn, partial(_round, watched, count, pids), partial(_round, alone, count, pids))
            control.add(which, one, other)
        with _attached(watched.monitor_address()) as watching:
            # What they do when they start is over by then.
            time.sleep(2 * SETTLE_SECONDS)
            shares.append(watching.cpu_share(partial(_submit, watched, SHARE_ROUNDS * count)))
            pids = _pids()
            with watching.stopped():
                for turn in range(turns):
                    one, other = _in_turn(
                        turn,
                        partial(watching.going_on, partial(_round, watched, count, pids)),
                        partial(_round, alone, count, pids),
                    )
                    attached.add(which, one, other)
                    stopped.add(which, _round(watched, count, pids), other)
    return {
        **attached.figures("attached"),
        **stopped.figures("stopped"),
        **control.figures("control"),
        "monitors_cpu_share": statistics.median(shares),
    }


def _in_turn(turn: int, one: Callable[[], _Round], other: Callable[[], _Round]) -> tuple[_Round, _Round]:
    """Return a round of each; every other time the other one is first."""
    if turn % 2:
        after = other()
        return one(), after
    return one(), other()


def _round(cluster: Cluster, count: int, pids: list[int]) -> _Round:
    time.sleep(PAUSE_SECONDS)
    before = _cpu_seconds(pids)
    taken = _submit(cluster, count)
    return _Round(count / taken, (_cpu_seconds(pids) - before) / count)


def _pids() -> list[int]:
    return list({os.getpid(), *(process.pid for process in processes.of_this_sample())})


def _cpu_seconds(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += processes.cpu_seconds(pid)
    return total


def _watch_memory(cluster: Cluster, *, quick: bool) -> dict[str, float]:
    scheduler = psutil.Process(cluster.scheduler_pid())
    seconds = WATCH_SECONDS_QUICK if quick else WATCH_SECONDS

    def sizes_under_load(seconds: float) -> list[float]:
        """The scheduler's own memory in MiB, again and again: not what it shares with others that come and go."""
        sizes: list[float] = []
        now = time.monotonic()
        ends, due = now + seconds, now
        while (now := time.monotonic()) < ends:
            _submit(cluster, BURST_TASKS)
            if now >= due:
                sizes.append(scheduler.memory_full_info().uss / 1024**2)
                due = now + READ_SECONDS
        return sizes

    sizes_under_load(WARM_SECONDS_QUICK if quick else WARM_SECONDS)
    unwatched = sizes_under_load(seconds)
    with _attached(cluster.monitor_address()) as watching:
        time.sleep(SETTLE_SECONDS)
        with watching.stopped():
            filling = sizes_under_load(FILL_SECONDS_QUICK if quick else FILL_SECONDS)
            stopped = sizes_under_load(seconds)
    return {
        "stopped_growth_mib": _growth(stopped),
        "unwatched_growth_mib": _growth(unwatched),
        "held_mib": max(0.0, max(filling) - max(unwatched)),
        "unwatched_highest_mib": max(unwatched),
        "filling_highest_mib": max(filling),
        "stopped_highest_mib": max(stopped),
    }


def _growth(sizes: list[float]) -> float:
    """From the first to the last quarter, in medians: between two readings it rises and falls with the tasks under way."""
    quarter = max(1, len(sizes) // 4)
    return statistics.median(sizes[-quarter:]) - statistics.median(sizes[:quarter])


class _Watching:
    """The processes that watch."""

    def __init__(self, ui: int, others: list[int]) -> None:
        self._pids = [ui, *others]

    def cpu_share(self, load: Callable[[], object]) -> float:
        """Return how much of a core they use while the load runs."""
        before, began = _cpu_seconds(self._pids), time.perf_counter()
        load()
        return (_cpu_seconds(self._pids) - before) / (time.perf_counter() - began)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def going_on(self, load: Callable[[], _Round]) -> _Round:
        """Run the load with them, while they are stopped otherwise."""
        self._signal(signal.SIGCONT)
        try:
            return load()
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            os.kill(pid, number)


@contextlib.contextmanager
def _attached(monitor_address: str) -> Iterator[_Watching]:
    """Run scaler_ui with an open page and a reader of its metrics, and scaler_top in a terminal; return once all are live."""
    base = f"http://127.0.0.1:{free_ports(1)}"
    with contextlib.ExitStack() as stack:
        ui = stack.enter_context(
            _process(
                "-m", "scaler_ui.web", monitor_address, "--port", base.rpartition(":")[2], stdout=subprocess.DEVNULL
            )
        )
        _wait_until_live(base)
        top = stack.enter_context(_top(monitor_address))
        viewer = stack.enter_context(_process("-c", VIEWER, base, stderr=subprocess.DEVNULL))
        yield _Watching(ui.pid, [top.pid, viewer.pid])


@contextlib.contextmanager
def _top(monitor_address: str) -> Iterator[subprocess.Popen[bytes]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    drawn = threading.Event()

    def read_screen() -> None:
        # Ends with an error when the terminal's other end is closed.
        with contextlib.suppress(OSError):
            while os.read(ours, 65_536):
                drawn.set()

    reader = threading.Thread(target=read_screen, daemon=True)
    environment = {**os.environ, "TERM": "xterm-256color"}
    with _process(
        "-m", "scaler_ui.top", monitor_address, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as top:
        os.close(theirs)
        reader.start()
        if not drawn.wait(START_SECONDS):
            raise TimeoutError("scaler_top drew nothing")
        yield top
    reader.join(START_SECONDS)
    os.close(ours)


@contextlib.contextmanager
def _process(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *arguments], **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_until_live(base: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            answer: IO[bytes]
            with urllib.request.urlopen(base + "/api/overview", timeout=5) as answer:
                if b'"connection":"live"' in answer.read().replace(b" ", b""):
                    return
        if time.monotonic() > deadline:
            raise TimeoutError("scaler_ui does not hear the scheduler")
        time.sleep(0.1)


WORKLOADS = (Monitors(),)
