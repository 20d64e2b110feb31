"""Cap'n Proto headers of flat structs, written and read without the library.

Every task travels in the two batches, and the library takes longer for one header than everything else in a hop.
Their layout is fixed by the encoding (https://capnproto.org/encoding.html): in one segment, a pointer to the `Message`,
behind it the message, behind it the body, behind it the bytes of each `Data`, each padded to a word.

    <segments - 1, words> <root pointer> <union tag …> <body pointer> <numbers …> <Data pointers …> <bytes …>

What is written here is, byte for byte, what the library writes as long as it fits the library's first segment. What is
read here is exactly this shape. For any other valid form (several segments, other struct sizes, lists of structs) `read`
returns None, and the library reads it. Positions come from the schema, so this module never has to follow a change
of the schema.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

WORD_BYTES = 8

SHAPE_START = WORD_BYTES
"""Where `FlatStruct.shape` begins in a header: behind the segment table."""

_NUMBER_CODES = {
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}

# A list pointer: tag 1 in the low two bits, the distance in words above them (bit 31 is its sign, and none of ours points
# backwards), then the size of an element (2: a byte) and the number of elements.
_DATA_TAG = 1 | 2 << 32
_DATA_MASK = 3 | 1 << 31 | 7 << 32
_DISTANCE_SHIFT = 2
_DISTANCE_MASK = (1 << 29) - 1
_COUNT_SHIFT = 35
_PADDING = tuple(bytes(count) for count in range(WORD_BYTES))


Reader = tuple[str, Callable[[bytes], Any]]
"""The name of a field, and the function that makes its value from its bytes."""


class FlatStruct:
    """One union member of `Message` whose fields are numbers and `Data`; other fields must be unset.

    `message_node` and `body_node` are the schema nodes of the two structs, `member` the name of the union member.
    """

    def __init__(self, message_node: Any, member: str, body_node: Any) -> None:
        message, body = message_node.struct, body_node.struct
        (union_field,) = (field for field in message.fields if field.name == member)
        self.pointer_count: int = body.pointerCount
        self._message_words = message.dataWordCount
        fields = [(field.name, field.slot.offset, str(field.slot.type.which())) for field in body.fields]
        self.number_names, layout = _number_layout(fields, body.dataWordCount * WORD_BYTES)
        self.blob_slots: dict[str, int] = {name: offset for name, offset, kind in fields if kind == "data"}
        """The pointer of each `Data` field, by name."""
        tag_at = 2 * message.discriminantOffset
        tag = bytearray(message.dataWordCount * WORD_BYTES)
        struct.pack_into("<H", tag, tag_at, union_field.discriminantValue)
        root = _struct_pointer(0, message.dataWordCount, message.pointerCount)
        # The body lies behind all pointers of the message; its pointer is the only one that is set.
        body_pointers = [0] * message.pointerCount
        behind = message.pointerCount - union_field.slot.offset - 1
        body_pointers[union_field.slot.offset] = _struct_pointer(behind, body.dataWordCount, body.pointerCount)
        self.shape = struct.pack("<Q", root) + bytes(tag) + struct.pack(f"<{len(body_pointers)}Q", *body_pointers)
        """The bytes between segment table and numbers. They are the same in every header of this kind, and in no other."""
        self._layout = layout
        self._prefix = struct.Struct(f"<II{len(self.shape)}s{layout}{self.pointer_count}Q")
        self._prefix_words = self._prefix.size // WORD_BYTES
        self._numbers_end = 3 + len(self.number_names)
        self._first_pointer_end = self._prefix.size - WORD_BYTES * (self.pointer_count - 1)

    def write(self, numbers: Iterable[Any], blobs: Iterable[tuple[int, bytes]]) -> bytes:
        """Return a header. `numbers` in the order of `number_names`, `blobs` as (slot, bytes) in the order of writing."""
        count = self.pointer_count
        pointers = [0] * count
        parts = [b""]
        at = count
        for slot, raw in blobs:
            size = len(raw)
            pointers[slot] = _DATA_TAG | (at - slot - 1) << _DISTANCE_SHIFT | size << _COUNT_SHIFT
            parts.append(raw)
            odd = size & 7
            if odd:
                parts.append(_PADDING[8 - odd])
                size += 8 - odd
            at += size >> 3
        words = self._prefix_words - 1 - count + at
        parts[0] = self._prefix.pack(0, words, self.shape, *numbers, *pointers)
        return b"".join(parts)

    def fixed(self, blobs: Sequence[tuple[int, str]]) -> FixedHeader:
        """Return the one form of header that has just these `Data` fields, as (slot, `struct` code), in this order."""
        sizes = [(slot, struct.calcsize(f"<{code}"), code) for slot, code in blobs]
        header = self.write([0] * len(self.number_names), [(slot, bytes(size)) for slot, size, _ in sizes])
        values = "".join(f"{code}{-size % WORD_BYTES}x" for _, size, code in sizes)
        shape_bytes = SHAPE_START + len(self.shape)
        form = struct.Struct(f"<{shape_bytes}s{self._layout}{self.pointer_count * WORD_BYTES}s{values}")
        parts = form.unpack(header)
        return FixedHeader(form, parts[0], parts[1 + len(self.number_names)])

    def read(self, header: bytes, numbers: Sequence[str], readers: Sequence[Reader | None]) -> dict[str, Any] | None:
        """Return the fields in `header` by name, or None if `write` would give it another shape.

        `numbers` are the names wanted for `number_names`, `readers` stand in the order of slots, None for what is not a
        `Data`. A `Data` that is empty is left out.
        """
        size = len(header)
        if size < self._prefix.size:
            return None
        fields = self._prefix.unpack_from(header)
        if fields[0] or 8 + 8 * fields[1] != size or fields[2] != self.shape:
            return None
        values: dict[str, Any] = dict(zip(numbers, fields[3:], strict=False))
        total = 0
        # Position to which the pointer of slot 0 would point at distance 0.
        at = self._first_pointer_end
        for slot, pointer in enumerate(fields[self._numbers_end :]):
            if pointer:
                reader = readers[slot]
                if reader is None or pointer & _DATA_MASK != _DATA_TAG:
                    return None
                start = at + WORD_BYTES * (slot + (pointer >> _DISTANCE_SHIFT & _DISTANCE_MASK))
                end = start + (pointer >> _COUNT_SHIFT)
                total += end - start
                # Blobs that overlap could make a small header large.
                if end > size or total > size:
                    return None
                name, read = reader
                values[name] = read(header[start:end])
        return values


class FixedHeader(NamedTuple):
    """A header of a fixed form, written and read in one go: `form` of (start, *numbers, pointers, *values).

    `start` and `pointers` are what they must be equal to when reading.
    """

    form: struct.Struct
    start: bytes
    pointers: bytes


def _number_layout(fields: Iterable[tuple[str, int, str]], size: int) -> tuple[tuple[str, ...], str]:
    """Return the names of the number fields and the `struct` format of the data section that holds them."""
    found = []
    for name, offset, kind in fields:
        code = _NUMBER_CODES.get(kind)
        if code is not None:
            width = struct.calcsize(f"<{code}")
            found.append((offset * width, width, name, code))
    layout, at = "", 0
    for start, width, _, code in sorted(found):
        layout += f"{start - at}x{code}"
        at = start + width
    return tuple(name for _, _, name, _ in sorted(found)), f"{layout}{size - at}x"


def _struct_pointer(distance: int, data_words: int, pointer_count: int) -> int:
    return distance << _DISTANCE_SHIFT | data_words << 32 | pointer_count << 48
