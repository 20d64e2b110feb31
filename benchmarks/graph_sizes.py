"""What a node of a graph costs, from the dictionary to the results: `python -m benchmarks.graph_sizes [--picture FILE]`.

Binary trees of 10³ to 10⁶ nodes, one `get` each, in a process of its own for each size; scheduler and agent are processes, too.
For each size: the time, and processor time and memory of client and scheduler above what they had before.

`--graphblas` measures instead what of the client's planning python-graphblas could do, beside the planning itself.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from scaler import Client
from scaler.core.graph import GraphPlan

SIZES = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = 2
MEMORY_RESET = "5"
"""Written to `clear_refs`, the most memory used so far begins anew."""
SIZE_SECONDS = 500.0
ROUNDS = 3

Graph = dict[Any, Any]


def tree(nodes: int) -> tuple[Graph, str, int]:
    """Return a binary tree with about so many nodes that are tasks, its root, and the root's value."""
    leaves = (nodes + 1) // 2
    graph: Graph = {f"n{leaf}": (operator.add, 1, 0) for leaf in range(leaves)}
    level, number = list(graph), leaves
    while len(level) > 1:
        above = []
        for one, other in zip(level[::2], level[1::2], strict=False):
            graph[f"n{number}"] = (operator.add, one, other)
            above.append(f"n{number}")
            number += 1
        level = above + level[len(above) * 2 :]
    return graph, level[0], leaves


def _peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(nodes: int) -> dict[str, float]:
    """Run one tree on a new cluster. Returns figures per node, but for `nodes` and `seconds`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    scheduler = subprocess.Popen([sys.executable, "-m", "scaler_scheduler", address])
    agent = subprocess.Popen([sys.executable, "-m", "scaler_worker", address, "-n", str(WORKERS)])
    try:
        with Client(address, timeout_seconds=SIZE_SECONDS) as client:
            # Functions are known, processes are there.
            small, root, value = tree(200)
            assert client.get(small, [root]) == {root: value}
            graph, root, value = tree(nodes)
            observed = {"client": psutil.Process(), "scheduler": psutil.Process(scheduler.pid)}
            before: dict[str, tuple[float, int]] = {}
            for name, process in observed.items():
                Path(f"/proc/{process.pid}/clear_refs").write_text(MEMORY_RESET)
                before[name] = _cpu_seconds(process), _peak_bytes(process)
            began = time.perf_counter()
            assert client.get(graph, [root]) == {root: value}
            figures = {"nodes": len(graph), "seconds": time.perf_counter() - began}
            for name, process in observed.items():
                cpu, peak = before[name]
                figures[f"{name}_us"] = (_cpu_seconds(process) - cpu) / len(graph) * 1e6
                figures[f"{name}_bytes"] = (_peak_bytes(process) - peak) / len(graph)
            return figures
    finally:
        for process in (agent, scheduler):
            process.terminate()
            process.wait()


def _best(call: Callable[[], Any]) -> float:
    best = math.inf
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def with_graphblas(nodes: int) -> dict[str, float]:
    """Processor time per node, in microseconds, of planning, and of what python-graphblas would do of it."""
    import graphblas as gb  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import numpy as np

    graph, root, _ = tree(nodes)
    plan = GraphPlan(graph, [root])

    def edges() -> tuple[Any, Any]:
        """Numbers for keys and pairs of numbers, without which there is no matrix: a look at each argument, as in planning."""
        number = {key: index for index, key in enumerate(graph)}
        readers, needed = [], []
        for index, computation in enumerate(graph.values()):
            for key in plan.dependencies(computation):
                readers.append(index)
                needed.append(number[key])
        return np.array(readers), np.array(needed)

    readers, needed = edges()
    count = len(graph)
    matrix = gb.Matrix.from_coo(readers, needed, True, nrows=count, ncols=count)

    def cull() -> Any:
        """Everything the root needs, level by level."""
        reached = gb.Vector(bool, count)
        front = gb.Vector.from_coo([count - 1], [True], size=count)
        while front.nvals:
            reached(front.S) << True
            front = front.vxm(matrix, gb.semiring.any_pair).new(mask=~reached.S)
        return reached

    def levels() -> Any:
        """The longest way to each node: as many products as there are levels."""
        level = gb.Vector.from_dense(np.zeros(count, np.int64))
        weights = gb.Matrix.from_coo(readers, needed, 1, nrows=count, ncols=count)
        while True:
            longer = gb.Vector.from_dense(np.zeros(count, np.int64))
            longer(gb.binary.max) << gb.semiring.max_plus(weights @ level)
            if longer.isequal(level):
                return level
            level = longer

    assert cull().nvals == count
    calls = {"plan": lambda: GraphPlan(graph, [root]), "edges": edges, "cull": cull, "levels": levels}
    calls["matrix"] = lambda: gb.Matrix.from_coo(readers, needed, True, nrows=count, ncols=count)
    return {"nodes": count, **{name: _best(call) / count * 1e6 for name, call in calls.items()}}


def draw(rows: list[dict[str, float]], path: str) -> None:
    """Draw time and memory per node by size."""
    from matplotlib import pyplot as plt

    figure, (times, memory) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    nodes = [row["nodes"] for row in rows]
    times.plot(nodes, [row["seconds"] / row["nodes"] * 1e6 for row in rows], "o-", label="dictionary to results, clock")
    for name in ("client", "scheduler"):
        times.plot(nodes, [row[f"{name}_us"] for row in rows], "s--", label=f"{name}, processor")
        memory.plot(nodes, [row[f"{name}_bytes"] for row in rows], "o-", label=name)
    for axes, label in ((times, "µs a node"), (memory, "bytes a node")):
        axes.set(xscale="log", xlabel="nodes", ylabel=label, ylim=(0, None))
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of nodes")
    parser.add_argument("--picture", help="file to draw to")
    parser.add_argument("--graphblas", action="store_true", help="planning beside python-graphblas")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(with_graphblas(options.one) if options.graphblas else measure(options.one)))
        return
    rows: list[dict[str, float]] = []
    for nodes in options.sizes:
        command = [sys.executable, "-m", "benchmarks.graph_sizes", "--one", str(nodes)]
        command += ["--graphblas"] * options.graphblas
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=SIZE_SECONDS)
        rows.append(json.loads(run.stdout.splitlines()[-1]))
        if len(rows) == 1:
            print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
        cells = [f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for value in rows[-1].values()]
        print("| " + " | ".join(cells) + " |", flush=True)
    if options.picture:
        draw(rows, options.picture)


if __name__ == "__main__":
    main()
