"""Futures as arguments: each task is submitted by itself, with the futures of others among its arguments."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.system import Cluster
from benchmarks.tasks import add, identity, increment, total
from benchmarks.workload import Better, Metric, Run, Workload, check, repeated

TASKS = 10_000


class _Passed:
    """Values of futures that the client sent with tasks that need them."""

    bytes = 0


@contextlib.contextmanager
def _values_passed(system: str) -> Iterator[_Passed]:
    """Count what this engine's client sends in place of futures. Other engines are not looked into."""
    passed = _Passed()
    if system != "scaler":
        yield passed
        return
    from scaler.serialization.arguments import Packer

    result_of = Packer.result_of

    def counted(packer: Any, function: Any, label: Any, future: Any, objects: list[bytes]) -> Any:
        argument = result_of(packer, function, label, future, objects)
        passed.bytes += len(argument.data)
        return argument

    setattr(Packer, "result_of", counted)  # noqa: B010
    try:
        yield passed
    finally:
        setattr(Packer, "result_of", result_of)  # noqa: B010


class _Futures(Workload):
    systems = ("scaler", "ray", "dask")
    limit_s = 180.0
    quick_tasks = 1000

    def compute(self, cluster: Cluster, tasks: int) -> tuple[object, int, int]:
        """Submit about so many tasks; return the result, what it must be, and how many they were."""
        raise NotImplementedError

    def run(self, run: Run) -> dict[str, float]:
        tasks = self.quick_tasks if run.quick else TASKS
        with run.cluster() as cluster, _values_passed(run.system.name) as passed:
            counts: list[int] = []

            def measure() -> float:
                begin = time.perf_counter()
                result, expected, count = self.compute(cluster, tasks)
                taken = time.perf_counter() - begin
                check(result, expected)
                counts.append(count)
                return taken

            times = repeated(measure, seconds=run.seconds, most=10)
        figures = {"tasks_per_s": counts[-1] / statistics.median(times), "rounds": float(len(times))}
        if run.system.name == "scaler":
            figures["passed_bytes_per_task"] = passed.bytes / sum(counts)
        return figures


class FutureChain(_Futures):
    name = "future-chain"
    title = "Futures: a chain of 10,000 submits"
    metrics = (
        Metric("tasks_per_s", "chain of 10,000 futures", "tasks/s", Better.HIGHER),
        Metric("passed_bytes_per_task", "chain of futures: values through the client", "bytes/task", Better.LOWER),
    )

    def compute(self, cluster: Cluster, tasks: int) -> tuple[object, int, int]:
        future = cluster.submit(increment, 0)
        for _ in range(tasks - 1):
            future = cluster.submit(increment, future)
        return cluster.gather([future])[0], tasks, tasks


class FutureTree(_Futures):
    name = "future-tree"
    title = "Futures: a tree of 10,000 submits"
    metrics = (
        Metric("tasks_per_s", "tree of 10,000 futures", "tasks/s", Better.HIGHER),
        Metric("passed_bytes_per_task", "tree of futures: values through the client", "bytes/task", Better.LOWER),
    )

    def compute(self, cluster: Cluster, tasks: int) -> tuple[object, int, int]:
        leaves = tasks // 2
        level = [cluster.submit(identity, number) for number in range(leaves)]
        count = leaves
        while len(level) > 1:
            pairs = [cluster.submit(add, *level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
            count += len(pairs)
            level = pairs + level[2 * len(pairs) :]
        return cluster.gather(level)[0], leaves * (leaves - 1) // 2, count


class FutureFanIn(_Futures):
    name = "future-fan-in"
    title = "Futures: one task that needs 10,000"
    metrics = (
        Metric("tasks_per_s", "fan-in of 10,000 futures", "tasks/s", Better.HIGHER),
        Metric("passed_bytes_per_task", "fan-in of futures: values through the client", "bytes/task", Better.LOWER),
    )

    def compute(self, cluster: Cluster, tasks: int) -> tuple[object, int, int]:
        futures = [cluster.submit(identity, number) for number in range(tasks)]
        result = cluster.gather([cluster.submit(total, *futures)])[0]
        return result, tasks * (tasks - 1) // 2, tasks + 1


WORKLOADS = (FutureChain(), FutureTree(), FutureFanIn())
