"""Consecutive rows of a received batch: what is queued, handed over and answered, without touching single tasks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions
from scaler_protocol.wire.columns import Column


@dataclass(slots=True, eq=False)
class TaskSlice:
    """Rows `start` to `stop` (exclusive) of `batch`. Slices never overlap, so each row has one owner.

    `first_byte` is where the first row's payload begins. An *abandoned* slice belongs to a client that is gone: it may
    still be running, but nobody wants its results. `index` is what the first row is known by at the processor it was
    handed to, and means nothing before. `asked` is what all rows ask for. `begins` and `ends` are its next turn in the agent's
    queue, `each` is what a row adds to it (see `queue`).

    Rows of one chain stay together: whoever cuts a slice cuts between chains (`whole`), or gives back to the scheduler what
    is left of one (`continued`).
    """

    batch: m.TaskBatch
    start: int
    stop: int
    first_byte: int = 0
    abandoned: bool = False
    index: int = 0
    asked: CallOptions = NO_OPTIONS
    begins: float = 0.0
    ends: float = 0.0
    each: float = 0.0

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def client(self) -> bytes:
        """The client of all rows."""
        return self.batch.client

    @property
    def depth(self) -> int:
        """How deeply all rows are nested."""
        return self.batch.depth

    @property
    def numbers(self) -> Column:
        """The numbers of the rows."""
        return self.batch.numbers[self.start : self.stop]

    @property
    def attempts(self) -> Column:
        """The attempts of the rows."""
        return self.batch.attempts[self.start : self.stop]

    @property
    def payload_lengths(self) -> Column:
        """The sizes of the rows' payloads in bytes."""
        return self.batch.payloads.lengths[self.start : self.stop]

    @property
    def function_indexes(self) -> Column:
        """Indexes into the batch's function table; empty where all rows use the first."""
        return self.batch.function_indexes[self.start : self.stop]

    def payload_bytes(self) -> int:
        """Return the size of all payloads."""
        return sum(self.payload_lengths)

    def payload(self) -> memoryview:
        """Return the rows' payloads, end to end, as a view."""
        return memoryview(self.batch.payloads.data)[self.first_byte : self.first_byte + self.payload_bytes()]

    def inputs(self) -> tuple[list[int], list[bytes], Sequence[int]]:
        """Return the rows' graph inputs: positions counted from this slice's first row, payloads, and sources.

        A source says how many rows before its own the one is whose result the input is; the payload is empty then. 0, and
        no sources at all, stand for payloads as they are.
        """
        positions = self.batch.input_positions
        if not len(positions):
            return [], [], ()
        low, high = bisect_left(positions, self.start), bisect_left(positions, self.stop)
        lengths = self.batch.inputs.lengths
        begin = sum(lengths[:low])
        data = self.batch.inputs.data
        payloads = []
        for length in lengths[low:high]:
            payloads.append(bytes(data[begin : begin + length]))
            begin += length
        sources = self.batch.input_sources
        return [position - self.start for position in positions[low:high]], payloads, sources[low:high]

    def functions(self) -> Sequence[bytes]:
        """Return the functions these rows may call, each once, and their serializer."""
        batch = self.batch
        if not (batch.function_indexes or batch.serializer):
            return batch.functions[:1]
        indexes = self.function_indexes
        functions = [batch.functions[index] for index in sorted(set(indexes))] if indexes else [batch.functions[0]]
        if batch.serializer:
            functions.append(batch.serializer)
        return functions

    def whole(self, count: int) -> int:
        """Return how many of the first `count` rows can be cut off without cutting a chain; one chain at least."""
        ends = self.batch.chain_ends
        if not len(ends):
            return count
        after = bisect_right(ends, self.start + count)
        if after and ends[after - 1] > self.start:
            return min(ends[after - 1], self.stop) - self.start
        return min(ends[after], self.stop) - self.start

    def last_chain(self) -> int:
        """Return of how many rows the last chain of this slice is."""
        ends = self.batch.chain_ends
        if not len(ends):
            return 1
        before = bisect_left(ends, self.stop)
        return self.stop - max(self.start, ends[before - 1] if before else 0)

    def continued(self) -> int:
        """Return how many rows at the front belong to a chain that begins before them."""
        ends = self.batch.chain_ends
        if not len(ends) or not self.start:
            return 0
        following = bisect_left(ends, self.start)
        return 0 if ends[following] == self.start else min(ends[following], self.stop) - self.start

    def take(self, count: int) -> TaskSlice:
        """Cut the first `count` rows off and return them."""
        middle = min(self.start + count, self.stop)
        head = TaskSlice(self.batch, self.start, middle, self.first_byte, self.abandoned, self.index, self.asked)
        self.first_byte += sum(self.batch.payloads.lengths[self.start : middle])
        self.index += middle - self.start
        self.start = middle
        return head

    def take_last(self, count: int) -> TaskSlice:
        """Cut the last `count` rows off and return them."""
        middle = max(self.stop - count, self.start)
        skipped = sum(self.batch.payloads.lengths[self.start : middle])
        index = self.index + middle - self.start
        first_byte = self.first_byte + skipped
        tail = TaskSlice(self.batch, middle, self.stop, first_byte, self.abandoned, index, self.asked)
        self.stop = middle
        return tail

    def find(self, wanted: dict[int, int]) -> list[int]:
        """Return the rows (as indexes into the batch) whose number is wanted, with the wanted attempt (0: any)."""
        numbers = self.numbers
        if wanted.keys().isdisjoint(numbers):
            return []
        attempts = self.attempts
        return [
            self.start + row
            for row, number in enumerate(numbers)
            if number in wanted and wanted[number] in (0, attempts[row])
        ]


def split_out(piece: TaskSlice, rows: Sequence[int]) -> tuple[list[TaskSlice], list[TaskSlice]]:
    """Part `piece` into (what stays, what was split out). `rows` are ascending indexes into the batch."""
    stays: list[TaskSlice] = []
    out: list[TaskSlice] = []
    rest = piece
    for row in rows:
        if row > rest.start:
            stays.append(rest.take(row - rest.start))
        out.append(rest.take(1))
    if len(rest):
        stays.append(rest)
    return stays, out
