"""The scheduler alone: its processor time per task in a real cluster, and its core with up to 10,000 workers in one thread."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from benchmarks import processes
from benchmarks.tasks import identity
from benchmarks.workload import Better, Metric, Run, Workload, check, growing

WORKERS = (10, 1000, 10_000)
QUEUED = (10_000, 100_000, 1_000_000)


class SchedulerCpu(Workload):
    """All tasks are queued at once; what its process computes from the first submit to the last result."""

    name = "scheduler-cpu"
    title = "Scheduler: processor time per task, all queued at once"
    metrics = (Metric("us_per_task", "scheduler CPU per task", "µs", Better.LOWER, target=5),)

    def run(self, run: Run) -> dict[str, float]:
        used = 0.0
        with run.cluster(apart=True) as cluster:
            pid = cluster.scheduler_pid()

            def measure(count: int) -> float:
                nonlocal used
                before = processes.cpu_seconds(pid)
                begin = time.perf_counter()
                results = cluster.gather([cluster.submit(identity, number) for number in range(count)])
                taken = time.perf_counter() - begin
                used = processes.cpu_seconds(pid) - before
                check(results, list(range(count)))
                return taken

            count, taken = growing(measure, first=500, last=200_000, seconds=run.seconds)
        return {"us_per_task": 1e6 * used / count, "tasks": count, "seconds": taken}


class CoreScale(Workload):
    """The scheduler's core between simulated agents and a client, with the clock running only inside the core.

    What a scheduler process does beside it (decoding, encoding, sockets) does not depend on the number of workers. Hosts
    have ten workers each. Short tasks: each worker wants twenty ahead, 200,000 are out at once with 10,000 workers, and
    hosts answer them all together. Long tasks: one result at a time, the worst there is.
    """

    name = "core-scale"
    title = "Scheduler core in simulation: 10 to 10,000 workers, 10,000 to 1,000,000 queued tasks"
    metrics = (
        Metric("ratio", "core: 10,000 workers against 10", "× cost", Better.LOWER, target=1.5),
        Metric("us_10_workers", "core: per task, 10 workers", "µs", Better.LOWER),
        Metric("us_1000_workers", "core: per task, 1,000 workers", "µs", Better.LOWER),
        Metric("us_10000_workers", "core: per task, 10,000 workers", "µs", Better.LOWER),
        Metric("single_ratio", "core: the same, single results", "× cost", Better.LOWER, target=1.5),
        Metric("single_us_10_workers", "core: per single result, 10 workers", "µs", Better.LOWER),
        Metric("single_us_1000_workers", "core: per single result, 1,000 workers", "µs", Better.LOWER),
        Metric("single_us_10000_workers", "core: per single result, 10,000 workers", "µs", Better.LOWER),
        Metric("bytes_per_task", "core: memory per queued task", "bytes", Better.LOWER),
    )
    systems = ("scaler",)
    limit_s = 600.0

    def run(self, run: Run) -> dict[str, float]:
        # Imported here: the runner reads this file for systems that have no such core.
        from benchmarks.core_drive import LONG_TASKS, SHORT_TASKS, measure

        most = 100_000 if run.quick else 1_000_000
        few = 10_000 if run.quick else 50_000
        figures: dict[str, float] = {}
        for workers in WORKERS:
            figures[f"us_{workers}_workers"] = _alone(measure, workers, most, SHORT_TASKS)["us_per_task"]
            # So many that workers never run out while results are measured.
            tasks = few + 2 * workers * LONG_TASKS.tasks_per_worker
            figures[f"single_us_{workers}_workers"] = _alone(measure, workers, tasks, LONG_TASKS)["us_when_busy"]
        for tasks in QUEUED:
            if tasks <= most:
                found = _alone(measure, 1000, tasks, SHORT_TASKS)
                figures[f"us_{tasks}_queued"] = found["us_per_task"]
                figures[f"bytes_{tasks}_queued"] = found["bytes_per_task"]
        figures["bytes_per_task"] = figures[f"bytes_{most}_queued"]
        figures["ratio"] = figures["us_10000_workers"] / figures["us_10_workers"]
        figures["single_ratio"] = figures["single_us_10000_workers"] / figures["single_us_10_workers"]
        return figures


def _alone(measure: Callable[..., dict[str, float]], *arguments: object) -> dict[str, float]:
    """Measure in a process of its own: what one size leaves in the allocator must not help or harm the next."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


WORKLOADS = (SchedulerCpu(), CoreScale())
