"""dask.distributed: a `LocalCluster` of worker processes with one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.system import Cluster, Graph, System


def _fibonacci(n: int) -> int:
    from distributed import worker_client

    if n < 2:
        return n
    with worker_client() as client:
        # pure: equal calls would be computed once only.
        left, right = (client.submit(_fibonacci, n - 1, pure=False), client.submit(_fibonacci, n - 2, pure=False))
        return int(left.result() + right.result())


class _Dask(Cluster):
    def __init__(self, workers: int) -> None:
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
        self._client = Client(self._cluster)

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return self._client.submit(function, *arguments, **keywords, pure=False)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return list(self._client.gather(list(handles)))

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.gather(self._client.map(function, items, pure=False))

    def get(self, graph: Graph, key: str) -> Any:
        return self._client.get(dict(graph), key)

    def computes_dask(self) -> AbstractContextManager[object]:
        import dask

        context: AbstractContextManager[object] = dask.config.set(scheduler=self._client)
        return context

    def read_shared(self, function: Callable[[Any, int], Any], value: Any, count: int) -> list[Any]:
        (reference,) = self._client.scatter([value], broadcast=True, hash=False)
        return self.gather([self.submit(function, reference, index) for index in range(count)])

    def fibonacci(self, n: int) -> int:
        return int(self.submit(_fibonacci, n).result())

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


class Dask(System):
    name = "dask"
    title = "dask.distributed"
    requirements = ("dask[array,dataframe,distributed]",)
    distributions = ("dask", "distributed", "pandas")
    remarks = "its scheduler runs inside the client's process"

    def load(self) -> None:
        import distributed  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return _Dask(workers)


SYSTEM = Dask()
