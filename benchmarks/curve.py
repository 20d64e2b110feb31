"""Curves: a figure along sizes, counts, durations or kinds. A step between neighbours is a cliff somebody falls from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

STEP_MAX = 1.2
"""A neighbour should have no more than a fifth less, beyond what its own work explains."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the curve, and the metric of the workload that was measured there."""

    label: str
    metric: str
    x: float = math.nan
    """Its place on the axis. Kinds have none: each stands beside the first one."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Metrics of one workload, more of which is better, in the order of an axis."""

    title: str
    axis: str
    """What the points differ in, with the unit of `x`."""
    unit: str
    points: tuple[Point, ...]
    x_is_work: bool = False
    """Whether twice the `x` is twice the work, so that half the rate is no step."""

    @property
    def of_kinds(self) -> bool:
        """Whether the points are kinds without an order. Then the first is what the others are compared with."""
        return math.isnan(self.points[0].x)

    def pairs(self) -> list[tuple[Point, Point]]:
        """Return the neighbours between which there may be a step."""
        if self.of_kinds:
            return [(self.points[0], point) for point in self.points[1:]]
        return list(pairwise(self.points))

    def step(self, before: Point, after: Point, value_before: float, value_after: float) -> float:
        """Return how many times less the second point has than the first, beyond what its own work explains (1: nothing)."""
        work = after.x / before.x if self.x_is_work else 1.0
        return value_before / value_after / work
