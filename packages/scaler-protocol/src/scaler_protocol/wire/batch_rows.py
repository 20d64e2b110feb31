"""Parts of batches: some rows of one, or the rows of several end to end. Every declared column comes along."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter, index
from typing import Any, Final, NamedTuple, TypeVar

from scaler_protocol.runtime.names import shown
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
    object_bytes: Column = EMPTY
    durations: Column = EMPTY
    read_times: Column = EMPTY
    write_times: Column = EMPTY
    cpu_times: Column = EMPTY
    memory_peaks: Column = EMPTY

    def cut(self, start: int, stop: int) -> Reported:
        """Return the columns of the rows from `start` to `stop`."""
        return Reported(*(column[start:stop] for column in self))

    def pick(self, rows: Sequence[int]) -> Reported:
        """Return the columns of these rows."""
        return Reported(*(pick(column, rows) for column in self))

    def profiles(self, rows: int) -> list[dict[str, int] | None]:
        """Return what each row has in each column, by the columns' names; None where none of its figures was measured."""
        filled = [column if len(column) else (absent,) * rows for column, absent in zip(self, ABSENT, strict=True)]
        nothing, names = ABSENT[FIGURES_START:], self._fields
        return [
            dict(zip(names, row, strict=True)) if row[FIGURES_START:] != nothing else None
            for row in zip(*filled, strict=True)
        ]


NOTHING_REPORTED: Final = Reported()

_SPECS = {spec.name: spec for spec in columns_of(m.ResultBatch)}
REPORTED = tuple(_SPECS[name] for name in Reported._fields)
"""The declarations of what is `Reported`."""

ABSENT = tuple(spec.absent or 0 for spec in REPORTED)
"""What an empty column of `Reported` means."""

REPORTED_MAX = tuple((1 << 8 * array(spec.typecode).itemsize) - 1 for spec in REPORTED)
"""The largest number that each column of `Reported` holds."""

FIGURES_START: Final = Reported._fields.index("cpu_times")
"""The columns of `Reported` from here on are figures, which only tasks have that are profiled."""

NO_FIGURES: Final = NOTHING_REPORTED[FIGURES_START:]


_reported = attrgetter(*Reported._fields)


def reported_of(batch: m.ResultBatch) -> Reported:
    """Return the part of a batch that its processor filled in."""
    return new_tuple(Reported, _reported(batch))


def report(rows: Sequence[Mapping[str, int]]) -> Reported:
    """Return the columns of results, each given by the names of columns: what a row does not name is absent in it.

    Numbers that a column cannot hold become the nearest that it can: clocks may go wrong, and tasks may replace them.
    """
    columns: list[Column] = []
    for spec, absent, limit in zip(REPORTED, ABSENT, REPORTED_MAX, strict=True):
        values = [row.get(spec.name, absent) for row in rows]
        if any(value != absent for value in values):
            columns.append([min(max(value, 0), limit) for value in values])
        else:
            columns.append(EMPTY)
    return Reported._make(columns)


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

if columns_of(m.GraphSubmit) != tuple(replace(spec, hops=Hop.SUBMIT) for spec in CARRIED):
    raise TypeError("GraphSubmit must declare the same columns as TaskBatch declares for CARRIED, with Hop.SUBMIT")


def carry(values: Mapping[str, int], specs: Sequence[ColumnSpec] = CARRIED) -> Carried:
    """Return what a task carries that has these values, by the names of their columns; in the others it has what is absent.

    Raises TypeError for the name of no carried column and for what is no integer, ValueError for what its column cannot hold.
    """
    if not values:
        return ()
    unknown = values.keys() - {spec.name for spec in specs}
    if unknown:
        raise TypeError(f"tasks carry no {', '.join(sorted(unknown))}")
    carried = tuple(_checked(spec, values.get(spec.name, spec.absent or 0)) for spec in specs)
    return carried if any(value != (spec.absent or 0) for value, spec in zip(carried, specs, strict=True)) else ()


