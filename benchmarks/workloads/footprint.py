"""What a local cluster costs before it has done anything: time to start, memory when idle."""

from __future__ import annotations

import time

from benchmarks import processes
from benchmarks.tasks import identity
from benchmarks.workload import Better, Metric, Run, Workload, check

MIB = 1024 * 1024
SETTLE_SECONDS = 2.0


class Start(Workload):
    name = "start"
    title = "Start a local cluster, first result"
    metrics = (
        Metric("seconds", "start to first result", "s", Better.LOWER, target=0.4),
        Metric("with_import_s", "start, with import", "s", Better.LOWER),
    )

    def run(self, run: Run) -> dict[str, float]:
        begin = time.perf_counter()
        run.system.load()
        loaded = time.perf_counter()
        cluster = run.system.start(run.workers)
        try:
            check(cluster.gather([cluster.submit(identity, 7)]), [7])
            end = time.perf_counter()
        finally:
            cluster.close()
        return {"seconds": end - loaded, "with_import_s": end - begin}


class IdleMemory(Workload):
    """All processes but the client, after each worker has run something."""

    name = "memory"
    title = "Memory of an idle cluster with 2 workers"
    metrics = (
        Metric("pss_mib", "idle memory, PSS", "MiB", Better.LOWER, target=110),
        Metric("rss_mib", "idle memory, sum of RSS", "MiB", Better.LOWER),
    )

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster():
            time.sleep(SETTLE_SECONDS)
            started = processes.started_by_this_sample()
            everything = processes.of_this_sample()
            return {
                "pss_mib": processes.total_pss_bytes(started) / MIB,
                "rss_mib": processes.total_rss_bytes(started) / MIB,
                "pss_with_client_mib": processes.total_pss_bytes(everything) / MIB,
                "processes": len(started),
            }


WORKLOADS = (Start(), IdleMemory())
