"""The steps of all curves, the steepest first: where the next cliff is, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.curve import Curve, Point
from benchmarks.results import Results
from benchmarks.workload import Workload


@dataclass(frozen=True, slots=True)
class Step:
    """From one point of a curve to the next, with the medians there of every system that has both."""

    curve: Curve
    before: Point
    after: Point
    medians: dict[str, tuple[float, float]]

    def size(self, system: str) -> float | None:
        """Return the step of one system; None where it was not measured."""
        found = self.medians.get(system)
        return None if found is None else self.curve.step(self.before, self.after, *found)


def steepest(results: Results, workloads: Sequence[Workload], system: str) -> list[Step]:
    """Return the steps of a system on all curves of these workloads, the steepest first."""
    steps = [
        Step(curve, before, after, _medians(results, workload.name, before, after))
        for workload in workloads
        for curve in workload.curves
        for before, after in curve.pairs()
    ]
    sizes = [(size, step) for step in steps if (size := step.size(system)) is not None]
    return [step for _, step in sorted(sizes, key=lambda entry: -entry[0])]


def _medians(results: Results, workload: str, before: Point, after: Point) -> dict[str, tuple[float, float]]:
    found = {}
    for system in results.systems:
        first = results.median(workload, system, before.metric)
        second = results.median(workload, system, after.metric)
        if first and second:
            found[system] = (first, second)
    return found