def _checked(spec: ColumnSpec, value: Any) -> int:
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{spec.name} must be integers, not {shown(value)}") from None
    limit = (1 << 8 * array(spec.typecode).itemsize) - 1
    if not 0 <= number <= limit:
        raise ValueError(f"{spec.name} must be between 0 and {limit:,}, not {number}")
    return number


def carried_value(carried: Carried, name: str, specs: Sequence[ColumnSpec] = CARRIED) -> int:
    """Return what a task that carries this has in the column `name`. Raises KeyError where tasks carry no such column."""
    for position, spec in enumerate(specs):
        if spec.name == name:
            return carried[position] if carried else spec.absent or 0
    raise KeyError(name)


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


def cut_rows(batch: m.ResultBatch, rows_max: int) -> Iterator[m.ResultBatch]:
    """Yield batches of at most so many rows each, which together are `batch`, in order. Each says the same of capacity."""
    rows = len(batch.numbers)
    data_ends = {spec.name: 0 for spec in columns_of(m.ResultBatch) if spec.shape is Shape.BLOBS}
    for start in range(0, rows, rows_max):
        stop = min(start + rows_max, rows)
        values: dict[str, Any] = {"client": batch.client, "capacity": batch.capacity}
        for spec in columns_of(m.ResultBatch):
            column = getattr(batch, spec.name)
            if spec.shape is Shape.ROWS:
                values[spec.name] = column[start:stop]
            elif spec.shape is Shape.BLOBS:
                lengths = column.lengths[start:stop]
                begins = data_ends[spec.name]
                ends = data_ends[spec.name] = begins + sum(lengths)
                values[spec.name] = Packed(lengths, memoryview(column.data)[begins:ends])
            elif spec.shape is Shape.SPARSE_IDS:
                places = getattr(batch, spec.positions)
                kept = [at for at, row in enumerate(places) if start <= row < stop]
                if kept:
                    values[spec.positions] = [places[at] - start for at in kept]
                    values[spec.name] = tuple(column[at] for at in kept)
            elif spec.shape is not Shape.POSITIONS:
                raise TypeError(f"a result's {spec.name} is of a shape that cannot be cut: {spec.shape}")
        yield m.ResultBatch(**values)


def row_picker(batch: m.ResultBatch) -> Callable[[int], m.ResultBatch]:
    """Return a function that makes a batch of one row, as `pick_rows` does. Where all rows are wanted one by one, it is quick."""
    columns: list[tuple[str, Column]] = []
    blobs: list[tuple[str, list[bytes]]] = []
    ids: list[tuple[str, str, dict[int, list[bytes]]]] = []
    for spec in columns_of(m.ResultBatch):
        column = getattr(batch, spec.name)
        if spec.shape is Shape.ROWS:
            columns.append((spec.name, column))
        elif spec.shape is Shape.BLOBS:
            blobs.append((spec.name, column.split()))
        elif spec.shape is Shape.SPARSE_IDS:
            by_row: dict[int, list[bytes]] = {}
            for row, value in zip(getattr(batch, spec.positions), column, strict=True):
                by_row.setdefault(row, []).append(value)
            ids.append((spec.positions, spec.name, by_row))
        elif spec.shape is not Shape.POSITIONS:
            raise TypeError(f"a result's {spec.name} is of a shape that cannot be picked from: {spec.shape}")

    def pick_row(row: int) -> m.ResultBatch:
        values: dict[str, Any] = {"client": batch.client}
        values.update((name, pick(column, [row])) for name, column in columns)
        values.update((name, Packed.of([items[row]])) for name, items in blobs)
        for positions, name, by_row in ids:
            if row in by_row:
                values[positions] = [0] * len(by_row[row])
                values[name] = tuple(by_row[row])
        return m.ResultBatch(**values)

    return pick_row


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
