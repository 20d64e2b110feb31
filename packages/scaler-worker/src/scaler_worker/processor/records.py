"""The records between an agent and its processors: same host, same version, so plain structs in native byte order.

Two socket pairs of kind SEQPACKET per processor. On the *task channel* the agent sends tasks and answers about objects, which
only the processor's main thread reads; the processor sends everything it has to say there, whichever thread says it, so
that its order is kept. On the *control channel* the agent sends what must reach a processor that is busy.

A record is one packet or several: two bytes (kind, 1 if more packets follow), then the body. The body of a long one may lie in
memory that both ends share (`record_boxes`): then it is one packet whose second byte is 2, which says where.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from enum import IntEnum

from scaler_protocol.wire.columns import Column
from scaler_worker.processor.record_boxes import Boxes

PACKET_BYTES_MAX = 64 * 1024
"""Safely below the send buffer the kernel gives everybody."""

SEVERAL_MAX = 32
"""Records in one of kind SEVERAL: an agent reads so many of a processor's packets before it looks at the others."""

ID = 16

Bytes = bytes | bytearray | memoryview


TRUE, FALSE = b"\x01", b"\x00"
"""Bodies of UNFINISHED, UNBLOCKED and TEARDOWN."""

PID_BYTES = 4
"""A READY record is the process id of its sender: the template's report of it may come later."""


_PART = struct.Struct("=BI")
"""Before each record in SEVERAL: its kind, and how many bytes it has."""


class Kind(IntEnum):
    """What a record is about. The first byte of each packet."""

    # task channel, from the agent
    TASKS = 1
    OBJECT_ANSWER = 2
    ONE_TASK = 3
    """Short form of TASKS."""
    CLIENT_GONE = 4
    """The client whose id this is has left: its environment is to end."""
    # control channel, from the agent
    CANCEL = 16
    TAKE_BACK = 17
    RELAY_DELIVER = 18
    STORAGE_ADDRESS = 19
    PROFILE = 20
    """Sample what tasks run, or do so no longer. See `profile_records`."""
    # task channel, from the processor
    READY = 32
    START_FAILED = 33
    RESULTS = 34
    BLOCKED = 35
    UNBLOCKED = 36
    GAVE_BACK = 37
    OUTPUT = 38
    RELAY_OPEN = 39
    RELAY = 40
    RELAY_CLOSE = 41
    OBJECT_WANTED = 42
    CHUNK_FAILURES = 43
    ONE_RESULT = 44
    """Short form of RESULTS."""
    RETIRED = 45
    """The last one: the processor has answered what it began and ends. The body says why, as the end of a sentence."""
    UNFINISHED = 46
    """Whether clients inside have unanswered tasks: one byte. UNBLOCKED carries the same."""
    RELAY_UNFINISHED = 47
    """RELAY, and clients inside have unanswered tasks from now on."""
    SEVERAL = 48
    """Several short records in one packet, which is sent and read as one."""
    TEARDOWN = 49
    """Between two tasks, the plugins of clients that have left are torn down. One byte: this begins, or it has ended."""
    ENVIRONMENT = 50
    """The names of the worker plugins and uploaded modules that there are here now: UTF-8."""
    PROGRESS = 51
    """How far a task says that it is."""
    PROFILE_SAMPLES = 52
    """What was sampled since the last one: see `profile_records`."""


WHOLE, IN_PARTS, BOXED = 0, 1, 2
"""The second byte of a packet: it ends a record, more packets follow, or it says in which box the record is."""

BOXED_KINDS = frozenset((Kind.TASKS, Kind.RESULTS, Kind.RELAY, Kind.RELAY_UNFINISHED))
"""Records that may be as long as a box. Others have lower bounds."""


def packets(kind: int, parts: Sequence[Bytes], boxes: Boxes | None = None) -> list[bytes]:
    """Return the packets of one record whose body is `parts`, end to end. A long one goes into one of `boxes` that is free."""
    if sum(map(len, parts)) <= PACKET_BYTES_MAX - 2:
        return [b"".join((bytes((kind, WHOLE)), *parts))]
    if boxes is not None and kind in BOXED_KINDS:
        where = boxes.fill(parts)
        if where is not None:
            return [bytes((kind, BOXED)) + where]
    return _cut(kind, parts)


