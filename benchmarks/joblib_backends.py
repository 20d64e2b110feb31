"""joblib's calls on three backends: `python -m benchmarks.joblib_backends` (needs scikit-learn, dask and distributed; Linux).

A grid search of 200 fits, 10,000 tiny calls, and 16 calls that share an array, on this engine, on joblib's own processes
(loky) and on dask.distributed, with two workers each. The backends are measured in turns, each time in a new process that does
everything once to warm up. Processor time is that of all processes. Workers are held to one thread of BLAS in each backend.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import joblib
import numpy as np
import psutil

from benchmarks import processes

SYSTEMS = ("scaler", "loky", "dask")
TITLES = {"scaler": "this engine", "loky": "joblib / loky", "dask": "dask.distributed"}
WORKERS = 2
TINY_CALLS = 10_000
SHARING_CALLS = 16
SAMPLE_SECONDS = 300.0


def grid_search() -> None:
    """200 fits of some milliseconds."""
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    points, classes = make_classification(2000, 20, random_state=1)
    search = GridSearchCV(LogisticRegression(), {"C": list(np.logspace(-3, 2, 40))}, cv=5, refit=False)
    search.fit(points, classes)
    assert len(search.cv_results_["params"]) == 40


def tiny_calls() -> None:
    """Calls that take no time."""
    results = joblib.Parallel()(joblib.delayed(abs)(-number) for number in range(TINY_CALLS))
    assert results == list(range(TINY_CALLS))


def total(array: Any, number: int) -> float:
    return float(array.sum()) + number


def shared_array(megabytes: int) -> None:
    """Calls that all read one array."""
    array = np.ones(megabytes * 2**20 // 8)
    results = joblib.Parallel()(joblib.delayed(total)(array, number) for number in range(SHARING_CALLS))
    assert results == [array.size + number for number in range(SHARING_CALLS)]


def _backend(system: str) -> AbstractContextManager[Any]:
    settings: dict[str, Any] = {"inner_max_num_threads": 1}
    if system == "dask":
        from dask.distributed import Client  # type: ignore[import-not-found, unused-ignore]

        # Its workers have one thread of BLAS each by default. Nobody looks at its pages.
        settings = {"client": Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)}
    elif system == "scaler":
        import scaler.joblib  # noqa: F401

        settings["n_workers"] = WORKERS
    context: AbstractContextManager[Any] = joblib.parallel_config(backend=system, n_jobs=WORKERS, **settings)
    return context


def _processor_seconds() -> float:
    spent = 0.0
    for process in (psutil.Process(), *processes.descendants()):
        times = process.cpu_times()
        spent += times.user + times.system
    return spent


def _measure(system: str, megabytes: int) -> dict[str, tuple[float, float]]:
    """Return clock and processor time of each workload."""
    workloads: dict[str, Callable[[], None]] = {
        "grid search, 200 fits": grid_search,
        f"{TINY_CALLS:,} tiny calls": tiny_calls,
        f"array of {megabytes} MiB, {SHARING_CALLS} calls": lambda: shared_array(megabytes),
    }
    figures = {}
    with _backend(system):
        for name, run in workloads.items():
            run()
            spent, start = _processor_seconds(), time.perf_counter()
            run()
            figures[name] = time.perf_counter() - start, _processor_seconds() - spent
    return figures


def main() -> None:
    """Measure all backends, or with `--system` one, in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--system", choices=SYSTEMS)
    arguments = parser.parse_args()
    if arguments.system:
        print(json.dumps(_measure(arguments.system, arguments.megabytes)), flush=True)
        return
    command = [sys.executable, "-m", "benchmarks.joblib_backends", "--megabytes", str(arguments.megabytes), "--system"]
    samples: dict[str, list[dict[str, tuple[float, float]]]] = {system: [] for system in SYSTEMS}
    for _ in range(arguments.rounds):
        for system in SYSTEMS:
            run = subprocess.run(
                [*command, system],
                stdout=subprocess.PIPE,
                text=True,
                timeout=SAMPLE_SECONDS,
                check=True,
                env=os.environ,
            )
            samples[system].append(json.loads(run.stdout.splitlines()[-1]))
            print(TITLES[system], samples[system][-1], file=sys.stderr, flush=True)
    print("| workload | " + " | ".join(f"{TITLES[system]}: clock | processor time" for system in SYSTEMS) + " |")
    print("|---" * (1 + 2 * len(SYSTEMS)) + "|")
    for name in samples["scaler"][0]:
        cells = []
        for system in SYSTEMS:
            clocks, spent = zip(*(sample[name] for sample in samples[system]), strict=True)
            cells += [f"{statistics.median(clocks):.2f} s", f"{statistics.median(spent):.2f} s"]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
