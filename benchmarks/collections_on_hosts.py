"""Dask's collections on three hosts: `python -m benchmarks.collections_on_hosts --dask-python PYTHON` (as root; Linux).

The workloads of `workloads/dask_collections.py`, on hosts as in `stores_on_hosts`: scheduler, central object storage and client
on one, a worker on each of three others, with links of 1 Gbit/s. This engine (with a store on every host) and dask.distributed
(`--dask-python`: an interpreter that has it) are measured in turns, in the same run. Every client is a new process; it computes
once to warm up, then for the figures. Memory is that of all processes on all hosts (PSS), client included.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.registry import find_workload, groups
from benchmarks.stores_on_hosts import HOSTS, NETWORK, PORT, cluster_on, hosts

SYSTEMS = ("hosts", "dask")
TITLES = {"hosts": "this engine", "dask": "dask.distributed"}
COMPUTATION_SECONDS = 300.0
COMPUTATIONS = 3
MEMORY_INTERVAL_S = 0.5
ROOT = Path(__file__).resolve().parents[1]

Figures = dict[str, float]


# --- the client: a process on the first host


def _measure(system: str, name: str) -> Figures:
    address = f"tcp://{NETWORK}.1:{PORT}"
    return _measure_dask(address, name) if system == "dask" else _measure_ours(address, name)


def _measure_ours(address: str, name: str) -> Figures:
    import scaler.dask
    from benchmarks.tasks import identity
    from scaler import Client

    with Client(address) as client:
        for number in range(1, HOSTS + 1):
            client.submit_verbose(identity, (1,), {}, capabilities={f"host{number}": -1}).result(COMPUTATION_SECONDS)
        with scaler.dask.scheduler(client):
            return _seconds(name)


def _measure_dask(address: str, name: str) -> Figures:
    from dask.distributed import Client  # type: ignore[import-not-found, unused-ignore]

    with Client(address) as client:
        client.wait_for_workers(HOSTS)
        return _seconds(name)


def _seconds(name: str) -> Figures:
    workload: Any = find_workload(name)
    times = []
    for number in range(1 + COMPUTATIONS):
        collection, verify = workload.make(number, quick=False)
        begin = time.perf_counter()
        found = collection.compute()
        times.append(time.perf_counter() - begin)
        verify(found)
    return {"seconds": statistics.median(times[1:])}


# --- all hosts


def _round(system: str, names: list[str], on: list[list[str]], dask_python: str) -> dict[str, Figures]:
    mark = secrets.token_hex(8)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment[processes.MARK] = mark
    found: dict[str, Figures] = {}
    for name in names:
        # A cluster for each: what one computation leaves in memory is not another one's.
        with cluster_on(on, system, dask_python, environment):
            python = dask_python if system == "dask" else sys.executable
            command = [*on[0], python, "-m", "benchmarks.collections_on_hosts", "--measure", system, name]
            with processes.watch(lambda: processes.total_pss_bytes(processes.marked(mark)), MEMORY_INTERVAL_S) as peak:
                done = subprocess.run(
                    command,
                    check=True,
                    stdout=subprocess.PIPE,
                    timeout=COMPUTATION_SECONDS * (1 + COMPUTATIONS),
                    env=environment,
                    cwd=ROOT,
                )
            found[name] = {**json.loads(done.stdout.splitlines()[-1]), "peak_mib": peak.value / 1024**2}
            print(f"{TITLES[system]:18}{name:24}{found[name]}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Measure and print a table. Returns the exit status."""
    every = [workload.name for workload in groups()["collections"]]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collections_on_hosts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument(
        "--dask-python", default="", help="an interpreter with dask.distributed (default: leave it out)"
    )
    parser.add_argument("--workload", nargs="+", choices=every, default=every, metavar="NAME", help="only these")
    parser.add_argument("--measure", nargs=2, metavar=("SYSTEM", "WORKLOAD"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(_measure(*given.measure)))
        return 0
    if os.geteuid() != 0:
        print("collections_on_hosts makes network namespaces, which only root may", file=sys.stderr)
        return 2
    systems = [system for system in SYSTEMS if system != "dask" or given.dask_python]
    rounds: dict[str, list[dict[str, Figures]]] = {system: [] for system in systems}
    with hosts() as on:
        for _ in range(given.rounds):
            for system, measured in rounds.items():
                measured.append(_round(system, given.workload, on, given.dask_python))
    print(f"{'medians':<24}" + "".join(f"{TITLES[system]:>24}" for system in systems))
    for name in given.workload:
        cells = []
        for system in systems:
            medians = [
                statistics.median(each[name][metric] for each in rounds[system]) for metric in ("seconds", "peak_mib")
            ]
            cells.append(f"{medians[0]:.2f} s {medians[1]:,.0f} MiB")
        print(f"{name:<24}" + "".join(f"{cell:>24}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
