"""Many hosts on one machine: what one client gets done while the same cores are divided among more and more agents."""

from __future__ import annotations

import time
from typing import ClassVar

from benchmarks.curve import Curve, Point
from benchmarks.system import Cluster
from benchmarks.tasks import identity, pid_after
from benchmarks.workload import Better, Metric, Run, Workload, WrongResult, check, growing

COUNTS = (1, 2, 4, 8, 12, 16)
JOIN_SECONDS = 60.0
"""So long may a host take until its worker runs tasks."""


def _title(count: int) -> str:
    return f"{count} host{'s' if count > 1 else ''}"


class Agents(Workload):
    """Single submits from one client. Each host has one worker and, here, no core of its own: the ideal curve is flat."""

    name = "agents"
    title = f"x -> x on 1 to {COUNTS[-1]} hosts with one worker each, all played by this machine"
    metrics = tuple(Metric(f"on_{count}", f"one client, {_title(count)}", "tasks/s", Better.HIGHER) for count in COUNTS)
    curves = (
        Curve(
            "Hosts of one worker, on the same cores",
            "hosts",
            "tasks/s",
            tuple(Point(_title(count), f"on_{count}", count) for count in COUNTS),
        ),
    )
    systems: ClassVar[tuple[str, ...] | None] = ("scaler", "ray")
    limit_s = 240.0

    def run(self, run: Run) -> dict[str, float]:
        found: dict[str, float] = {}
        alone = Run(run.system, workers=1, seconds=run.seconds, quick=run.quick)
        with alone.cluster() as cluster:
            there = 1
            for count in COUNTS:
                if count > run.system.hosts_max:
                    break
                while there < count:
                    cluster.add_host()
                    there += 1
                _wait_for_workers(cluster, count)
                found[f"on_{count}"] = _rate(cluster, run.seconds / 2)
        return found


def _wait_for_workers(cluster: Cluster, count: int) -> None:
    """Return when so many processes run tasks."""
    seen: set[int] = set()
    end = time.monotonic() + JOIN_SECONDS
    while len(seen) < count:
        if time.monotonic() > end:
            raise WrongResult(f"{len(seen)} of {count} hosts run tasks after {JOIN_SECONDS:g} s")
        seen.update(cluster.gather([cluster.submit(pid_after, 0.2) for _ in range(2 * count)]))


def _rate(cluster: Cluster, seconds: float) -> float:
    def measure(count: int) -> float:
        begin = time.perf_counter()
        results = cluster.gather([cluster.submit(identity, number) for number in range(count)])
        taken = time.perf_counter() - begin
        check(results, list(range(count)))
        return taken

    count, taken = growing(measure, first=200, last=300_000, seconds=seconds)
    return count / min(taken, measure(count))


WORKLOADS = (Agents(),)