def several_parts(records: Iterable[tuple[int, Sequence[Bytes]]]) -> list[Bytes]:
    """Return the record SEVERAL, whose parts are these records: (kind, parts)."""
    joined: list[Bytes] = []
    for kind, parts in records:
        joined.append(_PART.pack(kind, sum(map(len, parts))))
        joined.extend(parts)
    return joined


def read_several(body: bytes) -> list[tuple[int, bytes]]:
    """Return (kind, body) of each record. Raises ValueError where one is cut off, or there are too many."""
    records: list[tuple[int, bytes]] = []
    at = 0
    while at < len(body):
        kind, size = _PART.unpack_from(body, at)
        start, at = at + _PART.size, at + _PART.size + size
        if at > len(body) or len(records) == SEVERAL_MAX:
            raise ValueError(f"a record of {size} bytes in {len(body)}, behind {len(records)} others")
        records.append((kind, body[start:at]))
    return records


def _cut(kind: int, parts: Sequence[Bytes]) -> list[bytes]:
    """Return the packets of a long record. They are not joined before: that would be one more copy of megabytes."""
    whole: list[bytes] = []
    pieces: list[Bytes] = [bytes((kind, IN_PARTS))]
    room = PACKET_BYTES_MAX - 2
    for part in parts:
        view = memoryview(part)
        at = 0
        while at < len(view):
            if not room:
                whole.append(b"".join(pieces))
                pieces = [bytes((kind, IN_PARTS))]
                room = PACKET_BYTES_MAX - 2
            piece = view[at : at + room]
            pieces.append(piece)
            at += len(piece)
            room -= len(piece)
    pieces[0] = bytes((kind, WHOLE))
    whole.append(b"".join(pieces))
    return whole


class Assembler:
    """Puts together from packets the records of an agent, which are trusted."""

    __slots__ = ("_boxes", "_parts")

    def __init__(self, boxes: Boxes | None = None) -> None:
        """`boxes`: those that the agent fills."""
        self._boxes = boxes
        self._parts: list[memoryview] = []

    def add(self, packet: bytes) -> tuple[int, bytes] | None:
        """Return (kind, body) when `packet` completes a record."""
        if packet[1]:
            if packet[1] == BOXED and self._boxes is not None:
                return packet[0], self._boxes.empty(packet[2:])
            self._parts.append(memoryview(packet)[2:])
            return None
        if not self._parts:
            return packet[0], packet[2:]
        self._parts.append(memoryview(packet)[2:])
        body = b"".join(self._parts)
        self._parts.clear()
        return packet[0], body


def raw_column(typecode: str, column: Column) -> bytes:
    """Return the bytes of a column."""
    return (column if isinstance(column, array) and column.typecode == typecode else array(typecode, column)).tobytes()


class Reader:
    """Cuts columns off a body, front to back."""

    __slots__ = ("at", "body")

    def __init__(self, body: bytes, at: int) -> None:
        self.body = body
        self.at = at

    def column(self, typecode: str, count: int) -> array[int]:
        """Read a column of `count` numbers."""
        column = array(typecode)
        end = self.at + count * column.itemsize
        column.frombytes(self.body[self.at : end])
        self.at = end
        return column

    def ids(self, count: int) -> list[bytes]:
        """Read `count` ids. Raises ValueError where the body has fewer, before there is a list of so many."""
        start, self.at = self.at, self.at + ID * count
        if self.at > len(self.body):
            raise ValueError(f"{count} ids in a record of {len(self.body)} bytes")
        return [self.body[at : at + ID] for at in range(start, self.at, ID)]

    def data(self, size: int) -> bytes:
        """Read `size` bytes."""
        start, self.at = self.at, self.at + size
        return self.body[start : self.at]

    def views(self, lengths: Iterable[int]) -> list[memoryview]:
        """As `strings`, without copies: what refers to one of them keeps the whole body."""
        body, start = memoryview(self.body), self.at
        views = []
        for length in lengths:
            end = start + length
            views.append(body[start:end])
            start = end
        self.at = start
        return views

    def strings(self, lengths: Iterable[int]) -> list[bytes]:
        """Read byte strings of these lengths."""
        body, start = self.body, self.at
        strings = []
        for length in lengths:
            end = start + length
            strings.append(body[start:end])
            start = end
        self.at = start
        return strings


# --- records of few fields

_CANCEL = struct.Struct("=QB")
_GIVEN_BACK = struct.Struct("=IQ")
_OUTPUT = struct.Struct("=QBQ")
_PROGRESS = struct.Struct("=Qdd")
_ANSWER = struct.Struct("=16sB")
_CHUNK_FAILURES = struct.Struct("=QI")
_WANTED = struct.Struct("=16s?")


