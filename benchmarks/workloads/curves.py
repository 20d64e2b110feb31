"""Curves: how rates change with the size of values. A step between neighbours is a cliff somebody falls from."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from benchmarks.system import Cluster
from benchmarks.tasks import identity
from benchmarks.workload import Better, Metric, Run, Workload, WrongResult

KIB = 1024
SIZES_KIB = (1, 4, 8, 16, 32, 47, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 16384)
VOLUME_BYTES = 192 * KIB * KIB
"""Values that one measurement has in memory at most, on each side."""

ITEMS_MAX = 20_000
ROUNDS = 3


class Sizes(Workload):
    """Echo of distinct `bytes` of many sizes: single submits, and one map. Sizes have their own warm-up, and medians of three."""

    name = "sizes"
    title = "Echo of distinct bytes from 1 KiB to 16 MiB, by submit and by map"
    metrics = (
        Metric("step", "sizes: steepest step between neighbours", "ratio", Better.LOWER, target=1.2),
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
    systems: ClassVar[tuple[str, ...] | None] = ("scaler", "processpool", "ray")
    limit_s = 300.0

    def run(self, run: Run) -> dict[str, float]:
        rates: dict[str, float] = {}
        with run.cluster() as cluster:
            for way, call in (("submit", _submit), ("map", _map)):
                for size in SIZES_KIB:
                    rates[f"{way}_{size}"] = _rate(cluster, call, size * KIB, run.seconds / 10)
        steps = [_step(rates, way, *pair) for way in ("submit", "map") for pair in pairwise(SIZES_KIB)]
        return {"step": max(steps), **rates}


def _step(rates: dict[str, float], way: str, smaller: int, larger: int) -> float:
    """Return by how much the rate falls from one size to the next, beyond what the bytes alone explain."""
    return rates[f"{way}_{smaller}"] / rates[f"{way}_{larger}"] / (larger / smaller)


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


WORKLOADS = (Sizes(),)
