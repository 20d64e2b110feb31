"""Graphs: wide, narrow and very large ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import psutil

from benchmarks import processes
from benchmarks.system import NotSupported
from benchmarks.tasks import add, identity, increment
from benchmarks.workload import Better, Metric, Run, Workload, check, growing, repeated

Nodes = dict[str, object]


def tree(leaves: int) -> tuple[Nodes, str, int]:
    """Return a graph that adds 0 … leaves - 1 in pairs, the key of the sum, and the sum: 2 * leaves - 1 nodes."""
    graph: Nodes = {}
    level = []
    for number in range(leaves):
        key = f"leaf-{number}"
        graph[key] = (identity, number)
        level.append(key)
    height = 0
    while len(level) > 1:
        height += 1
        following = []
        for position in range(0, len(level) - 1, 2):
            key = f"sum-{height}-{position}"
            graph[key] = (add, level[position], level[position + 1])
            following.append(key)
        if len(level) % 2:
            following.append(level[-1])
        level = following
    return graph, level[0], leaves * (leaves - 1) // 2


def chain(links: int) -> tuple[Nodes, str, int]:
    """Return a graph that counts to `links`, each node from the one before; the last key, and its value."""
    graph: Nodes = {"link-0": (increment, 0)}
    for number in range(1, links):
        graph[f"link-{number}"] = (increment, f"link-{number - 1}")
    return graph, f"link-{links - 1}", links


class _Repeated(Workload):
    def make(self) -> tuple[Nodes, str, int]:
        raise NotImplementedError

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:
            graph, key, expected = self.make()

            def measure() -> float:
                begin = time.perf_counter()
                result = cluster.get(graph, key)
                taken = time.perf_counter() - begin
                check(result, expected)
                return taken

            times = repeated(measure, seconds=run.seconds, most=30)
        return {"nodes_per_s": len(graph) / statistics.median(times), "rounds": len(times)}


class Tree(_Repeated):
    name = "tree"
    title = "Graph: tree reduction of 1,000 leaves"
    metrics = (Metric("nodes_per_s", "tree of 1,000 leaves", "nodes/s", Better.HIGHER, target=25_000),)

    def make(self) -> tuple[Nodes, str, int]:
        return tree(1000)


class Chain(_Repeated):
    name = "chain"
    title = "Graph: chain of 300"
    metrics = (Metric("nodes_per_s", "chain of 300", "links/s", Better.HIGHER, target=10_000),)

    def make(self) -> tuple[Nodes, str, int]:
        return chain(300)


class Million(Workload):
    """A tree of a million nodes, of fewer where that would take too long."""

    name = "million"
    title = "Graph: tree of up to 1,000,000 nodes"
    metrics = (
        Metric("nodes_per_s", "graph of 1e6", "nodes/s", Better.HIGHER, target=25_000),
        Metric("scheduler_bytes_per_node", "graph of 1e6: scheduler memory", "bytes/node", Better.LOWER, target=1024),
        Metric("nodes", "graph of 1e6: nodes run", "nodes", Better.HIGHER, target=1_000_000),
    )
    limit_s = 300.0

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:
            try:
                scheduler = psutil.Process(cluster.scheduler_pid())
            except NotSupported:
                scheduler = None

            def measure(leaves: int) -> float:
                graph, key, expected = tree(leaves)
                begin = time.perf_counter()
                result = cluster.get(graph, key)
                taken = time.perf_counter() - begin
                check(result, expected)
                return taken

            def memory() -> float:
                return 0.0 if scheduler is None else float(processes.pss_bytes(scheduler))

            before = memory()
            # The last step may be far longer than the ones before; its size is what matters here, not its time.
            last, seconds = (20_000, run.seconds) if run.quick else (500_000, 20 * run.seconds)
            with processes.watch(memory, interval_s=0.2) as peak:
                leaves, taken = growing(measure, first=1000, last=last, seconds=seconds)
        nodes = 2 * leaves - 1
        figures = {"nodes_per_s": nodes / taken, "nodes": float(nodes + 1)}
        if scheduler is not None:
            figures["scheduler_bytes_per_node"] = (peak.value - before) / nodes
        return figures


class Template(Workload):
    """A graph of 1,000 nodes that was prepared against `get` of the same one: in turns, as the machine is not always as fast."""

    name = "template"
    title = "Graph: tree of 1,000 nodes that runs often"
    metrics = (
        Metric("short_times_get", "prepared tree of very short nodes: get", "× as fast", Better.HIGHER, target=3.0),
        Metric("times_get", "prepared tree: get", "× as fast", Better.HIGHER),
    )
    systems = ("scaler",)

    def run(self, run: Run) -> dict[str, float]:
        graph, key, expected = tree(500)
        with run.cluster() as cluster:
            runs: tuple[Callable[[], object], ...] = (
                lambda: cluster.get(graph, key),
                cluster.prepared(graph, key, None),
                cluster.prepared(graph, key, 1e-5),
            )
            times: tuple[list[float], ...] = ([], [], [])

            def measure() -> float:
                for compute, taken in zip(runs, times, strict=True):
                    begin = time.perf_counter()
                    result = compute()
                    taken.append(time.perf_counter() - begin)
                    check(result, expected)
                return sum(taken[-1] for taken in times)

            repeated(measure, seconds=run.seconds, most=100)
        # Without the first ones, which are there to warm up.
        get, plain, short = (statistics.median(taken[1:]) for taken in times)
        return {
            "times_get": get / plain,
            "short_times_get": get / short,
            "get_ms": get * 1e3,
            "rounds": len(times[0]) - 1,
        }


WORKLOADS = (Tree(), Chain(), Million(), Template())
