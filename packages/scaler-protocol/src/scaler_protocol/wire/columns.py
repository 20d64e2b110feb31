"""Columns: one value per task, packed, and many byte strings end to end.

A batch of a thousand tasks is a handful of arrays, not a thousand structs: writing and reading an element costs tens of
nanoseconds instead of microseconds. Columns are little-endian on the wire.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Final

from scaler_protocol.wire.envelope import Frame

Column = Sequence[int]
"""Integers, one per row. After decoding an `array.array`; a list or range is as good for sending."""

EMPTY: Final[Column] = ()

_BIG_ENDIAN = sys.byteorder == "big"


def pack_column(typecode: str, values: Iterable[int] | Iterable[float]) -> bytes:
    """Return the wire bytes of a column. `typecode` as in `array`: B, H, I, Q or d.

    Raises OverflowError where a value does not fit.
    """
    packed = values if isinstance(values, array) and values.typecode == typecode else array(typecode, values)
    if _BIG_ENDIAN:
        packed = packed[:]
        packed.byteswap()
    return packed.tobytes()


def unpack_column(typecode: str, raw: bytes) -> array[int]:
    """Return the column in `raw`. Raises ValueError when it is not a whole number of elements."""
    column: array[int] = array(typecode, raw)
    if _BIG_ENDIAN:
        column.byteswap()
    return column


def column_reader(typecode: str) -> Callable[[bytes], array[int]]:
    """Return `unpack_column` for one typecode, without its cost where there is nothing to swap."""
    return partial(unpack_column if _BIG_ENDIAN else array, typecode)


_LARGE_ITEM_BYTES = 4096


class Packed:
    """Byte strings end to end: `lengths` (one per row) and `data`. Immutable by convention."""

    __slots__ = ("data", "lengths")

    def __init__(self, lengths: Column = EMPTY, data: Frame = b"") -> None:
        self.lengths = lengths
        self.data = data

    @classmethod
    def of(cls, items: Sequence[bytes]) -> Packed:
        """Pack `items` (one copy)."""
        return Packed([len(item) for item in items], b"".join(items))

    @property
    def size_bytes(self) -> int:
        """How long `data` is."""
        return len(self.data)

    def split(self) -> list[bytes]:
        """Return the byte strings (one copy each)."""
        data = self.data
        if len(self.lengths) == 1:
            return [bytes(data)]
        items: list[bytes] = []
        start = 0
        if not isinstance(data, bytes):
            if len(data) >= _LARGE_ITEM_BYTES * len(self.lengths):
                view = memoryview(data)
                for end in accumulate(self.lengths):
                    items.append(bytes(view[start:end]))
                    start = end
                return items
            # One more copy of all of it costs less than a view for each.
            data = bytes(data)
        for end in accumulate(self.lengths):
            items.append(data[start:end])
            start = end
        return items

    def check(self, rows: int | None = None) -> None:
        """Raise ValueError unless the lengths add up to the data (and there are `rows` of them)."""
        if rows is not None and len(self.lengths) != rows:
            raise ValueError(f"{len(self.lengths)} lengths for {rows} rows")
        if sum(self.lengths) != len(self.data):
            raise ValueError(f"lengths add up to {sum(self.lengths)} bytes, the frame has {len(self.data)}")

    def __len__(self) -> int:
        return len(self.lengths)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packed):
            return NotImplemented
        return list(self.lengths) == list(other.lengths) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Packed({len(self.lengths)} items, {len(self.data)} bytes)"


class Pieces(Packed):
    """Byte strings that are put end to end when somebody asks for `data`: large ones may never be.

    Until then an item may be anything else with a length, which stands for its `bytes`.
    """

    __slots__ = ("_joined", "items")

    def __init__(self, items: Sequence[Any], lengths: Column | None = None) -> None:
        self.lengths = [len(item) for item in items] if lengths is None else lengths
        self.items = items
        self._joined: bytes | None = None

    @property
    def data(self) -> Frame:  # type: ignore[override]
        """All of them end to end (one copy, the first time)."""
        if self._joined is None:
            self._joined = b"".join(self.items)
        return self._joined

    @property
    def size_bytes(self) -> int:
        """How long `data` is."""
        return sum(self.lengths)

    def split(self) -> list[bytes]:
        """Return the byte strings."""
        return list(self.items)


NO_ITEMS: Final = Packed()
"""A shared value for batches that have no byte strings."""


def split_ids(table: bytes, size: int = 16) -> list[bytes]:
    """Cut a table of fixed-size ids into its ids. Raises ValueError when it is not a whole number of them."""
    if len(table) % size:
        raise ValueError(f"id table of {len(table)} bytes is not a whole number of {size}-byte ids")
    return [table[start : start + size] for start in range(0, len(table), size)]