def cancel_parts(index: int, status: int, text: str) -> list[Bytes]:
    """Return the record that cancels the task with this index."""
    return [_CANCEL.pack(index, status), text.encode("utf-8", "replace")]


def read_cancel(body: bytes) -> tuple[int, int, str]:
    """Return (index, status, text)."""
    index, status = _CANCEL.unpack_from(body)
    return index, status, body[_CANCEL.size :].decode()


def given_back_parts(generation: int, next_index: int) -> list[Bytes]:
    """For BLOCKED and GAVE_BACK."""
    return [_GIVEN_BACK.pack(generation, next_index)]


def read_given_back(body: bytes) -> tuple[int, int]:
    """Return (generation, next_index)."""
    generation, next_index = _GIVEN_BACK.unpack(body)
    return generation, next_index


def output_parts(index: int, stream: int, data: bytes, dropped_bytes: int) -> list[Bytes]:
    """Return the record of output of a task."""
    return [_OUTPUT.pack(index, stream, dropped_bytes), data]


def read_output(body: bytes) -> tuple[int, int, bytes, int]:
    """Return (index, stream, data, dropped bytes)."""
    index, stream, dropped = _OUTPUT.unpack_from(body)
    if not 1 <= stream <= 3:
        raise ValueError(f"output of stream {stream}")
    return index, stream, body[_OUTPUT.size :], dropped


AMOUNT_MAX = 2.0**53
"""The largest amount in progress that anybody sends or shows."""

NOTE_BYTES_MAX = 4096


def progress_parts(index: int, done: float, total: float, note: str) -> list[Bytes]:
    """Return the record of how far a task is; -1 as `total` where it is not known."""
    return [_PROGRESS.pack(index, done, total), note.encode("utf-8", "replace")[:NOTE_BYTES_MAX]]


def read_progress(body: bytes) -> tuple[int, float, float, str]:
    """Return (index, done, total, note). Raises ValueError for what no task can have said."""
    index, done, total = _PROGRESS.unpack_from(body)
    # Written so that it also refuses what is not a number.
    if not (0 <= done <= AMOUNT_MAX and -1 <= total <= AMOUNT_MAX) or len(body) > _PROGRESS.size + NOTE_BYTES_MAX:
        raise ValueError(f"progress of {done} of {total}")
    return index, done, total, body[_PROGRESS.size :].decode("utf-8", "replace")


def chunk_failures_parts(index: int, count: int, payload: bytes) -> list[Bytes]:
    """Return the record of failed items of a map chunk."""
    return [_CHUNK_FAILURES.pack(index, count), payload]


def read_chunk_failures(body: bytes) -> tuple[int, int, bytes]:
    """Return (index, failed items, failure payload of the first)."""
    index, count = _CHUNK_FAILURES.unpack_from(body)
    return index, count, body[_CHUNK_FAILURES.size :]


def object_wanted_parts(object_id: bytes, place_gone: bool) -> list[Bytes]:
    """Return the record that asks the agent for an object."""
    return [_WANTED.pack(object_id, place_gone)]


def read_object_wanted(body: bytes) -> tuple[bytes, bool]:
    """Return (object id, whether the object is not at the place the cache says)."""
    object_id, place_gone = _WANTED.unpack(body)
    return object_id, place_gone


def object_answer_parts(object_id: bytes, status: int, text: str) -> list[Bytes]:
    """Return the record that says whether an object is in the host's cache."""
    return [_ANSWER.pack(object_id, status), text.encode("utf-8", "replace")]


def read_object_answer(body: bytes) -> tuple[bytes, int, str]:
    """Return (object id, status, text)."""
    object_id, status = _ANSWER.unpack_from(body)
    return object_id, status, body[_ANSWER.size :].decode()


def relay_parts(client: bytes, frames: Sequence[Bytes]) -> list[Bytes]:
    """For RELAY, RELAY_UNFINISHED and RELAY_DELIVER."""
    return [client, struct.pack("=I", len(frames)), raw_column("Q", [len(frame) for frame in frames]), *frames]


def read_relay(body: bytes) -> tuple[bytes, list[bytes]]:
    """Return (client, frames)."""
    (count,) = struct.unpack_from("=I", body, ID)
    reader = Reader(body, ID + 4)
    return body[:ID], reader.strings(reader.column("Q", count))
