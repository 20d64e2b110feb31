"""Ray: `ray.init` on this machine; maps through its `multiprocessing.Pool`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.system import Cluster, Graph, System


def _fibonacci(n: int) -> int:
    import ray

    if n < 2:
        return n
    remote = ray.remote(_fibonacci)
    left, right = remote.remote(n - 1), remote.remote(n - 2)
    return int(sum(ray.get([left, right])))


class _Ray(Cluster):
    def __init__(self, workers: int) -> None:
        import ray

        self._ray = ray
        self._workers = workers
        self._remote: dict[Callable[..., Any], Any] = {}
        self._pool: Any = None
        # Its sockets lie below this folder, and their paths must be short.
        folder = os.path.join(os.environ["TMPDIR"], "r")
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, _temp_dir=folder)

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self._ray.remote(function)
        return remote.remote(*arguments, **keywords)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return list(self._ray.get(list(handles)))

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        if self._pool is None:
            from ray.util.multiprocessing import Pool

            self._pool = Pool(processes=self._workers)
        return list(self._pool.map(function, items))

    def get(self, graph: Graph, key: str) -> Any:
        # Ray has no graphs of its own: futures as arguments say the same.
        values: dict[str, Any] = {}
        for name, node in graph.items():
            if isinstance(node, tuple):
                arguments = (
                    values[argument] if isinstance(argument, str) and argument in values else argument
                    for argument in node[1:]
                )
                values[name] = self.submit(node[0], *arguments)
            else:
                values[name] = node
        return self._ray.get(values[key])

    def read_shared(self, function: Callable[[Any, int], Any], value: Any, count: int) -> list[Any]:
        reference = self._ray.put(value)
        return self.gather([self.submit(function, reference, index) for index in range(count)])

    def fibonacci(self, n: int) -> int:
        return int(self._ray.get(self.submit(_fibonacci, n)))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
        self._ray.shutdown()


class Ray(System):
    name = "ray"
    title = "Ray"
    requirements = ("ray",)
    distributions = ("ray",)
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    remarks = "maps through ray.util.multiprocessing.Pool, graphs as futures given to futures"

    def load(self) -> None:
        import ray  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return _Ray(workers)


SYSTEM = Ray()
