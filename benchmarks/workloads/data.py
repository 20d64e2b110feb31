"""Large values: how fast they travel, and how often they are copied."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import processes
from benchmarks.tasks import PAGE_FLOATS, identity, read_pages
from benchmarks.workload import Better, Metric, Run, Workload, WrongResult, check, repeated

MIB = 1024 * 1024


class _Echo(Workload):
    """Ten large values there and back. Every round has new ones: what was sent before must not help."""

    count = 10
    value_bytes: int
    limit_s = 240.0

    def make(self, seed: int) -> Sequence[Any]:
        raise NotImplementedError

    def equal(self, found: Any, sent: Any) -> bool:
        raise NotImplementedError

    def run(self, run: Run) -> dict[str, float]:
        seeds = iter(range(1000))
        with run.cluster() as cluster:

            def measure() -> float:
                sent = self.make(next(seeds))
                begin = time.perf_counter()
                found = cluster.gather([cluster.submit(identity, value) for value in sent])
                taken = time.perf_counter() - begin
                if not all(self.equal(one, other) for one, other in zip(found, sent, strict=True)):
                    raise WrongResult("a value came back changed")
                return taken

            times = repeated(measure, seconds=run.seconds, most=12)
        volume_mib = 2 * self.count * self.value_bytes / MIB
        return {"mib_per_s": volume_mib / statistics.median(times), "rounds": len(times)}


class EchoBytes(_Echo):
    name = "echo-bytes"
    title = "Echo of 10 × 8 MiB bytes, in + out"
    metrics = (Metric("mib_per_s", "echo 8 MiB bytes", "MiB/s", Better.HIGHER, target=4_000),)
    value_bytes = 8 * MIB

    def make(self, seed: int) -> Sequence[bytes]:
        generator = np.random.default_rng(seed)
        return [generator.bytes(self.value_bytes) for _ in range(self.count)]

    def equal(self, found: Any, sent: Any) -> bool:
        return type(found) is bytes and found == sent


class EchoArrays(_Echo):
    name = "echo-numpy"
    title = "Echo of 10 × 32 MiB numpy arrays, in + out"
    metrics = (Metric("mib_per_s", "echo 32 MiB numpy", "MiB/s", Better.HIGHER, target=6_000),)
    value_bytes = 32 * MIB

    def make(self, seed: int) -> Sequence[np.ndarray[Any, np.dtype[np.float64]]]:
        generator = np.random.default_rng(seed)
        return [generator.random(self.value_bytes // 8) for _ in range(self.count)]

    def equal(self, found: Any, sent: Any) -> bool:
        return isinstance(found, np.ndarray) and found.dtype == sent.dtype and np.array_equal(found, sent)


class SharedArray(Workload):
    """One array, read by 100 tasks. Without a copy per task or per process, memory grows by one array."""

    name = "shared"
    title = "One 256 MiB array read by 100 tasks"
    metrics = (
        Metric("arrays", "shared array: memory", "arrays", Better.LOWER, target=1.1),
        Metric("seconds", "shared array: time", "s", Better.LOWER),
    )
    count = 100

    def run(self, run: Run) -> dict[str, float]:
        size = (64 if run.quick else 256) * MIB
        with run.cluster() as cluster:
            check(cluster.read_shared(read_pages, np.ones(PAGE_FLOATS * 4), 8), [5.0] * 8)
            array = np.arange(size // 8, dtype=np.float64)
            whole = float(array[::PAGE_FLOATS].sum())
            before = processes.total_pss_bytes(processes.of_this_sample())
            begin = time.perf_counter()
            with processes.watch(lambda: processes.total_pss_bytes(processes.of_this_sample())) as peak:
                results = cluster.read_shared(read_pages, array, self.count)
                taken = time.perf_counter() - begin
            check(results, [float(index) + whole for index in range(self.count)])
        return {"arrays": (peak.value - before) / size, "seconds": taken}


WORKLOADS = (EchoBytes(), EchoArrays(), SharedArray())
