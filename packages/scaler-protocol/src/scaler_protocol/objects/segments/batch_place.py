"""Where one payload of a batch is: many payloads that leave together lie one behind the other in one segment of the client.

The client writes payloads of tasks into slots, and sends a *place* for each in its stead. Whoever runs the task copies the
payload out, and may write the result into the same slot, which then has another stamp. The client copies that out.

A payload that is nothing but `bytes` is not pickled: the bytes themselves lie in the slot, as the place says by its `form`. So
they are copied once in and once out, straight into the value.

    PAYLOAD   a payload, as `scaler_protocol.payloads.framing` describes it
    VALUE     the only argument of a call, or its result
    ITEMS     the items of a map chunk, or their results: 4 bytes for the length of each, and then one behind the other
    BUFFERS   in the same way, the buffers of an object with these arguments, items or this result: a pickle and what lies
              beside it, such as the numbers of arrays, which are copied straight into the memory of the new ones

A slot is a stamp, 16 bytes, and room for the payload. The stamp says which content the slot has, and is written before it. So
whoever has copied the content out, and then finds the stamp that the place names, has the right bytes. Both ends write under a
lock of the slot's first bytes. Nobody maps the segment, so nobody is hurt if it becomes smaller.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Self

from scaler_protocol.payloads.framing import PLACED
from scaler_protocol.runtime.values import new_tuple

Piece = bytes | bytearray | memoryview

_preadv: Any = getattr(os, "preadv", None)
"""Where there are segments, the system has it."""

STAMP_BYTES = 16

ITEMS_MAX = 64
"""Items of a chunk in the form ITEMS, and buffers in the form BUFFERS, at most: to read an item takes a system call, which
costs as much as copying some KiB."""

_PLACE = struct.Struct(f"<1sBHIIqII{STAMP_BYTES}s")

PLACE_BYTES = _PLACE.size
"""A payload that is a place has this length."""

_LENGTH_BYTES = 4

_LOCK = struct.Struct("hhqqi4x")
"""The system's `struct flock`: type, whence, start, length, process."""


class Form(IntEnum):
    """How the content of a slot lies there."""

    PAYLOAD = 0
    VALUE = 1
    ITEMS = 2
    BUFFERS = 3


_FORMS = frozenset(map(int, Form))

_ITEMS = int(Form.ITEMS)
_BUFFERS = int(Form.BUFFERS)
"""To compare with these takes a tenth of the time."""


class BatchPlace(NamedTuple):
    """A slot with a certain content: its form and how many byte strings it has, process and descriptor of the segment, where
    the slot begins, how long the content is and may become, and the stamp."""

    tag: bytes
    form: int
    pieces: int
    pid: int
    descriptor: int
    at: int
    length: int
    room: int
    stamp: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Self | None:
        """Return the place that a payload is; None if it is another one."""
        if len(payload) != PLACE_BYTES or payload[:1] != PLACED:
            return None
        place: Self = new_tuple(cls, _PLACE.unpack(payload))
        if place.length > place.room or place.at < 0 or place.form not in _FORMS:
            return None
        return place if place.pieces == 1 or (place.form >= _ITEMS and 0 < place.pieces <= ITEMS_MAX) else None

    def pack(self) -> bytes:
        """Return the payload for this place."""
        return _PLACE.pack(*self)

    @property
    def path(self) -> str:
        """The file name under which the segment can be opened on its host."""
        return f"/proc/{self.pid}/fd/{self.descriptor}"

    def read(self, descriptor: int) -> list[Any] | None:
        """Return the byte strings, of an open segment; None if they are not there any more. Raises OSError.

        They are `bytes`; in the form BUFFERS a `bytearray` each, because arrays in them may be changed.
        """
        start = self.at + STAMP_BYTES
        lengths: Sequence[int] = (self.length,)
        if self.form >= _ITEMS:
            head = os.pread(descriptor, _LENGTH_BYTES * self.pieces, start)
            if len(head) != _LENGTH_BYTES * self.pieces:
                return None
            lengths = struct.unpack(f"<{self.pieces}I", head)
            start += len(head)
            if sum(lengths) + len(head) != self.length:
                return None
        content: list[Any] = []
        if self.form == _BUFFERS:
            content = [bytearray(length) for length in lengths]
            if _preadv(descriptor, content, start) != sum(lengths):
                return None
        else:
            for length in lengths:
                value = os.pread(descriptor, length, start)
                if len(value) != length:
                    return None
                content.append(value)
                start += length
        # Behind the content: what lies there now may have been written meanwhile.
        return content if os.pread(descriptor, STAMP_BYTES, self.at) == self.stamp else None


def content_parts(form: int, values: Sequence[Piece]) -> list[Piece]:
    """Return what lies in a slot, behind the stamp."""
    return [struct.pack(f"<{len(values)}I", *map(len, values)), *values] if form >= _ITEMS else list(values)


def answer_stamp(stamp: bytes) -> bytes:
    """Return the stamp of the result of the payload with this one. There is one result of each at most."""
    return stamp[:-1] + bytes((stamp[-1] ^ 0x80,))


def lock(descriptor: int, at: int, length: int) -> bool:
    """Take the lock of these bytes of an open segment; False if another process has it. It ends with the descriptor as well."""
    import fcntl

    # Of the descriptor, not of the process: a task may close a descriptor of its own for the same file.
    command: Any = fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(descriptor, command, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, length, 0))
    except OSError:
        return False
    return True


def unlock(descriptor: int, at: int, length: int) -> None:
    """Let go of the lock of these bytes. Raises OSError."""
    import fcntl

    command: Any = fcntl.F_OFD_SETLK
    fcntl.fcntl(descriptor, command, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, at, length, 0))


@contextlib.contextmanager
def locked(descriptor: int, at: int, length: int) -> Iterator[bool]:
    """Hold the lock of these bytes of an open segment; False if another process has it."""
    if not lock(descriptor, at, length):
        yield False
        return
    try:
        yield True
    finally:
        unlock(descriptor, at, length)
