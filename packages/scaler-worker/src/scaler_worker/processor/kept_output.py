"""What tasks print and log is kept for a while in memory that the agent has too, so that it is there after a processor's death.

It is a ring of records behind the boxes of the processor's page (`page`): the newest overwrite the oldest. The processor writes
by its mapping, and only when a task prints or logs. The agent reads the file when a monitor asks, and believes nothing of it:
tasks can write anything there.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import sys
from collections.abc import Callable, Iterator
from errno import EINVAL
from threading import RLock, get_ident
from time import sleep, time
from typing import TYPE_CHECKING, NamedTuple

from scaler_protocol.monitoring.kept_output import LOG, NOTE, Piece

if TYPE_CHECKING:
    from scaler_worker.processor.running_task import RunningTask

KEPT_BYTES_MIN = 64 * 1024
"""The smallest ring. Records, and single prints, must fit several times."""

HEAD_BYTES = 4096
"""In front of the ring. A page."""

RECORD_BYTES_MAX = 8 * 1024
MERGE_SECONDS = 0.02
"""What a task writes so soon after another piece is put into the same record: a line is often written in several pieces.

A record has one time, so lines that are further apart have times of their own.
"""

ADDING_SECONDS = 0.0005
"""How long another thread waits for the one that runs tasks, which is in the middle of some assignments."""

POPULATE_BYTES = 64 * 1024
"""Memory of the ring is taken from the system in such steps."""

_POSITIONS = struct.Struct("=QQ")
"""Bytes written since the start, and where the oldest record begins."""

_RECORD = struct.Struct("=IBxxxdQ16s")
"""Bytes of text, stream, Unix time, task number, client."""

_LENGTH = struct.Struct("=I")
_MADV_POPULATE_WRITE = 23

Writer = tuple[int, bytes]
"""The task that writes: its number and client."""


def region_bytes(capacity: int) -> int:
    """Return how much memory a ring needs, with what is in front of it; 0: there is no ring."""
    return HEAD_BYTES + capacity if capacity else 0


def capacity_for(wanted_bytes: int) -> int:
    """Return the bytes of a ring for what the settings say: whole steps, 0 for none."""
    if not wanted_bytes:
        return 0
    return max(KEPT_BYTES_MIN, -(-wanted_bytes // POPULATE_BYTES) * POPULATE_BYTES)


class KeptOutput:
    """The processor's end. Any thread may write."""

    def __init__(
        self,
        descriptor: int,
        at: int,
        capacity: int,
        writer: Callable[[], Writer | None],
        running: RunningTask | None = None,
    ) -> None:
        """The ring is at an offset of an open file. `writer` says which task writes; None: none, and nothing is kept.

        `running` is the task that runs on this thread.
        """
        self._mapping = mmap.mmap(descriptor, region_bytes(capacity), offset=at)
        self._head_word = memoryview(self._mapping)[:8].cast("Q")
        self._capacity = capacity
        self._writer = writer
        self._running = running
        self._own_thread = get_ident()
        self._lock = RLock()
        self._is_writing = False
        """Whether the thread that has the lock is at it already: a signal handler of the task's prints too."""
        self._is_adding = False
        """Whether the thread that runs tasks adds to the open record. It does so without the lock, unless `_is_shared`."""
        self._is_shared = False
        """Whether another thread has written since that one last had the lock. It is set before `_is_adding` is looked at, and
        that before this is: so one of both sees the other."""
        self._is_off = False
        self._head = self._tail = self._populated = 0
        self._last_at = 0
        """Where the newest record begins. It ends at `_head`: what lies there counts when that is moved, and not before."""
        self._last_time = 0.0
        self._last_of: tuple[int, Writer] | None = None
        """None also where this was interrupted: a signal handler, as that of a cancelled task, may raise anywhere here."""
        self._is_open = False
        """Whether the newest record's header may name more than there is: what is added to it needs no header of its own."""
        self._open_stream = 0
        self._open_index = -1
        """Of the task that writes on the thread that runs tasks; -1: another thread does."""
        self._open_until = 0.0
        self._open_end = self._open_at = 0
        """Up to which position its pieces are put behind the others with no more ado, and what to add to a position for its place
        in the mapping."""

    def write(self, stream: int, text: bytes) -> None:
        """Keep what the running task has written, in UTF-8. Raises nothing of its own."""
        if get_ident() == self._own_thread and self._running is not None:
            row = self._running.row
            if row is not None and row.task_index == self._open_index and stream == self._open_stream:
                if self._is_adding:
                    # A signal handler of the task's.
                    return
                self._is_adding = True
                try:
                    if not (self._is_shared or self._is_writing):
                        head = self._head
                        end = head + len(text)
                        if end <= self._open_end and time() < self._open_until:
                            # The way of nearly all pieces of lines.
                            at = head + self._open_at
                            self._mapping[at : at + len(text)] = text
                            self._head = self._head_word[0] = end
                            return
                finally:
                    self._is_adding = False
        writer = self._writer() if text else None
        if writer is None:
            return
        with self._lock:
            if self._is_writing or self._is_off:
                return
            self._is_writing = True
            try:
                if get_ident() != self._own_thread:
                    self._is_shared = True
                    while self._is_adding:
                        sleep(ADDING_SECONDS)
                elif self._is_adding:
                    # A signal handler of the task's.
                    return
                else:
                    self._is_shared = False
                self._open_index = -1
                self._add(stream, text, writer, time())
            except OSError:
                # The system has no memory for it.
                self._is_off = True
            finally:
                self._is_writing = False

    def abandon(self) -> None:
        """In a process forked from this one: two that write would destroy what is there."""
        self._lock = RLock()
        self._is_off = True
        self._open_index = -1

    def _add(self, stream: int, text: bytes, writer: Writer, now: float) -> None:
        longest = self._capacity // 2
        if len(text) > longest:
            kept_from = _character_start(text, len(text) - longest)
            note = f"[{kept_from:,} bytes of one write are left out here]\n"
            self._append(NOTE, note.encode(), writer, now)
            text = text[kept_from:]
        size = len(text)
        if (
            self._last_of == (stream, writer)
            and now < self._last_time + MERGE_SECONDS
            and self._last_bytes() + size <= RECORD_BYTES_MAX
        ):
            self._last_of = None
            self._make_room(size)
            self._put(self._head, text)
            if not self._is_open:
                self._is_open = True
                self._put(self._last_at, _LENGTH.pack(RECORD_BYTES_MAX))
            self._move(self._head + size)
            self._last_of = (stream, writer)
            self._let_in(stream)
            return
        start = 0
        while start < size:
            stop = size if size - start <= RECORD_BYTES_MAX else _character_start(text, start + RECORD_BYTES_MAX)
            self._append(stream, text[start:stop], writer, now)
            start = stop

    def _append(self, stream: int, text: bytes, writer: Writer, now: float) -> None:
        self._last_of = None
        if self._is_open:
            self._put(self._last_at, _LENGTH.pack(self._last_bytes()))
            self._is_open = False
        record = _RECORD.pack(len(text), stream, now, *writer) + text
        self._make_room(len(record))
        at = self._head
        self._put(at, record)
        self._move(at + len(record))
        self._last_at, self._last_time, self._last_of = at, now, (stream, writer)

    def _let_in(self, stream: int) -> None:
        """Say how far more of the same may follow in the open record: nothing has to make room, and the ring does not end."""
        row = self._running.row if self._running is not None and get_ident() == self._own_thread else None
        if row is None:
            return
        head, capacity = self._head, self._capacity
        room = self._populated if self._populated < capacity else self._tail + capacity
        turn = head - head % capacity
        self._open_stream = stream
        self._open_until = self._last_time + MERGE_SECONDS
        self._open_at = HEAD_BYTES - turn
        self._open_end = min(room, turn + capacity, self._last_at + _RECORD.size + RECORD_BYTES_MAX)
        self._open_index = row.task_index

    def _last_bytes(self) -> int:
        return self._head - self._last_at - _RECORD.size

    def _make_room(self, size: int) -> None:
        """Give up the oldest records where the next bytes would overwrite them; get memory for these."""
        end = self._head + size
        while end - self._tail > self._capacity:
            length = _LENGTH.unpack(self._get(self._tail, _LENGTH.size))[0]
            self._tail = min(self._head, self._tail + _RECORD.size + min(length, RECORD_BYTES_MAX))
        self._move(self._head)
        while self._populated < min(end, self._capacity):
            try:
                self._mapping.madvise(_MADV_POPULATE_WRITE, HEAD_BYTES + self._populated, POPULATE_BYTES)
            except OSError as error:
                # Kernels before 5.14 do not know it.
                if error.errno != EINVAL:
                    raise
            self._populated += POPULATE_BYTES

    def _move(self, head: int) -> None:
        self._head = head
        self._mapping[: _POSITIONS.size] = _POSITIONS.pack(head, self._tail)

    def _put(self, position: int, data: bytes) -> None:
        at = position % self._capacity
        first = self._capacity - at
        start = HEAD_BYTES + at
        if len(data) <= first:
            self._mapping[start : start + len(data)] = data
        else:
            self._mapping[start : start + first] = data[:first]
            self._mapping[HEAD_BYTES : HEAD_BYTES + len(data) - first] = data[first:]

    def _get(self, position: int, size: int) -> bytes:
        at = position % self._capacity
        found = self._mapping[HEAD_BYTES + at : HEAD_BYTES + min(at + size, self._capacity)]
        return found + self._mapping[HEAD_BYTES : HEAD_BYTES + size - len(found)]


