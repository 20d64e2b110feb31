"""Tasks that do nothing: what is left is what the engine costs."""

from __future__ import annotations

import time

from benchmarks.tasks import identity
from benchmarks.workload import Better, Metric, Run, Workload, check, growing


class Submit(Workload):
    """Many single submits, then all results."""

    name = "submit"
    title = "Single submits of x -> x, then all results"
    metrics = (
        Metric("tasks_per_s", "submit", "tasks/s", Better.HIGHER, target=120_000, peer="processpool", peer_factor=8.0),
    )

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:

            def measure(count: int) -> float:
                begin = time.perf_counter()
                results = cluster.gather([cluster.submit(identity, number) for number in range(count)])
                taken = time.perf_counter() - begin
                check(results, list(range(count)))
                return taken

            count, taken = growing(measure, first=200, last=300_000, seconds=run.seconds)
        return {"tasks_per_s": count / taken, "tasks": count}


class Map(Workload):
    """One map over many integers, with no chunk size given."""

    name = "map"
    title = "map of x -> x over integers"
    metrics = (Metric("items_per_s", "map", "items/s", Better.HIGHER, target=1_500_000),)

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:

            def measure(count: int) -> float:
                items = range(count)
                begin = time.perf_counter()
                results = cluster.map(identity, items)
                taken = time.perf_counter() - begin
                check(results, list(items))
                return taken

            count, taken = growing(measure, first=500, last=1_000_000, seconds=run.seconds)
        return {"items_per_s": count / taken, "items": count}


class RoundTrip(Workload):
    """Submit one task, wait for its result, submit the next."""

    name = "roundtrip"
    title = "One task at a time: submit to result"
    metrics = (
        Metric("p50_us", "round trip p50", "µs", Better.LOWER, target=300),
        Metric("p99_us", "round trip p99", "µs", Better.LOWER, target=700),
    )

    def run(self, run: Run) -> dict[str, float]:
        times: list[float] = []
        with run.cluster() as cluster:
            end = time.perf_counter() + run.seconds + 0.5
            measured_from = end - run.seconds
            number = 0
            while (begin := time.perf_counter()) < end or len(times) < 50:
                number += 1
                check(cluster.gather([cluster.submit(identity, number)]), [number])
                if begin >= measured_from:
                    times.append(time.perf_counter() - begin)
        times.sort()
        return {
            "p50_us": 1e6 * times[len(times) // 2],
            "p99_us": 1e6 * times[len(times) * 99 // 100],
            "min_us": 1e6 * times[0],
            "tasks": len(times),
        }


WORKLOADS = (Submit(), Map(), RoundTrip())
