"""Tasks that work: how much of two workers' time is left for them."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.system import Cluster
from benchmarks.tasks import busy, sleep
from benchmarks.workload import Better, Metric, Run, Workload, check


class Busy(Workload):
    """Tasks that compute for a millisecond. With as many workers as cores, whatever the engine computes is missing."""

    name = "busy"
    title = "2,000 tasks of 1 ms processor time: ideal time / time"
    metrics = (Metric("efficiency", "1 ms tasks", "of ideal", Better.HIGHER, target=0.95),)

    def run(self, run: Run) -> dict[str, float]:
        count = 1000 if run.quick else 2000
        with run.cluster() as cluster:
            _batch(cluster, busy, 0.001, 200)
            taken = _batch(cluster, busy, 0.001, count)
        return {"efficiency": count * 0.001 / run.workers / taken, "seconds": taken}


class Sleep(Workload):
    """Tasks that sleep for 10 ms: what is missing is the time in which a worker had nothing to do."""

    name = "sleep"
    title = "400 tasks of 10 ms sleep: ideal time / time"
    metrics = (Metric("efficiency", "10 ms sleeps", "of ideal", Better.HIGHER, target=0.98),)

    def run(self, run: Run) -> dict[str, float]:
        count = 200 if run.quick else 400
        with run.cluster() as cluster:
            _batch(cluster, sleep, 0.01, 20)
            taken = _batch(cluster, sleep, 0.01, count)
        return {"efficiency": count * 0.01 / run.workers / taken, "seconds": taken}


def _batch(cluster: Cluster, function: Callable[[float], float], seconds: float, count: int) -> float:
    begin = time.perf_counter()
    results = cluster.gather([cluster.submit(function, seconds) for _ in range(count)])
    taken = time.perf_counter() - begin
    check(results, [seconds] * count)
    return taken


WORKLOADS = (Busy(), Sleep())
