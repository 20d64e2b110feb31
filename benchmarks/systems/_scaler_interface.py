"""The Python interface that this engine, opengris-scaler and scaler 1.9.9 share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import processes
from benchmarks.system import Cluster, Graph, free_ports
from benchmarks.tasks import fibonacci


def _with_literals_as_nodes(graph: Graph) -> dict[str, Any]:
    """Return the same graph with a node of its own for every literal argument."""
    given: dict[str, Any] = {}
    for key, node in graph.items():
        if isinstance(node, tuple):
            names = []
            for argument in node[1:]:
                name = argument if isinstance(argument, str) else f"literal-{argument!r}"
                if name not in graph:
                    given[name] = argument
                names.append(name)
            given[key] = (node[0], *names)
        else:
            given[key] = node
    return given


class ScalerClient(Cluster):
    """A `Client` of a cluster that somebody else has started."""

    def __init__(
        self,
        address: str,
        *,
        map_takes_tuples: bool = False,
        literals_are_nodes: bool = False,
        profiling: bool = False,
    ) -> None:
        """`map_takes_tuples`: `map` wants tuples of arguments. `literals_are_nodes`: arguments in graphs are keys, always.

        `profiling`: as the client takes it.
        """
        from scaler import Client

        self._address = address
        self._map_takes_tuples = map_takes_tuples
        self._literals_are_nodes = literals_are_nodes
        self._client = Client(address, profiling=profiling)

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return self._client.submit(function, *arguments, **keywords)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return [future.result() for future in handles]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        if self._map_takes_tuples:
            return list(self._client.map(function, [(item,) for item in items]))
        return list(self._client.map(function, items))

    def get(self, graph: Graph, key: str) -> Any:
        given = _with_literals_as_nodes(graph) if self._literals_are_nodes else dict(graph)
        return self._client.get(given, [key])[key]

    def prepared(self, graph: Graph, key: str, node_seconds: float | None) -> Callable[[], Any]:
        template = self._client.prepare(dict(graph), [key], node_seconds=node_seconds)
        return lambda: template.run()[key]

    def read_shared(self, function: Callable[[Any, int], Any], value: Any, count: int) -> list[Any]:
        reference = self._client.send_object(value)
        return self.gather([self._client.submit(function, reference, index) for index in range(count)])

    def address(self) -> str:
        return self._address

    def profiled(self) -> Cluster:
        return ScalerClient(self._address, profiling=True)

    def fibonacci(self, n: int) -> int:
        return int(self._client.submit(fibonacci, self._client, n).result())

    def close(self) -> None:
        self._client.disconnect()


class ScalerCluster(ScalerClient):
    """A `SchedulerClusterCombo` and a `Client`."""

    def __init__(
        self,
        workers: int,
        *,
        map_takes_tuples: bool = False,
        literals_are_nodes: bool = False,
        apart: bool = False,
    ) -> None:
        """`apart`: a `Scheduler` and a `Cluster` in the combo's place, which have processes of their own."""
        from scaler import SchedulerClusterCombo

        # Scheduler, object storage and monitor: the older two number them on from the address.
        self._port = free_ports(3)
        address = f"tcp://127.0.0.1:{self._port}"
        self._combo = (
            _Apart(address, workers)
            if apart
            else SchedulerClusterCombo(address=address, n_workers=workers, logging_level="WARNING")
        )
        self._added: list[Any] = []
        super().__init__(address, map_takes_tuples=map_takes_tuples, literals_are_nodes=literals_are_nodes)

    def add_host(self) -> None:
        from scaler import Cluster as Workers

        self._added.append(Workers(self._address, n_workers=1, logging_level="WARNING"))
        self._added[-1].start()

    def scheduler_pid(self) -> int:
        return processes.listener(self._port)

    def monitor_address(self) -> str:
        return str(self._combo.get_monitor_address())

    def close(self) -> None:
        super().close()
        for workers in self._added:
            workers.terminate()
        self._combo.shutdown()


class _Apart:
    """A scheduler and workers, with the face of a combo."""

    def __init__(self, address: str, workers: int) -> None:
        from scaler import Cluster as Workers
        from scaler import Scheduler

        self._scheduler = Scheduler(address, logging_level="WARNING")
        self._scheduler.start()
        self._workers = Workers(address, n_workers=workers, logging_level="WARNING")
        self._workers.start()
        self._workers.wait_ready()

    def get_monitor_address(self) -> str:
        return self._scheduler.get_monitor_address()

    def shutdown(self) -> None:
        self._workers.terminate()
        self._scheduler.terminate()
