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

from benchmarks.tasks import identity, sleep
from benchmarks.workload import Better, Metric, Run, Workload, check

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

CLIENTS = 100
WINDOW = 400
"""Tasks that a client which keeps the cluster busy has submitted and not had back."""

BUSY_SECONDS = 0.002
"""What a task of those clients takes. It sleeps, so that on few cores the wait is the engine's and not the operating system's."""

_CONTEXT = multiprocessing.get_context("forkserver")


class Clients(Workload):
    """A hundred programs with the same work each, beside one with all of it. Their processes have started before the clock."""

    name = "clients"
    title = f"x -> x from {CLIENTS} clients at once"
    metrics = (
        Metric("tasks_per_s", f"{CLIENTS} clients in all", "tasks/s", Better.HIGHER, target=90_000),
        Metric("of_one", f"{CLIENTS} clients ÷ one", "ratio", Better.HIGHER, target=0.6),
    )
    systems: ClassVar[tuple[str, ...] | None] = ("scaler",)

    def run(self, run: Run) -> dict[str, float]:
        tasks = int(20_000 * run.seconds)
        with run.cluster() as cluster:
            address = cluster.address()
            one = max(_rate(address, 1, tasks) for _ in range(2))
            many = _rate(address, CLIENTS, tasks)
        return {"tasks_per_s": many, "of_one": many / one, "one": one}


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


def _rate(address: str, clients: int, tasks: int) -> float:
    """Return how many tasks a second so many clients get done together, from the first one's start to the last one's end."""
    barrier = _CONTEXT.Barrier(clients + 1)
    times: multiprocessing.Queue[tuple[float, float]] = _CONTEXT.Queue()
    each = tasks // clients
    children = [_CONTEXT.Process(target=_submit_all, args=(address, each, barrier, times)) for _ in range(clients)]
    with _started(children):
        barrier.wait(timeout=60)
        found = [times.get(timeout=60) for _ in children]
    return clients * each / (max(end for _, end in found) - min(begin for begin, _ in found))


def _submit_all(address: str, tasks: int, barrier: Barrier, times: multiprocessing.Queue[tuple[float, float]]) -> None:
    from scaler import Client

    with Client(address) as client:
        check([client.submit(identity, number).result() for number in range(5)], list(range(5)))
        barrier.wait(timeout=60)
        begin = time.monotonic()
        results = [future.result() for future in [client.submit(identity, number) for number in range(tasks)]]
        times.put((begin, time.monotonic()))
        check(results, list(range(tasks)))


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
def _started(children: Sequence[BaseProcess]) -> Iterator[None]:
    for child in children:
        child.start()
    try:
        yield
        for child in children:
            child.join(timeout=30)
    finally:
        for child in children:
            child.kill()
            child.join()


def _at(times: list[float], part: float) -> float:
    return times[min(len(times) - 1, int(part * len(times)))]


WORKLOADS = (Clients(), Lone())
