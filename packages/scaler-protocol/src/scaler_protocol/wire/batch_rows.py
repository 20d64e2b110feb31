"""Parts of batches: some rows of one, or the rows of several end to end. Every declared column comes along."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.column_table import ColumnSpec, Hop, Shape, columns_of
from scaler_protocol.wire.columns import EMPTY, Column, Packed

Batch = TypeVar("Batch", m.TaskBatch, m.ResultBatch)


class Reported(NamedTuple):
    """The columns of a `ResultBatch` that a processor fills in, beside payloads and objects: they travel as one value.

    Each is declared in `messages`; the hops between do not look at them, so that none can be lost on the way.
    """

    statuses: Column = EMPTY
    durations: Column = EMPTY
    cpu_times: Column = EMPTY
    memory_peaks: Column = EMPTY

    def cut(self, start: int, stop: int) -> Reported:
        """Return the columns of the rows from `start` to `stop`."""
        return Reported(*(column[start:stop] for column in self))

    def pick(self, rows: Sequence[int]) -> Reported:
        """Return the columns of these rows."""
        return Reported(*(pick(column, rows) for column in self))


NOTHING_REPORTED: Final = Reported()

_SPECS = {spec.name: spec for spec in columns_of(m.ResultBatch)}
REPORTED = tuple(_SPECS[name] for name in Reported._fields)
"""The declarations of what is `Reported`."""

ABSENT = tuple(spec.absent or 0 for spec in REPORTED)
"""What an empty column of `Reported` means."""


_reported = attrgetter(*Reported._fields)


def reported_of(batch: m.ResultBatch) -> Reported:
    """Return the part of a batch that its processor filled in."""
    return new_tuple(Reported, _reported(batch))


CARRIED = tuple(
    spec
    for spec in columns_of(m.TaskBatch)
    if spec.shape is Shape.ROWS
    and spec.absent is not None
    and Hop.SUBMIT | Hop.RUN in spec.hops
    # Says which of the batch's functions a row calls: each hop has tables of its own.
    and spec.name != "function_indexes"
)
"""The declarations of columns that a client fills in and that go to the running task, through hops that only pass them on."""

Carried = tuple[int, ...]
"""What one task has in each column of `CARRIED`; empty where it has nothing but what is absent."""


def carried_columns(tasks: Sequence[Carried], specs: Sequence[ColumnSpec] = CARRIED) -> dict[str, Any]:
    """Return the columns, by name, that say of each task what it carries; those that nothing is in are left out."""
    columns: dict[str, Any] = {}
    if specs and any(tasks):
        for position, spec in enumerate(specs):
            absent = spec.absent or 0
            column = [carried[position] if carried else absent for carried in tasks]
            if any(value != absent for value in column):
                columns[spec.name] = column
    return columns


def carried_rows(batch: Any, rows: int, specs: Sequence[ColumnSpec] = CARRIED) -> Sequence[Carried]:
    """Return what each row of a batch, or of any part of one with columns of the same names, carries."""
    columns = [getattr(batch, spec.name) for spec in specs]
    if not any(map(len, columns)):
        return ((),) * rows
    filled = [
        column if len(column) else (spec.absent or 0,) * rows for spec, column in zip(specs, columns, strict=True)
    ]
    return list(zip(*filled, strict=True))


def pick(column: Column, rows: Sequence[int]) -> Column:
    """Return the values of these rows; nothing where the column is empty."""
    return [column[row] for row in rows] if len(column) else EMPTY


def pick_rows(batch: m.ResultBatch, rows: Sequence[int]) -> m.ResultBatch:
    """Return a batch of these rows of `batch`, which are ascending. It says nothing of capacity."""
    new_row = {row: position for position, row in enumerate(rows)}
    values: dict[str, Any] = {"client": batch.client}
    for spec in columns_of(m.ResultBatch):
        column = getattr(batch, spec.name)
        if spec.shape is Shape.ROWS:
            values[spec.name] = pick(column, rows)
        elif spec.shape is Shape.BLOBS:
            items = column.split()
            values[spec.name] = Packed.of([items[row] for row in rows])
        elif spec.shape is Shape.SPARSE_IDS:
            places = getattr(batch, spec.positions)
            kept = [at for at, row in enumerate(places) if row in new_row]
            if kept:
                values[spec.positions] = [new_row[places[at]] for at in kept]
                values[spec.name] = tuple(column[at] for at in kept)
        elif spec.shape is not Shape.POSITIONS:
            raise TypeError(f"a result's {spec.name} is of a shape that cannot be picked from: {spec.shape}")
    return m.ResultBatch(**values)


class GrowingColumn:
    """A column of integers that is empty as long as all its rows are what an empty one means."""

    __slots__ = ("_absent", "values")

    def __init__(self, typecode: str, absent: int) -> None:
        self.values: array[int] = array(typecode)
        self._absent = absent

    def extend(self, rows_before: int, rows: int, values: Column) -> None:
        """Append `values`, which may be absent, behind `rows_before` rows."""
        if len(values):
            self._fill(rows_before)
            self.values.extend(values)
        elif len(self.values):
            self._fill(rows_before + rows)

    def _fill(self, rows: int) -> None:
        missing = rows - len(self.values)
        if missing > 0:
            self.values.extend(array(self.values.typecode, [self._absent]) * missing)
