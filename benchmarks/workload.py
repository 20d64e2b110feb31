"""What a workload must offer to be run. One file in `benchmarks/workloads` for each subject, with `WORKLOADS` in it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from benchmarks.curve import Curve
from benchmarks.system import Cluster, System


class WrongResult(Exception):
    """The system answered, but not with what the tasks return."""


class Better(Enum):
    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a workload. Rates are comparable between sample sizes, so a sample may be as large as fits."""

    name: str
    title: str
    unit: str
    better: Better
    target: float | None = None
    """What this engine is to reach, in `unit`."""
    peer: str = ""
    """Name of a system whose median in the same run times `peer_factor` is a further target."""
    peer_factor: float = 1.0


@dataclass(slots=True)
class Run:
    """What a workload is given: a system, and how long one sample should take."""

    system: System
    workers: int = 2
    seconds: float = 3.0
    quick: bool = False
    clusters: list[Cluster] = field(default_factory=list)

    @contextlib.contextmanager
    def cluster(self, *, apart: bool = False) -> Iterator[Cluster]:
        """A started cluster whose workers have each run something. `apart`: with a process for its scheduler alone."""
        self.system.load()
        cluster = (self.system.start_apart if apart else self.system.start)(self.workers)
        try:
            warm_up(cluster, self.workers)
            yield cluster
        finally:
            cluster.close()


class Workload(ABC):
    """See the module."""

    name: ClassVar[str]
    """As given to `--workload`."""
    title: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    """The first one is the main one."""
    curves: ClassVar[tuple[Curve, ...]] = ()
    """Metrics that belong together as points of a curve. `--workload curves` runs all workloads that have some."""
    systems: ClassVar[tuple[str, ...] | None] = None
    """The systems it makes sense for. None: all."""
    limit_s: ClassVar[float] = 120.0
    """After so long a sample is ended and counts as failed."""

    @abstractmethod
    def run(self, run: Run) -> dict[str, float]:
        """Measure once; return the metrics by name. Further entries are kept with the raw samples."""


def warm_up(cluster: Cluster, workers: int) -> None:
    """Have every worker import the task functions, so that no sample pays for it."""
    from benchmarks.tasks import identity, sleep

    cluster.gather([cluster.submit(sleep, 0.05) for _ in range(4 * workers)])
    check(cluster.gather([cluster.submit(identity, n) for n in range(20)]), list(range(20)))


def check(found: object, expected: object) -> None:
    """Raise WrongResult unless both are equal."""
    if found != expected:
        raise WrongResult(f"expected {_shortened(expected)}, got {_shortened(found)}")


def growing(measure: Callable[[int], float], *, first: int, last: int, seconds: float) -> tuple[int, float]:
    """Find the sample size that takes about so many seconds, on this machine, for this system; return (size, seconds).

    `measure` runs a sample of the size and returns the seconds it took. The smaller samples before warm up what can be
    warm, and are thrown away.
    """
    measure(first)
    size, expected = first, 0.0
    while True:
        taken = measure(size)
        enough = size >= last or taken >= 0.5 * seconds
        if enough and (size >= last or taken < 4 * expected):
            return size, taken
        if enough:
            # Far longer than the last one let expect: a moment's hiccup must not decide that a small sample is enough.
            expected = taken
            continue
        # Start-up effects make small samples look slow, so the estimate may only be trusted a few steps at a time.
        larger = min(last, max(2 * size, min(20 * size, int(size * seconds / max(taken, 1e-6)))))
        size, expected = larger, taken * larger / size


def repeated(measure: Callable[[], float], *, seconds: float, most: int) -> list[float]:
    """Measure once to warm up, then until these seconds are used; return what was measured, at least three times.

    One that takes longer than all the seconds together is enough.
    """
    measure()
    times: list[float] = []
    while len(times) < most and (sum(times) < seconds or (len(times) < 3 and max(times, default=0.0) < seconds)):
        times.append(measure())
    return times


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
