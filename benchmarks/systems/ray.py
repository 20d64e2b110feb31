"""Ray: `ray.init` on this machine; maps through its `multiprocessing.Pool`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.system import Cluster, Graph, NotSupported, System

JOIN_SECONDS = 60.0
OBJECT_STORE_BYTES_MIN = 80 * 1024 * 1024


def _fibonacci(n: int) -> int:
    import ray

    if n < 2:
        return n
    remote = ray.remote(_fibonacci)
    left, right = remote.remote(n - 1), remote.remote(n - 2)
    return int(sum(ray.get([left, right])))


class _Ray(Cluster):
    def __init__(self, workers: int, address: str | None = None) -> None:
        """`address`: of a cluster that another process has started."""
        import ray

        self._ray = ray
        self._workers = workers
        self._remote: dict[Callable[..., Any], Any] = {}
        self._pool: Any = None
        self._added: list[subprocess.Popen[bytes]] = []
        # Its sockets lie below this folder, and their paths must be short.
        self._folder = os.path.join(os.environ["TMPDIR"], "r")
        if address is None:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, _temp_dir=self._folder)
        else:
            ray.init(address=address, log_to_driver=False)

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            if not isinstance(function, types.FunctionType):
                raise NotSupported("it runs functions, and no other callables")
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

    def address(self) -> str:
        return str(self._ray.get_runtime_context().gcs_address)

    def add_host(self) -> None:
        # Its own memory for objects is as small as it may be: what is measured here has none.
        command = [os.path.join(os.path.dirname(sys.executable), "ray"), "start", "--block", "--num-cpus=1"]
        command += [f"--address={self.address()}", f"--object-store-memory={OBJECT_STORE_BYTES_MIN}"]
        expected = self._hosts() + 1
        self._added.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        # One after the other: two that start at once choose the same ports.
        end = time.monotonic() + JOIN_SECONDS
        while self._hosts() < expected:
            if time.monotonic() > end:
                raise TimeoutError(f"a further host has not joined within {JOIN_SECONDS:g} s")
            time.sleep(0.1)

    def _hosts(self) -> int:
        return sum(node["Alive"] for node in self._ray.nodes())

    def close(self) -> None:
        for host in self._added:
            host.terminate()
        for host in self._added:
            host.wait(timeout=30)
        if self._pool is not None:
            self._pool.terminate()
        self._ray.shutdown()


class Ray(System):
    name = "ray"
    title = "Ray"
    requirements = ("ray",)
    # Each has workers of its own, and each host half a dozen processes.
    clients_max = 10
    hosts_max = 4
    distributions = ("ray",)
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    remarks = "maps through ray.util.multiprocessing.Pool, graphs as futures given to futures"

    def load(self) -> None:
        import ray  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return _Ray(workers)

    def connect(self, address: str) -> Cluster:
        return _Ray(0, address)


SYSTEM = Ray()
