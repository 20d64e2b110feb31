"""What a store on every host is worth: `python -m benchmarks.stores_on_hosts` (as root; Linux).

Network namespaces stand for four hosts, each with a link of 1 Gbit/s to a bridge: one with scheduler, central object storage and
client, three with a worker each. Each has process ids and shared memory of its own, so that values between hosts travel through
the network. One value is sent to one host, and one to all; then come a shuffle and a sum in pairs. The same work is done with the
central store alone, with a store on every host, and by dask.distributed (`--dask-python`: an interpreter that has it), in turns.
Sums of all values are checked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HOSTS = 3
NETWORK = "10.78.0"
PORT = 7545
MIB = 1024**2
BROADCAST_MIB, SHUFFLE_MIB, LEAF_MIB, LEAVES = 256, 1024, 8, 64
PARTS = 6
START_SECONDS = 90.0
STORE_SECONDS = 3.0
ROUND_SECONDS = 240.0
SYSTEMS = ("central", "hosts", "dask")
ROOT = Path(__file__).resolve().parents[1]

Graph = dict[str, tuple[Any, ...]]
Figures = dict[str, float]


# --- the work: the same functions for all systems


def filled(value: float, size_mib: int) -> np.ndarray[Any, Any]:
    """Make an array of this size."""
    return np.full(size_mib * MIB // 8, value)


def total(*arrays: np.ndarray[Any, Any]) -> float:
    """Return the sum of all elements."""
    return float(sum(array.sum() for array in arrays))


def plus(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the sum of two arrays."""
    added: np.ndarray[Any, Any] = left + right
    return added


