"""Many clients at once: what they get in all, how equal their shares are, and how long a lone task waits behind them."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier, Event
from typing import TYPE_CHECKING, ClassVar

from benchmarks.curve import Curve, Point
from benchmarks.system import Cluster, System
from benchmarks.tasks import identity, sleep
from benchmarks.workload import Better, Metric, Run, Workload, check, growing

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

CLIENTS = 100
COUNTS = (1, 2, 5, 10, 20, 50, CLIENTS)
WINDOW = 400
"""Tasks that a client which keeps the cluster busy has submitted and not had back."""

BUSY_SECONDS = 0.002
"""What a task of those clients takes. It sleeps, so that on few cores the wait is the engine's and not the operating system's."""

_CONTEXT = multiprocessing.get_context("forkserver")


class Clients(Workload):
    """Some programs with the same work each, beside one with all of it. Their processes have started before the clock."""

    name = "clients"
    title = f"x -> x from 1 to {COUNTS[-1]:,} clients at once"
    metrics = (
        Metric("of_one", f"{CLIENTS} clients ÷ one", "ratio", Better.HIGHER, target=0.6),
        *(
            Metric(f"of_{count}", f"{count:,} client{'s' if count > 1 else ''} in all", "tasks/s", Better.HIGHER)
            for count in COUNTS
        ),
    )
    curves = (
        Curve(
            "Clients at once",
            "programs that submit at the same time",
            "tasks/s in all",
            tuple(Point(f"{count:,} client{'s' if count > 1 else ''}", f"of_{count}", count) for count in COUNTS),
        ),
    )
    systems: ClassVar[tuple[str, ...] | None] = ("scaler", "ray")
    limit_s = 300.0

    def run(self, run: Run) -> dict[str, float]:
        found: dict[str, float] = {}
        # Otherwise a hundred processes import everything, one after the other.
        _CONTEXT.set_forkserver_preload([__name__, type(run.system).__module__, *run.system.client_modules])
        with run.cluster() as cluster:
            address = cluster.address()
            tasks = _enough(cluster, run.seconds / 2)
            for count in COUNTS:
                if count <= run.system.clients_max:
                    found[f"of_{count}"] = statistics.median(_rate(run.system, address, count, tasks) for _ in range(3))
        if f"of_{CLIENTS}" in found:
            found["of_one"] = found[f"of_{CLIENTS}"] / found["of_1"]
        return found


class Lone(Workload):
    """A client with one task at a time, alone and behind a hundred clients whose queues never end."""

    name = "lone"
    title = f"One task at a time behind {CLIENTS} clients with backlogs of 2 ms tasks"
    metrics = (
        Metric("p99_more_ms", "lone task, p99 more than alone", "ms", Better.LOWER, target=10),
        Metric("share_min", "smallest share ÷ median", "ratio", Better.HIGHER, target=0.9),
        Metric("share_max", "largest share ÷ median", "ratio", Better.LOWER, target=1.1),
    )
    systems: ClassVar[tuple[str, ...] | None] = ("scaler",)

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:
            address = cluster.address()
            alone = _round_trips(address, run.seconds)
            with _busy_clients(address) as shares:
                behind = _round_trips(address, max(4.0, 2 * run.seconds))
        median = statistics.median(shares)
        return {
            "p99_more_ms": 1e3 * (_at(behind, 0.99) - _at(alone, 0.99)),
            "share_min": min(shares) / median,
            "share_max": max(shares) / median,
            "alone_p50_ms": 1e3 * _at(alone, 0.5),
            "alone_p99_ms": 1e3 * _at(alone, 0.99),
            "behind_p50_ms": 1e3 * _at(behind, 0.5),
            "behind_p99_ms": 1e3 * _at(behind, 0.99),
        }


def _enough(cluster: Cluster, seconds: float) -> int:
    """Return how many tasks take one client so long."""

    def measure(count: int) -> float:
        begin = time.monotonic()
        check(cluster.gather([cluster.submit(identity, number) for number in range(count)]), list(range(count)))
        return time.monotonic() - begin

    count, taken = growing(measure, first=200, last=100_000, seconds=seconds)
    return max(int(count * seconds / taken), COUNTS[-1])


def _rate(system: System, address: str, clients: int, tasks: int) -> float:
    """Return how many tasks a second so many clients get done together, from the first one's start to the last one's end."""
    barrier = _CONTEXT.Barrier(clients + 1)
    times: multiprocessing.Queue[tuple[float, float]] = _CONTEXT.Queue()
    each = max(tasks // clients, 1)
    arguments = (system, address, each, barrier, times)
    with _started([_CONTEXT.Process(target=_submit_all, args=arguments) for _ in range(clients)]) as children:
        barrier.wait(timeout=120)
        found = [times.get(timeout=60) for _ in children]
    return clients * each / (max(end for _, end in found) - min(begin for begin, _ in found))


def _submit_all(
    system: System, address: str, tasks: int, barrier: Barrier, times: multiprocessing.Queue[tuple[float, float]]
) -> None:
    client = system.connect(address)
    try:
        check(client.gather([client.submit(identity, number) for number in range(5)]), list(range(5)))
        barrier.wait(timeout=120)
        begin = time.monotonic()
        results = client.gather([client.submit(identity, number) for number in range(tasks)])
        times.put((begin, time.monotonic()))
        check(results, list(range(tasks)))
    finally:
        client.close()


@contextlib.contextmanager
def _busy_clients(address: str) -> Iterator[list[int]]:
    """Keep clients busy. Afterwards, the list has how many tasks of each were done since all were under way."""
    barrier = _CONTEXT.Barrier(CLIENTS + 1)
    counting, stop = _CONTEXT.Event(), _CONTEXT.Event()
    counts: multiprocessing.Queue[int] = _CONTEXT.Queue()
    arguments = (address, barrier, counting, stop, counts)
    shares: list[int] = []
    children = [_CONTEXT.Process(target=_keep_busy, args=arguments) for _ in range(CLIENTS)]
    with _started(children):
        barrier.wait(timeout=60)
        # What the first ones got before all were there has run by then.
        time.sleep(4.0)
        counting.set()
        yield shares
        stop.set()
        shares += [counts.get(timeout=60) for _ in children]


def _keep_busy(
    address: str, barrier: Barrier, counting: Event, stop: Event, counts: multiprocessing.Queue[int]
) -> None:
    from scaler import Client

    with Client(address) as client:
        client.submit(sleep, BUSY_SECONDS).result()
        barrier.wait(timeout=60)
        futures = deque(client.submit(sleep, BUSY_SECONDS) for _ in range(WINDOW))
        count = 0
        while not stop.is_set():
            futures.popleft().result()
            futures.append(client.submit(sleep, BUSY_SECONDS))
            count += counting.is_set()
        for future in futures:
            future.cancel()
        counts.put(count)


def _round_trips(address: str, seconds: float) -> list[float]:
    """Return how long single tasks took, in order of size: one each few milliseconds, as a person's program would send them."""
    from scaler import Client

    times = []
    with Client(address) as client:
        check([client.submit(identity, number).result() for number in range(20)], list(range(20)))
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            client.submit(identity, 1).result()
            times.append(time.perf_counter() - begin)
            time.sleep(0.004)
    return sorted(times)


@contextlib.contextmanager
def _started(children: Sequence[BaseProcess]) -> Iterator[Sequence[BaseProcess]]:
    for child in children:
        child.start()
    try:
        yield children
        for child in children:
            child.join(timeout=30)
    finally:
        for child in children:
            child.kill()
            child.join()


def _at(times: list[float], part: float) -> float:
    return times[min(len(times) - 1, int(part * len(times)))]


WORKLOADS = (Clients(), Lone())
