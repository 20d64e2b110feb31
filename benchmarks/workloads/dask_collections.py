"""Dask's collections: the same four computations on this engine and on dask.distributed, seconds and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import processes
from benchmarks.system import Cluster
from benchmarks.tasks import add, identity
from benchmarks.workload import Better, Metric, Run, Workload, WrongResult, check, repeated

if TYPE_CHECKING:
    import pandas

MIB = 1024 * 1024

Check = Callable[[Any], None]
"""Raises WrongResult for any but the right value."""

NAMES = 50
"""How many groups the rows of the dataframe are in."""
WORDS = tuple(f"word{number}" for number in range(500))

MEMORY_INTERVAL_S = 0.2
"""Reading the memory of a process of a GiB takes milliseconds, in which it stands still."""


# --- tasks


def rows_of(partition: int, *, rows: int) -> pandas.DataFrame:
    """Make one partition: names in turn, and values that grow with the partition."""
    import numpy as np
    import pandas as pd

    numbers = np.arange(rows)
    names = np.array([f"name{number:02}" for number in range(NAMES)], dtype=object)[numbers % NAMES]
    return pd.DataFrame({"name": names, "value": numbers % 97 + partition, "weight": numbers % 13 + 0.5})


def lines_of(part: int, *, lines: int) -> list[str]:
    """Make lines of ten words each."""
    return [" ".join(WORDS[(7 * line + 31 * word + part) % len(WORDS)] for word in range(10)) for line in range(lines)]


# --- workloads


class _Collection(Workload):
    systems = ("scaler", "dask")
    limit_s = 600.0

    def make(self, number: int, *, quick: bool) -> tuple[Any, Check]:
        """Return a collection that nobody has computed before, by its number, and what checks its value."""
        raise NotImplementedError

    def run(self, run: Run) -> dict[str, float]:
        with run.cluster() as cluster:
            numbers = iter(range(1000))

            def measure() -> float:
                return self._compute(cluster, *self.make(next(numbers), quick=run.quick))

            times = repeated(measure, seconds=run.seconds, most=7)
            # Memory in a computation of its own: looking at it takes time.
            collection, verify = self.make(next(numbers), quick=run.quick)
            watched = processes.of_this_sample()
            before = processes.total_pss_bytes(watched)
            with processes.watch(lambda: processes.total_pss_bytes(watched), MEMORY_INTERVAL_S) as peak:
                self._compute(cluster, collection, verify)
        return {
            "seconds": statistics.median(times),
            "peak_mib": peak.value / MIB,
            "at_rest_mib": before / MIB,
            "nodes": float(_nodes(collection)),
            "rounds": float(len(times)),
        }

    def _compute(self, cluster: Cluster, collection: Any, verify: Check) -> float:
        with cluster.computes_dask():
            begin = time.perf_counter()
            found = collection.compute()
            taken = time.perf_counter() - begin
        verify(found)
        return taken


class ArrayMean(_Collection):
    """Two arrays are added and chunked anew; then comes the mean. Dask's optimization leaves about 20,000 nodes."""

    name = "collections-array"
    title = "Dask: mean of a rechunked sum, 20,000 nodes"
    metrics = (
        Metric("seconds", "array of 20,000 nodes", "s", Better.LOWER, peer="dask"),
        Metric("peak_mib", "array: peak memory, PSS", "MiB", Better.LOWER, peer="dask"),
    )

    def make(self, number: int, *, quick: bool) -> tuple[Any, Check]:
        import dask.array

        side, old, new = (1_000, 100, 125) if quick else (5_200, 100, 120)
        left, right = (
            dask.array.random.default_rng([number, hand]).random((side, side), chunks=(old, old)) for hand in (1, 2)
        )
        total = (left + right + dask.array.arange(side, chunks=old)).rechunk((new, new))

        def verify(found: Any) -> None:
            # Two means of a half, and that of the numbers of the columns.
            if abs(found - (1 + (side - 1) / 2)) > 10 / side:
                raise WrongResult(f"a mean of {found}")

        return total.mean(), verify


class FrameGroups(_Collection):
    """Means and sums by name, of 20 million rows in 400 partitions."""

    name = "collections-dataframe"
    title = "Dask: groupby of a dataframe with 20 million rows"
    metrics = (
        Metric("seconds", "dataframe groupby", "s", Better.LOWER, peer="dask"),
        Metric("peak_mib", "dataframe: peak memory, PSS", "MiB", Better.LOWER, peer="dask"),
    )

    def make(self, number: int, *, quick: bool) -> tuple[Any, Check]:
        import dask.dataframe

        partitions, rows = (20, 5_000) if quick else (400, 50_000)
        frame = dask.dataframe.from_map(
            rows_of, range(number, number + partitions), rows=rows, meta=rows_of(0, rows=1), enforce_metadata=False
        )

        def verify(found: Any) -> None:
            import numpy as np

            one = rows_of(0, rows=rows).groupby("name").agg({"value": "mean", "weight": "sum"})
            one["value"] += number + (partitions - 1) / 2
            one["weight"] *= partitions
            found = found.sort_index()
            check(list(found.index), list(one.index))
            if not np.allclose(found.to_numpy(), one.to_numpy(), rtol=1e-9):
                raise WrongResult("sums by name that differ")

        return frame.groupby("name").agg({"value": "mean", "weight": "sum"}), verify


class BagCount(_Collection):
    """How often each word is there, in 500 parts."""

    name = "collections-bag"
    title = "Dask: word count of a bag with 5 million words"
    metrics = (
        Metric("seconds", "bag word count", "s", Better.LOWER, peer="dask"),
        Metric("peak_mib", "bag: peak memory, PSS", "MiB", Better.LOWER, peer="dask"),
    )

    def make(self, number: int, *, quick: bool) -> tuple[Any, Check]:
        import dask.bag

        parts, lines = (20, 100) if quick else (500, 1_000)
        first = number * len(WORDS)
        texts = dask.bag.from_sequence(range(first, first + parts), npartitions=parts).map(lines_of, lines=lines)
        counts = texts.flatten().map(str.split).flatten().frequencies()

        def verify(found: Any) -> None:
            # Every part has the same lines with the words moved on by one: after 500 parts each word was everywhere.
            check(len(found), len(WORDS))
            check(sum(count for _, count in found), 10 * parts * lines)
            if parts == len(WORDS):
                check({count for _, count in found}, {10 * lines})

        return counts, verify


class DelayedTree(_Collection):
    """Numbers are added in pairs, each sum a delayed call."""

    name = "collections-delayed"
    title = "Dask: a tree of 10,000 delayed calls"
    metrics = (
        Metric("seconds", "tree of 10,000 delayed calls", "s", Better.LOWER, peer="dask"),
        Metric("peak_mib", "delayed: peak memory, PSS", "MiB", Better.LOWER, peer="dask"),
    )

    def make(self, number: int, *, quick: bool) -> tuple[Any, Check]:
        import dask

        leaves = 500 if quick else 5_000
        leaf, pair = dask.delayed(identity, pure=False), dask.delayed(add, pure=False)
        level = [leaf(value + number) for value in range(leaves)]
        while len(level) > 1:
            pairs = [pair(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
            level = pairs + level[2 * len(pairs) :]
        expected = leaves * (leaves - 1) // 2 + leaves * number
        return level[0], lambda found: check(found, expected)


def _nodes(collection: Any) -> int:
    """Return how many tasks it is before anything is optimized."""
    return len(dict(collection.__dask_graph__()))


WORKLOADS = (ArrayMean(), FrameGroups(), BagCount(), DelayedTree())