def shuffle() -> tuple[Graph, list[str], list[float]]:
    """Return a graph in which every reducer reads a part of every mapper, its wanted rows and their values."""
    size = SHUFFLE_MIB // PARTS**2
    graph: Graph = {}
    for mapper in range(PARTS):
        for reducer in range(PARTS):
            graph[f"part-{mapper}-{reducer}"] = (filled, float(mapper), size)
    for reducer in range(PARTS):
        graph[f"sum-{reducer}"] = (total, *(f"part-{mapper}-{reducer}" for mapper in range(PARTS)))
    expected = float(sum(range(PARTS)) * size * MIB // 8)
    return graph, [f"sum-{reducer}" for reducer in range(PARTS)], [expected] * PARTS


def tree() -> tuple[Graph, list[str], list[float]]:
    """Return a graph that adds arrays in pairs, its wanted row and its value."""
    graph: Graph = {f"0-{leaf}": (filled, float(leaf), LEAF_MIB) for leaf in range(LEAVES)}
    level, count = 0, LEAVES
    while count > 1:
        for pair in range(count // 2):
            graph[f"{level + 1}-{pair}"] = (plus, f"{level}-{2 * pair}", f"{level}-{2 * pair + 1}")
        level, count = level + 1, count // 2
    graph["sum"] = (total, f"{level}-0")
    return graph, ["sum"], [float(sum(range(LEAVES)) * LEAF_MIB * MIB // 8)]


# --- what a client does with each system; in a process of its own, on the client's host


def _timed(work: Callable[[], list[float]], expected: list[float]) -> float:
    started = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - started
    if found != expected:
        raise SystemExit(f"wrong: {found} instead of {expected}")
    return seconds


def _get(client: Any, graph: Graph, wanted: list[str]) -> list[float]:
    found = client.get(graph, wanted)
    return [found[name] for name in wanted] if isinstance(found, dict) else list(found)


def _measure_ours(address: str) -> Figures:
    from scaler import Client

    names = [f"host{number}" for number in range(1, HOSTS + 1)]
    value = filled(1.0, BROADCAST_MIB)
    with Client(address) as client:
        for name in names:
            client.submit_verbose(total, (filled(1.0, 1),), {}, capabilities={name: -1}).result(START_SECONDS)
        time.sleep(STORE_SECONDS)  # sleeps: workers take tasks before their host's store answers

        def send_to(*names: str) -> list[float]:
            reference = client.send_object(value)
            futures = [client.submit_verbose(total, (reference,), {}, capabilities={name: -1}) for name in names]
            return [float(future.result(ROUND_SECONDS)) for future in futures]

        figures = {"one host": _timed(partial(send_to, names[-1]), [float(value.size)])}
        figures["broadcast"] = _timed(partial(send_to, *names), [float(value.size)] * HOSTS)
        for name, (graph, wanted, expected) in (("shuffle", shuffle()), ("tree", tree())):
            figures[name] = _timed(partial(_get, client, graph, wanted), expected)
    return figures


def _measure_dask(address: str) -> Figures:
    from dask.distributed import Client  # type: ignore[import-not-found, unused-ignore]

    value = filled(1.0, BROADCAST_MIB)
    with Client(address) as client:
        client.wait_for_workers(HOSTS)
        workers = list(client.scheduler_info()["workers"])
        for worker in workers:
            client.submit(total, filled(1.0, 1), workers=[worker], pure=False).result()

        def send_to(*workers: str) -> list[float]:
            (reference,) = client.scatter([value], hash=False, workers=workers[:1])
            futures = [client.submit(total, reference, workers=[worker], pure=False) for worker in workers]
            return [float(found) for found in client.gather(futures)]

        figures = {"one host": _timed(partial(send_to, workers[-1]), [float(value.size)])}
        figures["broadcast"] = _timed(partial(send_to, *workers), [float(value.size)] * HOSTS)
        for name, (graph, wanted, expected) in (("shuffle", shuffle()), ("tree", tree())):
            figures[name] = _timed(partial(_get, client, graph, wanted), expected)
    return figures


# --- hosts


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def hosts() -> Iterator[list[list[str]]]:
    """Yield how a command begins that runs on each host; the first is that of scheduler and client."""
    bridge, names = f"sb{os.getpid() % 100_000}", [f"scaler-{os.getpid()}-{number}" for number in range(HOSTS + 1)]
    limit = ["root", "tbf", "rate", "1gbit", "burst", "256kb", "latency", "100ms"]
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc"]
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        for number, name in enumerate(names):
            outer = f"so{os.getpid() % 100_000}-{number}"
            _ip("netns", "add", name)
            _ip("link", "add", outer, "type", "veth", "peer", "name", "e0", "netns", name)
            _ip("link", "set", outer, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{NETWORK}.{number + 1}/24", "dev", "e0")
            _ip("-n", name, "link", "set", "e0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            subprocess.run(["tc", "qdisc", "replace", "dev", outer, *limit], check=True)
            subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", "e0", *limit], check=True)
        yield [["ip", "netns", "exec", name, *alone] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)
        subprocess.run(["ip", "link", "delete", bridge], check=False)


def _services(system: str, dask_python: str) -> tuple[list[str], list[list[str]]]:
    """Return the commands of the first host and of the others."""
    address = f"tcp://{NETWORK}.1:{PORT}"
    if system == "dask":
        first = [dask_python, "-m", "distributed.cli.dask_scheduler", "--host", f"{NETWORK}.1", "--port", str(PORT)]
        quiet = ["--no-dashboard"]
        worker = [
            dask_python,
            "-m",
            "distributed.cli.dask_worker",
            address,
            "--nthreads",
            "1",
            "--nworkers",
            "1",
            *quiet,
        ]
        return [*first, *quiet], [worker] * HOSTS
    quiet = ["--logging-level", "WARNING", "--insecure"]
    store = ["--object-storage"] if system == "hosts" else []
    return (
        [sys.executable, "-m", "scaler_scheduler", address, *quiet],
        [
            [sys.executable, "-m", "scaler_worker", address, "-n", "1", "-pwc", f"host{number}", *quiet, *store]
            for number in range(1, HOSTS + 1)
        ],
    )


@contextlib.contextmanager
def cluster_on(on: list[list[str]], system: str, dask_python: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run scheduler and workers of a system on hosts; `on`: as `hosts` yields them."""
    first, others = _services(system, dask_python)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for host, command in zip(on, [first, *others], strict=True):
            running.append(subprocess.Popen([*host, *command], env=environment, cwd="/tmp", start_new_session=True))
        yield
    finally:
        for process in running:
            # What it runs in a namespace of process ids ends with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(START_SECONDS)


def _round(system: str, on: list[list[str]], dask_python: str) -> Figures:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with cluster_on(on, system, dask_python, environment):
        python = dask_python if system == "dask" else sys.executable
        measure = [python, "-m", "benchmarks.stores_on_hosts", "--measure", system]
        found = subprocess.run(
            [*on[0], *measure], check=True, stdout=subprocess.PIPE, timeout=ROUND_SECONDS, env=environment, cwd=ROOT
        )
    figures: Figures = json.loads(found.stdout.splitlines()[-1])
    return figures


def main() -> int:
    """Measure and print a table. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores_on_hosts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured (default: 2)")
    parser.add_argument(
        "--dask-python", default="", help="an interpreter with dask.distributed (default: leave it out)"
    )
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--measure", choices=SYSTEMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        address = f"tcp://{NETWORK}.1:{PORT}"
        print(json.dumps(_measure_dask(address) if given.measure == "dask" else _measure_ours(address)))
        return 0
    if os.geteuid() != 0:
        print("stores_on_hosts makes network namespaces, which only root may", file=sys.stderr)
        return 2
    systems = [system for system in given.systems if system != "dask" or given.dask_python]
    rounds: dict[str, list[Figures]] = {system: [] for system in systems}
    with hosts() as on:
        for _ in range(given.rounds):
            for system, measured in rounds.items():
                measured.append(_round(system, on, given.dask_python))
    print(f"{'seconds, medians':<24}" + "".join(f"{system:>12}" for system in systems))
    for name in ("one host", "broadcast", "shuffle", "tree"):
        medians = [statistics.median(each[name] for each in rounds[system]) for system in systems]
        print(f"{name:<24}" + "".join(f"{median:>12.2f}" for median in medians))
        print("    " + ", ".join(f"{system} {[round(each[name], 2) for each in rounds[system]]}" for system in systems))
    return 0


if __name__ == "__main__":
    sys.exit(main())
