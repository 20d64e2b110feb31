"""Tasks that submit tasks and wait for them."""

from __future__ import annotations

import time

from benchmarks import processes
from benchmarks.workload import Better, Metric, Run, Workload, check

FIBONACCI = {2: 1, 12: 144}


class Fibonacci(Workload):
    """Two workers, waiting tasks twelve deep: an engine that lets waiting tasks keep their workers never finishes."""

    name = "fibonacci"
    title = "fibonacci(client, 12), nested, 2 workers"
    metrics = (
        Metric("tasks_per_s", "nested fibonacci(12)", "tasks/s", Better.HIGHER, target=500),
        Metric("processes", "nested: processes", "processes", Better.LOWER),
    )
    limit_s = 60.0

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:
            check(cluster.fibonacci(2), FIBONACCI[2])
            begin = time.perf_counter()
            result = cluster.fibonacci(12)
            taken = time.perf_counter() - begin
            check(result, FIBONACCI[12])
            # Counting processes looks at every process of the machine, again and again: not while time is taken.
            with processes.watch(lambda: len(processes.started_by_this_sample()), interval_s=0.1) as peak:
                check(cluster.fibonacci(12), FIBONACCI[12])
        # fib(n) takes 2 * fib(n + 1) - 1 calls, and fib(13) is 233.
        return {"tasks_per_s": (2 * 233 - 1) / taken, "processes": peak.value}


WORKLOADS = (Fibonacci(),)
