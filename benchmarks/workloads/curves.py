"""How rates change with the size of values, and with the duration of tasks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from benchmarks.curve import STEP_MAX, Curve, Point
from benchmarks.system import Cluster
from benchmarks.tasks import busy, identity
from benchmarks.workload import Better, Metric, Run, Workload, WrongResult, check, growing

KIB = 1024
SIZES_KIB = (1, 4, 8, 16, 32, 47, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 16384)
VOLUME_BYTES = 192 * KIB * KIB
"""Values that one measurement has in memory at most, on each side."""

ITEMS_MAX = 20_000
ROUNDS = 3

DURATIONS_US = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
TASKS_MAX = 50_000


def _size(kib: int) -> str:
    return f"{kib} KiB" if kib < KIB else f"{kib // KIB} MiB"


def _duration(microseconds: int) -> str:
    return f"{microseconds} µs" if microseconds < 1000 else f"{microseconds // 1000} ms"


class Sizes(Workload):
    """Echo of distinct `bytes` of many sizes: single submits, and one map. Sizes have their own warm-up, and medians of three."""

    name = "sizes"
    title = "Echo of distinct bytes from 1 KiB to 16 MiB, by submit and by map"
    metrics = (
        Metric("step", "sizes: steepest step between neighbours", "ratio", Better.LOWER, target=STEP_MAX),
        *(
            Metric(
                f"{way}_{size}",
                f"echo {size} KiB, {way}",
                "tasks/s",
                Better.HIGHER,
                peer="processpool",
                peer_factor=1.5 if 64 <= size <= 1024 else 1.0,
            )
            for way in ("submit", "map")
            for size in SIZES_KIB
        ),
    )
    curves = tuple(
        Curve(
            title,
            "size of a value, bytes",
            "values/s",
            tuple(Point(_size(size), f"{way}_{size}", size * KIB) for size in SIZES_KIB),
            x_is_work=True,
        )
        for way, title in (("submit", "Echo of bytes, single submits"), ("map", "Echo of bytes, one map"))
    )
    systems: ClassVar[tuple[str, ...] | None] = ("scaler", "processpool", "ray")
    limit_s = 300.0

    def run(self, run: Run) -> dict[str, float]:
        rates: dict[str, float] = {}
        with run.cluster() as cluster:
            for way, call in (("submit", _submit), ("map", _map)):
                for size in SIZES_KIB:
                    rates[f"{way}_{size}"] = _rate(cluster, call, size * KIB, run.seconds / 10)
        steps = [
            curve.step(before, after, rates[before.metric], rates[after.metric])
            for curve in self.curves
            for before, after in curve.pairs()
        ]
        return {"step": max(steps), **rates}


class Durations(Workload):
    """Tasks that compute for so long, in single submits. As many as fill the time; those too short for that are bounded."""

    name = "durations"
    title = "Tasks that compute for 10 µs to 100 ms: ideal time / time"
    metrics = tuple(
        Metric(
            f"busy_{duration}",
            f"tasks of {_duration(duration)}",
            "of ideal",
            Better.HIGHER,
            peer="processpool",
        )
        for duration in DURATIONS_US
    )
    curves = (
        Curve(
            "Tasks that compute",
            "processor time of a task, seconds",
            "of ideal",
            tuple(Point(_duration(duration), f"busy_{duration}", duration / 1e6) for duration in DURATIONS_US),
        ),
    )
    systems: ClassVar[tuple[str, ...] | None] = ("scaler", "processpool", "ray")

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:
            return {
                f"busy_{duration}": _of_ideal(cluster, duration / 1e6, run.workers, run.seconds / 5)
                for duration in DURATIONS_US
            }


def _of_ideal(cluster: Cluster, duration: float, workers: int, seconds: float) -> float:
    """Return which part of the workers' time is spent in tasks of this duration, as the median of three samples."""

    def measure(count: int) -> float:
        # As many for each worker: with ten tasks of 100 ms, an odd one would count as a loss.
        each = -(-count // workers)
        begin = time.perf_counter()
        results = cluster.gather([cluster.submit(busy, duration) for _ in range(each * workers)])
        taken = time.perf_counter() - begin
        check(results, [duration] * (each * workers))
        return taken / each * (count / workers)

    count, taken = growing(measure, first=4 * workers, last=TASKS_MAX, seconds=seconds)
    times = [taken, *(measure(count) for _ in range(ROUNDS - 1))]
    return duration * count / workers / statistics.median(times)


def _rate(cluster: Cluster, call: Callable[[Cluster, Sequence[Any]], list[Any]], size: int, seconds: float) -> float:
    """Return how many values of a size come back in a second; the smaller samples before are warm-up."""
    most = max(6, min(ITEMS_MAX, VOLUME_BYTES // size))
    count, taken = min(most, 50), 0.0
    seeds = iter(range(1000))
    while True:
        taken = _timed(cluster, call, _distinct(count, size, next(seeds)))
        if count == most or taken >= seconds / 2:
            break
        count = min(most, max(2 * count, int(count * seconds / max(taken, 1e-5))))
    return count / statistics.median(_timed(cluster, call, _distinct(count, size, next(seeds))) for _ in range(ROUNDS))


def _timed(cluster: Cluster, call: Callable[[Cluster, Sequence[Any]], list[Any]], values: Sequence[Any]) -> float:
    begin = time.perf_counter()
    found = call(cluster, values)
    taken = time.perf_counter() - begin
    if found != values:
        raise WrongResult("a value came back changed")
    return taken


def _submit(cluster: Cluster, values: Sequence[Any]) -> list[Any]:
    return cluster.gather([cluster.submit(identity, value) for value in values])


def _map(cluster: Cluster, values: Sequence[Any]) -> list[Any]:
    return cluster.map(identity, values)


def _distinct(count: int, size: int, seed: int) -> list[bytes]:
    """Return different values: parts of one random block, which costs less than random bytes for each."""
    block = np.random.default_rng(seed).bytes(size + 64 * count)
    return [block[64 * index : 64 * index + size] for index in range(count)]


WORKLOADS = (Sizes(), Durations())
