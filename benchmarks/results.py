"""The results of one run: as a file, and as medians."""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runner import Sample
from benchmarks.workload import Better, Metric, Workload

OURS = "scaler"


@dataclass(slots=True)
class Results:
    """What a results file holds. `systems`: name to title, versions, remarks, and `error` where it could not be installed."""

    date: str
    revision: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    systems: dict[str, dict[str, Any]]
    samples: list[Sample]

    def values(self, workload: str, system: str, metric: str) -> list[float]:
        """Return what was measured, a value for each good sample."""
        return [
            sample["metrics"][metric]
            for sample in self.samples
            if sample["workload"] == workload
            and sample["system"] == system
            and sample["status"] == "ok"
            and metric in sample["metrics"]
        ]

    def median(self, workload: str, system: str, metric: str) -> float | None:
        values = self.values(workload, system, metric)
        return statistics.median(values) if values else None

    def spread(self, workload: str, system: str, metric: str) -> tuple[float, float] | None:
        """Return the smallest and the largest value."""
        values = self.values(workload, system, metric)
        return (min(values), max(values)) if values else None

    def trouble(self, workload: str, system: str) -> str:
        """Return the status of the samples where none is good; empty when there is none at all."""
        found = [s["status"] for s in self.samples if s["workload"] == workload and s["system"] == system]
        return "" if not found or "ok" in found else str(found[0])

    def best_peer(self, workload: Workload, metric: Metric) -> tuple[str, float] | None:
        """Return the name and median of the best system beside ours."""
        medians = {
            name: median
            for name in self.systems
            if name != OURS and (median := self.median(workload.name, name, metric.name)) is not None
        }
        if not medians:
            return None
        choose = max if metric.better is Better.HIGHER else min
        name = choose(medians, key=lambda name: medians[name])
        return name, medians[name]

    def targets(self, workload: Workload, metric: Metric) -> list[float]:
        """Return what ours is to reach: a figure, and a multiple of a peer in the same run."""
        targets = [] if metric.target is None else [metric.target]
        if metric.peer:
            peer = self.median(workload.name, metric.peer, metric.name)
            targets += [] if peer is None else [peer * metric.peer_factor]
        return targets

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {"format": 1, **{name: getattr(self, name) for name in self.__slots__}}
        text = json.dumps(fields, indent=1, ensure_ascii=False)
        path.with_suffix(".tmp").write_text(text + "\n", encoding="utf-8")
        os.replace(path.with_suffix(".tmp"), path)

    @classmethod
    def load(cls, path: Path) -> Results:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("format") != 1:
            raise ValueError(f"{path}: not a results file of this version")
        return cls(**fields)

    @classmethod
    def joined(cls, runs: Sequence[Results]) -> Results:
        """Return several runs as one: rounds of a workload follow one another. Raises ValueError where the machines differ."""
        first, *others = runs
        whole = cls(**{name: getattr(first, name) for name in cls.__slots__})
        whole.samples = list(first.samples)
        for run in others:
            if {**run.machine, "load_average": 0} != {**first.machine, "load_average": 0}:
                raise ValueError(f"the runs of {first.date} and {run.date} were made on different machines")
            rounds: Counter[tuple[str, str]] = Counter()
            for sample in whole.samples:
                key = (sample["workload"], sample["system"])
                rounds[key] = max(rounds[key], sample["round"])
            whole.samples += [
                {**sample, "round": rounds[sample["workload"], sample["system"]] + sample["round"]}
                for sample in run.samples
            ]
            if run.revision not in whole.revision:
                whole.revision += f" and {run.revision}"
            whole.systems = {**run.systems, **whole.systems}
        return whole


def reached(median: float, target: float, better: Better) -> bool:
    return median >= target if better is Better.HIGHER else median <= target


def times_better(ours: float, other: float, better: Better) -> float:
    """Return how many times better ours is; below 1 it is worse."""
    if not ours or not other:
        return float("nan")
    return ours / other if better is Better.HIGHER else other / ours


def used(workloads: Sequence[Workload], results: Results) -> list[Workload]:
    """Return the workloads of which there are samples."""
    names = {sample["workload"] for sample in results.samples}
    return [workload for workload in workloads if workload.name in names]
