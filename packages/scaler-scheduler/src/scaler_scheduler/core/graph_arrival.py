"""A graph that is on its way: its portions, as they come, then the lists that `Graph` needs, made a little at a time.

A row may depend on rows of later portions, and whether a result has further readers is known only when all rows are there. So
a graph begins when its last portion has come.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, groupby, islice, repeat
from math import inf
from operator import itemgetter
from typing import NamedTuple

from scaler_protocol.errors import SessionError
from scaler_protocol.wire.batch_rows import CARRIED, Carried, carried_rows
from scaler_protocol.wire.columns import Column
from scaler_protocol.wire.messages import GraphSubmit, TaskFlag

ATTEMPT_MAX = 0xFFFF
"""Largest number of an attempt: it travels in two bytes."""

PORTION_ROWS_MAX = 100_000
"""Most rows of a portion. Clients send 4,096; more would keep everybody else waiting."""

STEP_ROWS = 5000
"""Rows or dependencies that are worked on in one step: about a millisecond."""

ROW_BYTES = 50
DEPENDENCY_BYTES = 20
"""Memory of a row, and of a dependency, about."""


class Portion(NamedTuple):
    """What came in one message, as it is needed to make tasks of its rows."""

    first_row: int
    payloads: bytes
    payload_ends: array[int]
    functions: tuple[bytes, ...]
    function_indexes: Column
    """Empty: all rows use the first function."""
    carried: Sequence[Carried]
    """Empty where tasks carry nothing."""


class GraphArrival:
    """One graph that is not there as a whole, or not ready to begin."""

    def __init__(self, message: GraphSubmit, refusal: bytes = b"", due: float = inf) -> None:
        self.refusal = refusal
        """Why its rows end as soon as it is there, without having run; empty: they run."""
        self.due = due
        """When the deadline of its rows is over; `inf`: they have none."""
        self.first_number = message.first_number
        self.row_count = message.row_count or len(message.payloads)
        """Rows of the whole graph, as its client says."""
        self.rows_here = 0
        """Rows of the portions that have come."""
        self.size_bytes = 0
        """About how much memory they take."""
        self.is_reannounced = bool(message.flags & TaskFlag.REANNOUNCED)
        """Whether an earlier scheduler knew it, so that agents may hold tasks of it."""
        self.canceled: dict[int, None] = {}
        """Rows that its client has cancelled meanwhile, in their order."""
        self.followed: set[int] = set()
        """Rows that linked tasks need."""
        self.portions: list[Portion] = []
        self.payload_lengths = array("I")
        self.dependencies = array("I")
        self.dependency_counts = array("I")
        self.dependency_ends = array("Q")
        self.objects: dict[int, tuple[bytes, ...]] = {}
        """Objects that the arguments of a row name."""
        self.wanted = bytearray()
        self.dependents = array("I")
        """Rows that need each row, the lists of all rows one after another; and where each list begins."""
        self.dependent_starts = array("Q")
        self.readers = array("I")
        """How many will read each row's result: rows, and its client."""

    @property
    def is_complete(self) -> bool:
        """Whether all portions have come."""
        return self.rows_here == self.row_count

    def take(self, message: GraphSubmit) -> None:
        """Take the next portion in. Raises SessionError for one that does not follow."""
        first_row, rows = self.rows_here, len(message.payloads)
        if message.first_row != first_row or (message.row_count or rows) != self.row_count or not rows:
            raise SessionError(
                f"a portion of {rows} rows from row {message.first_row} of {message.row_count or rows}, where row {first_row} "
                f"of {self.row_count} follows"
            )
        if rows > PORTION_ROWS_MAX:
            raise SessionError(f"a portion of {rows} rows of a graph; at most {PORTION_ROWS_MAX} are accepted")
        data = message.payloads.data
        payloads = data if isinstance(data, bytes) else bytes(data)
        self.portions.append(
            Portion(
                first_row,
                payloads,
                array("Q", accumulate(message.payloads.lengths)),
                message.functions,
                message.function_indexes,
                carried_rows(message, rows) if CARRIED else (),
            )
        )
        self.payload_lengths.extend(message.payloads.lengths)
        dependencies_before = len(self.dependencies)
        self.dependencies.extend(message.dependencies)
        self.dependency_counts.extend(message.dependency_counts)
        ends = accumulate(message.dependency_counts, initial=dependencies_before)
        self.dependency_ends.extend(islice(ends, 1, None))
        named = zip(message.object_positions, message.objects, strict=True)
        for row, of_row in groupby(named, itemgetter(0)):
            self.objects[first_row + row] = (*self.objects.get(first_row + row, ()), *map(itemgetter(1), of_row))
        wanted = bytearray(rows)
        for row in message.wanted:
            wanted[row] = 1
        self.wanted += wanted
        self.rows_here += rows
        self.size_bytes += ROW_BYTES * rows + DEPENDENCY_BYTES * len(message.dependencies) + len(payloads)

    def cancel(self, row: int) -> bool:
        """Its client has cancelled a row. Return whether it wants to know that."""
        self.canceled[row] = None
        was_wanted = bool(self.wanted[row])
        self.wanted[row] = 0
        if was_wanted and row < len(self.readers):
            # It is being made ready, and its client is counted among the readers.
            self.readers[row] -= 1
        return was_wanted

    def follow(self, row: int) -> None:
        """Linked tasks need this row, until `unfollow`, or until it fails."""
        self.followed.add(row)

    def unfollow(self, row: int) -> Sequence[bytes]:
        """Linked tasks need a row no more. Returns objects nobody reads any more, of which there are none yet."""
        self.followed.discard(row)
        return ()

    def build(self) -> Iterator[int]:
        """Make the lists of dependents and readers, when all portions are here. Yields after each step how much it was."""
        rows, dependencies = self.row_count, self.dependencies
        counts = array("Q", bytes(8 * (rows + 1)))
        for start in range(0, len(dependencies), STEP_ROWS):
            for dependency in dependencies[start : start + STEP_ROWS]:
                counts[dependency + 1] += 1
            yield min(STEP_ROWS, len(dependencies) - start)
        starts = self.dependent_starts
        sums = accumulate(counts)
        while part := array("Q", islice(sums, STEP_ROWS)):
            starts.extend(part)
            yield len(part)
        self.dependents = dependents = array("I", bytes(4 * len(dependencies)))
        fill = starts[:]
        pairs = zip(chain.from_iterable(map(repeat, range(rows), self.dependency_counts)), dependencies, strict=True)
        while some := list(islice(pairs, STEP_ROWS)):
            for row, dependency in some:
                dependents[fill[dependency]] = row
                fill[dependency] += 1
            yield len(some)
        readers, wanted = self.readers, self.wanted
        for start in range(0, rows, STEP_ROWS):
            some_rows = range(start, min(start + STEP_ROWS, rows))
            readers.extend([starts[row + 1] - starts[row] + wanted[row] for row in some_rows])
            yield len(some_rows)
