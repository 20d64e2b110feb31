"""The end that runs tasks whose payloads lie in segments of their clients. See `batch_place`."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from os import close
from typing import Any

from scaler_protocol.objects.segments.batch_place import (
    STAMP_BYTES,
    BatchPlace,
    Piece,
    answer_stamp,
    content_parts,
    lock,
    unlock,
)
from scaler_protocol.runtime.values import new_tuple

OPEN_MAX = 16
"""Segments kept open at most; a client has one."""


class BatchSegments:
    """The segments that this process has open. On one thread. Close them soon: those of clients that have died take memory."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[int, int, int]] = {}
        """By process and descriptor there: the descriptor here, and the device and number of the file."""

    def read(self, place: BatchPlace) -> list[Any] | None:
        """Return the byte strings at a place; None if they cannot be read from here, or are not there any more.

        See `BatchPlace.read`.
        """
        try:
            content = self._read(place)
            if content is None and self._forget((place.pid, place.descriptor)):
                # The process may have closed it, and have another one under the same number.
                content = self._read(place)
            return content
        except (OSError, OverflowError, MemoryError):
            return None

    def _read(self, place: BatchPlace) -> list[Any] | None:
        return place.read(self._descriptor(place))

    def answer(self, place: BatchPlace, form: int, values: Sequence[Piece]) -> bytes | None:
        """Write the result of the task whose payload was at a place; return its place, or None if it has no room there."""
        parts = content_parts(form, values)
        length = sum(map(len, parts))
        if length > place.room:
            return None
        try:
            descriptor = self._descriptor(place)
            at = place.at
            # Without a context manager, which would take as long as all system calls but the one that writes.
            if not lock(descriptor, at, STAMP_BYTES):
                return None
            try:
                # Another attempt of the task may have been quicker, or its client needs the room for other tasks by now.
                if os.pread(descriptor, STAMP_BYTES, at) != place.stamp:
                    return None
                stamp = answer_stamp(place.stamp)
                if os.pwritev(descriptor, [stamp, *parts], at) != STAMP_BYTES + length:
                    return None
            finally:
                unlock(descriptor, at, STAMP_BYTES)
        except (OSError, OverflowError):
            return None
        answer: BatchPlace = new_tuple(
            BatchPlace,
            (place.tag, form, len(values), place.pid, place.descriptor, at, length, place.room, stamp),
        )
        return answer.pack()

    def close(self) -> None:
        """Close all. They are opened again where need be."""
        if self._open:
            for key in list(self._open):
                self._forget(key)

    def _descriptor(self, place: BatchPlace) -> int:
        key = (place.pid, place.descriptor)
        known = self._open.get(key)
        if known is not None and _is_still(*known):
            return known[0]
        self._open.pop(key, None)
        # Checked before it is opened, because opening a device or a pipe can have effects.
        if not stat.S_ISREG(os.stat(place.path).st_mode):
            raise OSError("not a segment")
        while len(self._open) >= OPEN_MAX:
            self._forget(next(iter(self._open)))
        descriptor = os.open(place.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(descriptor)
        self._open[key] = (descriptor, found.st_dev, found.st_ino)
        return descriptor

    def _forget(self, key: tuple[int, int]) -> bool:
        """Close a segment; return whether it was open before."""
        known = self._open.pop(key, None)
        if known is None:
            return False
        if _is_still(*known):
            close(known[0])
        return True


def _is_still(descriptor: int, device: int, inode: int) -> bool:
    """Whether a descriptor is the one that was opened. A task may have closed it, and opened a file under its number."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return found.st_dev == device and found.st_ino == inode
