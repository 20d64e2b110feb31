"""A client's segment for payloads that leave together. See `batch_place`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from os import close
from typing import Any

from scaler_protocol.objects.segments.batch_place import STAMP_BYTES, BatchPlace, Form, Piece, content_parts, locked
from scaler_protocol.payloads.framing import PLACED
from scaler_protocol.payloads.unpickled import BufferedPickle, LatePayload, PayloadParts, UnpickledBytes

SEGMENT_BYTES_MAX = 112 * 1024 * 1024
"""More than a client has under way at once, see `WINDOW_BYTES` of its core. What finds no room travels inside messages."""

EXTENTS_MAX = 256
"""Batches that have payloads here at once, at most."""

PAYLOADS_MAX = 256
"""Payloads of one batch at most."""

PIECES_MAX = 1024
"""So many pieces the system writes at once."""

ROOM_BYTES = 192
"""Results may be longer than the arguments by so much: the value that a function returns as it came takes a little less."""

IDLE_SECONDS = 10.0
"""Memory that is not used is given back after so long: to get it again takes longer than to copy the payloads."""

ALIGNMENT = 64

_RANDOM_BYTES = 8


class _Extent:
    """The slots of one batch."""

    __slots__ = ("end", "numbers", "start")

    def __init__(self, start: int, end: int, numbers: list[int]) -> None:
        self.start = start
        self.end = end
        self.numbers = numbers


class BatchSegment:
    """Used by one thread at a time. Raises OSError if the system has no such memory."""

    def __init__(self) -> None:
        memory: Any = os
        self._descriptor: int = memory.memfd_create("scaler-batches", memory.MFD_CLOEXEC)
        self._pid = os.getpid()
        self._random = os.urandom(_RANDOM_BYTES)
        self._count = 0
        self._extents: list[_Extent] = []
        """In the order of their places."""
        self._size = 0
        """How far the memory reaches that was written to."""
        self._used_at = 0.0
        os.fchmod(self._descriptor, 0o600)

    def put(self, numbers: Sequence[int], payloads: Sequence[LatePayload], now: float) -> list[bytes] | None:
        """Write the payloads of some tasks; return a place for each, or None where there is no room.

        They stay until `free` finds that none of these tasks needs them.
        """
        if len(payloads) > PAYLOADS_MAX or len(self._extents) >= EXTENTS_MAX:
            return None
        contents = [_content(payload) for payload in payloads]
        rooms = [-(-(STAMP_BYTES + length + ROOM_BYTES) // ALIGNMENT) * ALIGNMENT for _, _, _, length in contents]
        total = sum(rooms)
        found = self._find(total)
        if found is None:
            return None
        position, start = found
        pieces: list[Piece] = []
        places: list[bytes] = []
        at = start
        for (form, count, parts, length), room in zip(contents, rooms, strict=True):
            self._count += 1
            stamp = self._random + self._count.to_bytes(STAMP_BYTES - _RANDOM_BYTES, "little")
            pieces += (stamp, *parts, bytes(room - STAMP_BYTES - length))
            place = BatchPlace(PLACED, form, count, self._pid, self._descriptor, at, length, room - STAMP_BYTES, stamp)
            places.append(place.pack())
            at += room
        try:
            with locked(self._descriptor, start, total) as is_ours:
                # Where somebody still writes the result of a task that nobody needs any more, there is no room for now.
                if not is_ours or not self._write(pieces, start):
                    return None
        except OSError:
            return None
        self._extents.insert(position, _Extent(start, at, list(numbers)))
        self._size = max(self._size, at)
        self._used_at = now
        return places

    def _write(self, pieces: Sequence[Piece], at: int) -> bool:
        """Write pieces one behind the other; return whether there was room for all."""
        for first in range(0, len(pieces), PIECES_MAX):
            part = pieces[first : first + PIECES_MAX]
            size = sum(map(len, part))
            if os.pwritev(self._descriptor, part, at) != size:
                return False
            at += size
        return True

    def _find(self, size: int) -> tuple[int, int] | None:
        """Return the lowest gap of this size: before which extent, and where it begins."""
        begin = 0
        for position, extent in enumerate(self._extents):
            if extent.start - begin >= size:
                return position, begin
            begin = extent.end
        return (len(self._extents), begin) if begin + size <= SEGMENT_BYTES_MAX else None

    def read(self, place: BatchPlace) -> list[Any] | None:
        """Return the byte strings of the result that was written at a place here; None if it is not there.

        See `BatchPlace.read`.
        """
        if place.pid != self._pid or place.descriptor != self._descriptor or place.room > SEGMENT_BYTES_MAX:
            return None
        try:
            return place.read(self._descriptor)
        except (OSError, OverflowError):
            return None

    def has(self, number: int) -> bool:
        """Whether the payload of this task lies here, as far as `free` has seen."""
        return any(number in extent.numbers for extent in self._extents)

    def free(self, is_needed: Callable[[int], bool]) -> None:
        """Make room where no task of a batch needs its payload."""
        left = []
        for extent in self._extents:
            numbers = extent.numbers
            while numbers and not is_needed(numbers[-1]):
                numbers.pop()
            if numbers:
                left.append(extent)
        self._extents = left

    @property
    def has_memory(self) -> bool:
        """Whether it takes memory."""
        return self._size > 0

    def give_back_idle(self, now: float) -> bool:
        """Return the memory to the system where nothing has used it for a while, and whether it did. Call `free` before."""
        if not self._size or self._extents or now - self._used_at < IDLE_SECONDS:
            return False
        os.ftruncate(self._descriptor, 0)
        self._size = 0
        return True

    def close(self) -> None:
        """Give everything back. Others may have the segment open for a moment, but it takes no memory."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            close(self._descriptor)
            self._descriptor = -1
            self._extents = []


def _content(payload: LatePayload) -> tuple[int, int, list[Piece], int]:
    """Return how a payload lies in its slot: form, count, pieces and their length."""
    if type(payload) is UnpickledBytes:
        form = int(Form.ITEMS if payload.is_chunk else Form.VALUE)
        parts = content_parts(form, payload.values)
        return form, len(payload.values), parts, sum(map(len, parts))
    if type(payload) is BufferedPickle:
        form = int(Form.BUFFERS)
        parts = content_parts(form, payload.buffers)
        return form, len(payload.buffers), parts, sum(map(len, parts))
    parts = list(payload.parts) if isinstance(payload, PayloadParts) else [bytes(payload)]
    return int(Form.PAYLOAD), 1, parts, sum(map(len, parts))
