"""Mapping segments, for readers and for the server."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from collections.abc import Sequence
from os import close
from typing import NamedTuple

from scaler_protocol.objects.segments.layout import (
    TAKEN_AT,
    is_segment,
    lock_shared,
    offsets,
    read_lengths,
    slices,
    supported,
)
from scaler_protocol.objects.segments.place import Place
from scaler_protocol.wire.envelope import Frame

MAPPINGS_MAX = 4096
DESCRIPTOR_SHARE = 4
"""A process uses at most this part (a quarter) of the descriptors it may have for mappings."""


class SegmentReader:
    """Maps segments for one process. Safe to use from several threads."""

    def __init__(self, mappings_max: int | None = None) -> None:
        self._mappings_max = mappings_max if mappings_max is not None else descriptors_to_spend(MAPPINGS_MAX)
        self._mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def read(self, place: Place) -> list[Frame] | None:
        """Return the buffers at `place`; None if that content is not there (any more), or cannot be opened.

        They are writable, and nobody else sees the changes. They are views of a private mapping, which holds the
        segment until the last of them is gone. If this process has very many mappings already, they are copies.
        """
        try:
            descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            if not lock_shared(descriptor):
                return None
            lengths = read_lengths(descriptor, place.stamp)
            if lengths is None:
                return None
            if len(self._mapped) >= self._mappings_max:
                return _copies(descriptor, lengths)
            # The mapping keeps a copy of the descriptor, and so the lock.
            private = {"flags": mmap.MAP_PRIVATE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}
            mapping = mmap.mmap(descriptor, offsets(lengths)[-1], **private)
        except OSError:
            return None
        finally:
            close(descriptor)
        self._mapped.add(mapping)
        return list(slices(memoryview(mapping), lengths))


def _copies(descriptor: int, lengths: Sequence[int]) -> list[Frame]:
    copies: list[Frame] = []
    for at, length in zip(offsets(lengths), lengths, strict=False):
        copy = bytearray(length)
        done = 0
        while done < length:
            # The system reads 2 GiB at once at most.
            count = os.preadv(descriptor, [memoryview(copy)[done:]], at + done)
            if not count:
                raise OSError("a segment ended early")
            done += count
        copies.append(copy)
    return copies


class Adopted(NamedTuple):
    """A segment that this process holds: its read-only buffers, and the place under which others find it here."""

    buffers: list[memoryview]
    place: Place


def adopt(place: Place, token: bytes, device: int) -> Adopted | None:
    """Hold the segment at `place` as long as its buffers are referenced; None if it cannot be opened.

    `token` and `device` are those of the offer. Only segments of processes that have read the offer are opened. The writer
    keeps the content until `mark_taken`, so that what finds no room can be adopted again.
    """
    if not supported():
        return None
    try:
        found = os.stat(place.path)
        # Checked before it is opened, because opening a device or a pipe can have effects.
        if not stat.S_ISREG(found.st_mode) or found.st_dev != device:
            return None
        descriptor = os.open(place.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    mapping, lengths = None, None
    try:
        if is_segment(descriptor) and lock_shared(descriptor):
            lengths = read_lengths(descriptor, place.stamp, token)
            if lengths is not None:
                mapping = mmap.mmap(descriptor, offsets(lengths)[-1], mmap.MAP_SHARED, mmap.PROT_READ)
    except OSError:
        mapping = None
    finally:
        if mapping is None:
            close(descriptor)
    if mapping is None or lengths is None:
        return None
    weakref.finalize(mapping, close, descriptor).atexit = False
    return Adopted(slices(memoryview(mapping), lengths), Place(os.getpid(), descriptor, place.stamp))


def mark_taken(adopted: Place) -> None:
    """Tell the writer that the content at `adopted`, a place in this process, is held here for good."""
    os.pwrite(adopted.descriptor, adopted.stamp, TAKEN_AT)


def descriptors_to_spend(most: int) -> int:
    """Return `most`, or fewer if a quarter of the descriptors that this process may have is less."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // DESCRIPTOR_SHARE)
