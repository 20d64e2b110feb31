"""What each column of a batch is. A column is declared once, as a field of its message in `messages`; this reads it back.

A declaration says how the column is written, what "absent" means, and which hops carry it. From it follow the codec's
layout and checks, the forms for a single row, picking and joining rows, and the records between agent and processor. So
a new column is one line in `messages` and one in the schema, and no place between its source and its reader can forget it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum, Flag, auto
from typing import Any

_KEY = "column"


class Shape(Enum):
    """How the values of a column lie."""

    ROWS = auto()
    """One integer for each row."""
    BLOBS = auto()
    """One byte string for each row: a `Packed`."""
    TABLE = auto()
    """16-byte ids that rows refer to; not one for each row."""
    POSITIONS = auto()
    """Rows, ascending: those that the values of the sparse columns with this `positions` belong to."""
    SPARSE_ROWS = auto()
    """One integer for each of `positions`."""
    SPARSE_BLOBS = auto()
    """One byte string for each of `positions`: a `Packed`."""
    SPARSE_IDS = auto()
    """One 16-byte id for each of `positions`."""
    ENDS = auto()
    """Ascending row numbers that divide the rows into parts; the last one is the number of rows."""


class Hop(Flag):
    """Between which two processes a column travels."""

    SUBMIT = auto()
    """Client to scheduler."""
    ASSIGN = auto()
    """Scheduler to agent."""
    RUN = auto()
    """Agent to processor."""
    REPORT = auto()
    """Processor to agent."""
    RESULT = auto()
    """Agent to scheduler."""
    ANSWER = auto()
    """Scheduler to client."""


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """The declaration of one column."""

    name: str
    shape: Shape
    hops: Hop
    typecode: str = ""
    """Of integers, as in `array`; empty for ids and byte strings."""
    absent: int | None = None
    """What every row has while the column is empty; None where it may not be empty, or where empty means: no rows have one."""
    positions: str = ""
    """Of a sparse column: the column that holds its rows."""

    @property
    def wire(self) -> str:
        """The name of its field in the schema; for byte strings, of the field that holds their lengths."""
        name = wire_name(self.name)
        # "payloads" have "payloadLengths".
        return f"{name[:-1]}Lengths" if self.shape in (Shape.BLOBS, Shape.SPARSE_BLOBS) else name


def wire_name(attribute: str) -> str:
    """Return the schema's name for an attribute: `object_positions` is `objectPositions` there."""
    head, *rest = attribute.split("_")
    return head + "".join(word.capitalize() for word in rest)


def column(
    shape: Shape, hops: Hop, typecode: str = "", *, absent: int | None = None, positions: str = ""
) -> Mapping[str, Any]:
    """Return the metadata that makes a dataclass field a column: `field(default=EMPTY, metadata=column(…))`."""
    return {_KEY: (shape, hops, typecode, absent, positions)}


def columns_of(message_type: type[Any]) -> tuple[ColumnSpec, ...]:
    """Return the columns of a message type, in the order of their declaration."""
    return tuple(
        ColumnSpec(entry.name, *entry.metadata[_KEY]) for entry in fields(message_type) if _KEY in entry.metadata
    )