def _character_start(text: bytes, at: int) -> int:
    """Return `at`, or up to three bytes before it, where a character in UTF-8 begins."""
    for start in range(at, max(at - 4, 0), -1):
        if text[start] & 0xC0 != 0x80:
            return start
    return at


class KeptLogHandler(logging.Handler):
    """Keeps the running task's log records as lines, where no handler of the task's writes them to a stream that is kept."""

    def __init__(self, kept: KeptOutput) -> None:
        super().__init__()
        self._kept = kept
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        try:
            self._kept.write(LOG, f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except RecursionError:
            raise
        except Exception:
            # Arguments that do not fit, or that raise when they are printed: said as the standard library's handlers say it.
            self.handleError(record)


def is_printed(logger: logging.Logger) -> bool:
    """Whether a handler writes this logger's records to `sys.stdout` or `sys.stderr`, where they are kept as prints."""
    found: logging.Logger | None = logger
    while found is not None:
        for handler in found.handlers:
            # By identity, and whatever is there: tasks put streams of their own in their place, and take them away.
            stream = getattr(handler, "stream", None)
            if stream is not None and (
                stream is getattr(sys, "stdout", None) or stream is getattr(sys, "stderr", None)
            ):
                return True
        found = found.parent if found.propagate else None
    return False


class KeptBytes(NamedTuple):
    """The records of a ring, the oldest first."""

    records: bytes
    dropped: bool
    """Whether there were older ones."""


class KeptReader:
    """The agent's end, by a descriptor of its own."""

    def __init__(self, descriptor: int, at: int, capacity: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._at = at
        self._capacity = capacity

    def read(self) -> KeptBytes | None:
        """Return a copy of what is there; None where nothing was written, or nothing of it can be read."""
        before = self._positions()
        if not before[0]:
            return None
        area = os.pread(self._descriptor, self._capacity, self._at + HEAD_BYTES)
        # What the processor has given up meanwhile may be overwritten in the copy.
        head, tail = before[0], max(before[1], self._positions()[1])
        if len(area) != self._capacity or not tail <= head <= tail + self._capacity:
            return None
        first = tail % self._capacity
        return KeptBytes((area[first:] + area[:first])[: head - tail], tail > 0)

    def _positions(self) -> tuple[int, int]:
        found = os.pread(self._descriptor, _POSITIONS.size, self._at)
        return _POSITIONS.unpack(found) if len(found) == _POSITIONS.size else (0, 0)

    def close(self) -> None:
        """Let go of the memory."""
        os.close(self._descriptor)


def pieces_of(kept: KeptBytes, number: int, client: bytes) -> tuple[list[Piece], bool]:
    """Return what this task has written, and whether something older of it was dropped. `client`: empty for any."""
    pieces: list[Piece] = []
    key = number.to_bytes(8, sys.byteorder) + client
    if key not in kept.records:
        # The way of nearly all rings.
        return pieces, False
    first = True
    dropped = False
    for of, stream, at, text in _records(kept.records):
        is_its = of[0] == number and (not client or of[1] == client)
        if is_its:
            pieces.append(Piece(stream, at, text.decode("utf-8", "backslashreplace")))
            dropped |= first and kept.dropped
        first = False
    return pieces, dropped


def _records(records: bytes) -> Iterator[tuple[Writer, int, float, bytes]]:
    at = 0
    while at + _RECORD.size <= len(records):
        length, stream, time_seconds, number, client = _RECORD.unpack_from(records, at)
        at += _RECORD.size
        if length > RECORD_BYTES_MAX or not -(2.0**53) <= time_seconds <= 2.0**53:
            # No processor has written this: a task has.
            return
        yield (number, client), stream, time_seconds, records[at : at + length]
        at += length
