"""Where one payload of a batch is: many payloads that leave together lie one behind the other in one segment of the client.

The client writes payloads of tasks into slots, and sends a *place* for each in its stead. Whoever runs the task copies the
payload out, and may write the result into the same slot, which then has another stamp. The client copies that out.

A slot is a stamp, 16 bytes, and room for the payload. The stamp says which content the slot has, and is written before it. So
whoever has copied the content out, and then finds the stamp that the place names, has the right bytes. Both ends write under a
lock of the slot's first bytes. Nobody maps the segment, so nobody is hurt if it becomes smaller.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from scaler_protocol.payloads.framing import PLACED

STAMP_BYTES = 16

_PLACE = struct.Struct(f"<1sIIqII{STAMP_BYTES}s")

PLACE_BYTES = _PLACE.size
"""A payload that is a place has this length."""

_LOCK = struct.Struct("hhqqi4x")
"""The system's `struct flock`: type, whence, start, length, process."""


class BatchPlace(NamedTuple):
    """A slot with a certain content: process and descriptor of the segment, where the slot begins, how long the payload in it
    is and may become, and the stamp."""

    tag: bytes
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
        place = cls(*_PLACE.unpack(payload))
        return place if 0 <= place.length <= place.room and place.at >= 0 else None

    def pack(self) -> bytes:
        """Return the payload for this place."""
        return _PLACE.pack(*self)

    @property
    def path(self) -> str:
        """The file name under which the segment can be opened on its host."""
        return f"/proc/{self.pid}/fd/{self.descriptor}"

    def read(self, descriptor: int) -> bytes | None:
        """Return the content, of an open segment; None if it is not there any more. Raises OSError."""
        content = os.pread(descriptor, self.length, self.at + STAMP_BYTES)
        if len(content) != self.length or os.pread(descriptor, STAMP_BYTES, self.at) != self.stamp:
            return None
        return content


def answer_stamp(stamp: bytes) -> bytes:
    """Return the stamp of the result of the payload with this one. There is one result of each at most."""
    return stamp[:-1] + bytes((stamp[-1] ^ 0x80,))


@contextlib.contextmanager
def locked(descriptor: int, at: int, length: int) -> Iterator[bool]:
    """Hold the lock of these bytes of an open segment; False if another process has it. It ends with the descriptor as well."""
    import fcntl

    # Of the descriptor, not of the process: a task may close a descriptor of its own for the same file.
    lock: Any = fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(descriptor, lock, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, length, 0))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.fcntl(descriptor, lock, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, at, length, 0))
