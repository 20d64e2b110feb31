"""Long records between an agent and its processor go through memory that both have mapped, instead of through the socket.

A record of some MiB would be cut into packets, each with a system call and a wake-up at both ends, and be copied four times.
Here it is copied into a *box*, one packet says in which, and copied out of it. The reader marks the box as free again. While
no box is free, records travel in packets, so nobody waits.

The memory is that of the processor's page (`page`): it ends with both processes. Tasks can write anything there, as they can
into the channel: the agent copies a record before it looks at it, and believes nothing of it. It reads and writes the file, not a
mapping, because an access to mapped memory ends the process if the system has no page for it.
"""

from __future__ import annotations

import mmap
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence

Bytes = bytes | bytearray | memoryview

BOXES = 2
"""In each direction: one is filled while the other is read."""

BOX_BYTES = 4608 * 1024
"""A record of a batch, whose payloads have 4 MiB, and what is beside them. Longer ones travel in packets."""

BOXED_BYTES_MIN = 128 * 1024
"""Shorter records travel in packets."""

HEAD_BYTES = 64 * 1024
"""Says which are full. A page, on any system."""

ALL_BYTES = HEAD_BYTES + 2 * BOXES * BOX_BYTES
"""Memory that the boxes of both directions take when all were used."""

_WHERE = struct.Struct("=BI")
_PARTS_PER_WRITE = 512

_MADV_REMOVE, _MADV_POPULATE_WRITE = 9, 23
"""From Linux' `mman-common.h`: free the pages of a file in memory; get them, or fail (from 5.14 on)."""


class Boxes(ABC):
    """The boxes of one direction. One end fills them, the other one empties them; each from one thread at a time."""

    def __init__(self, head: mmap.mmap, direction: int) -> None:
        at = 8 * BOXES * direction
        self._full = memoryview(head)[at : at + 8 * BOXES].cast("Q")
        first = HEAD_BYTES + BOXES * BOX_BYTES * direction
        self._starts = [first + BOX_BYTES * box for box in range(BOXES)]
        self._was_filled = False
        """Since `give_back_idle` was called last."""
        self._has_memory = False

    def fill(self, parts: Sequence[Bytes]) -> bytes | None:
        """Put a record into a free box; return the body of the packet that says where it is. None where it does not fit."""
        size = sum(map(len, parts))
        if not BOXED_BYTES_MIN <= size <= BOX_BYTES:
            return None
        box = next((box for box, is_full in enumerate(self._full) if not is_full), None)
        if box is None:
            return None
        self._was_filled = self._has_memory = True
        try:
            self._write(self._starts[box], parts, size)
        except OSError:
            # No memory for it.
            return None
        self._full[box] = 1
        return _WHERE.pack(box, size)

    def empty(self, where: bytes) -> bytes:
        """Return the record in the box that a packet names, which is free then. Raises ValueError if there is no such box."""
        try:
            box, size = _WHERE.unpack(where)
        except struct.error as error:
            raise ValueError(f"a box is named wrongly: {error}") from None
        if box >= BOXES or size > BOX_BYTES:
            raise ValueError(f"{size} bytes in box {box}")
        record = self._read(self._starts[box], size)
        self._full[box] = 0
        return record

    def give_back_idle(self) -> None:
        """Return the memory of free boxes to the system if none was filled since the last call. By the end that fills them."""
        if self._was_filled or not self._has_memory:
            self._was_filled = False
            return
        self._has_memory = any(self._full)
        for start, is_full in zip(self._starts, self._full, strict=True):
            if not is_full:
                self._give_back(start)

    def close(self) -> None:
        """Let go of the memory."""
        self._full.release()

    @abstractmethod
    def _write(self, at: int, parts: Sequence[Bytes], size: int) -> None:
        """Write `size` bytes at an offset. Raises OSError."""

    @abstractmethod
    def _read(self, at: int, size: int) -> bytes:
        """Return a copy of bytes. Raises ValueError."""

    @abstractmethod
    def _give_back(self, at: int) -> None:
        """Return the memory of the box that begins there."""


class _AgentsBoxes(Boxes):
    """By the file, of which `mapping` is only used to give memory back."""

    def __init__(self, mapping: mmap.mmap, direction: int, descriptor: int, offset: int) -> None:
        super().__init__(mapping, direction)
        self._mapping = mapping
        self._descriptor = descriptor
        self._offset = offset

    def _write(self, at: int, parts: Sequence[Bytes], size: int) -> None:
        at += self._offset
        for first in range(0, len(parts), _PARTS_PER_WRITE):
            some = parts[first : first + _PARTS_PER_WRITE]
            expected = sum(map(len, some))
            if os.pwritev(self._descriptor, some, at) != expected:
                raise OSError("no room")
            at += expected

    def _read(self, at: int, size: int) -> bytes:
        record = os.pread(self._descriptor, size, self._offset + at)
        if len(record) != size:
            raise ValueError(f"{len(record)} of {size} bytes in a box")
        return record

    def _give_back(self, at: int) -> None:
        self._mapping.madvise(_MADV_REMOVE, at, BOX_BYTES)


class _ProcessorsBoxes(Boxes):
    """By their mapping alone: tasks can put anything in the place of a descriptor."""

    def __init__(self, mapping: mmap.mmap, direction: int) -> None:
        super().__init__(mapping, direction)
        self._mapping = mapping
        self._populated = dict.fromkeys(self._starts, 0)
        """Bytes that the system has given memory for, by box."""

    def _write(self, at: int, parts: Sequence[Bytes], size: int) -> None:
        mapping = self._mapping
        if self._populated[at] < size:
            mapping.madvise(_MADV_POPULATE_WRITE, at, size)
            self._populated[at] = size
        for part in parts:
            end = at + len(part)
            mapping[at:end] = part
            at = end

    def _read(self, at: int, size: int) -> bytes:
        return self._mapping[at : at + size]

    def _give_back(self, at: int) -> None:
        self._populated[at] = 0
        self._mapping.madvise(_MADV_REMOVE, at, BOX_BYTES)


class RecordBoxes:
    """What one end has of the boxes of both directions: `to_processor`, `to_agent`."""

    def __init__(self, mapping: mmap.mmap, to_processor: Boxes, to_agent: Boxes, descriptor: int | None) -> None:
        self._mapping = mapping
        self._descriptor = descriptor
        self.to_processor = to_processor
        self.to_agent = to_agent

    def close(self) -> None:
        """Let go of the memory. Idempotent."""
        self.to_processor.close()
        self.to_agent.close()
        self._mapping.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def boxes_for_agent(descriptor: int, offset: int) -> RecordBoxes:
    """Return the agent's end of the boxes that begin at `offset` of an open file, which must not shrink."""
    mapping = mmap.mmap(descriptor, ALL_BYTES, offset=offset)
    own = os.dup(descriptor)
    return RecordBoxes(mapping, _AgentsBoxes(mapping, 0, own, offset), _AgentsBoxes(mapping, 1, own, offset), own)


def boxes_for_processor(descriptor: int, offset: int) -> RecordBoxes:
    """As `boxes_for_agent`, for the processor."""
    mapping = mmap.mmap(descriptor, ALL_BYTES, offset=offset)
    return RecordBoxes(mapping, _ProcessorsBoxes(mapping, 0), _ProcessorsBoxes(mapping, 1), None)
