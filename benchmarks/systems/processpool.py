"""Python's own `concurrent.futures.ProcessPoolExecutor`: one machine, no scheduler; nearly the floor for one task at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.system import Cluster, System


class _Pool(Cluster):
    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = ProcessPoolExecutor(max_workers=workers)

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return self._pool.submit(function, *arguments, **keywords)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return [future.result() for future in handles]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        chunk = min(10_000, math.ceil(len(items) / (4 * self._workers)))
        return list(self._pool.map(function, items, chunksize=chunk))

    def close(self) -> None:
        self._pool.shutdown()


class ProcessPool(System):
    name = "processpool"
    title = "ProcessPoolExecutor"
    requirements = ()
    distributions = ()
    remarks = "map with a chunk size tuned by hand; its default of 1 is slower than submit"

    def load(self) -> None:
        import concurrent.futures.process  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return _Pool(workers)


SYSTEM = ProcessPool()
