"""Bounds what an agent holds of the records of its processors: those that have arrived in part, and what is to be passed on.

A task can write to its processor's channel whatever it likes, and this memory is the agent's: no fence of the tasks counts it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from scaler_worker.processor.record_boxes import Boxes
from scaler_worker.processor.records import BOXED, BOXED_KINDS, PACKET_BYTES_MAX, Kind

RECORD_BYTES_MAX = 128 * 1024 * 1024
"""Largest record of results. They leave together until there are 256, and large ones are in storage."""

RELAY_BYTES_MAX = 1024 * 1024 * 1024
"""The same of a message of a client inside: a graph is one message, whatever its size."""

OTHER_BYTES_MAX = 2 * 1024 * 1024
"""The same of all others. What a task prints at once is the largest of them."""

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of records that have arrived in part, of all processors. While there are more, only one of these records goes on
arriving. So there may be as many bytes, and one whole record."""

STALL_SECONDS = 10.0
"""How long that one record may stop: others wait for it."""

UNSENT_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of messages for the scheduler that may be lost, while it does not take them. More are dropped, but for a single one.
Clients repeat what was dropped, all of it for a single message: so this must not be reached by networks that are merely slow."""

MESSAGE_OVERHEAD_BYTES = 4096
"""What a small one takes besides its bytes, with what the scheduler is told when the client that sent it has ended."""


_RELAYS = frozenset((Kind.RELAY, Kind.RELAY_UNFINISHED))


class Sender(Protocol):
    """What sends records: the link of a processor."""

    def pause(self) -> None:
        """Read nothing more from it."""

    def go_on(self) -> None:
        """Read from it again."""

    def give_up(self, fault: str) -> None:
        """Drop what has arrived, and replace the processor."""


class ArrivingRecords:
    """The records of all processors of an agent that have arrived in part. Belongs to one event loop."""

    def __init__(
        self,
        *,
        held_bytes_max: int = HELD_BYTES_MAX,
        record_bytes_max: int = RELAY_BYTES_MAX,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """`record_bytes_max`: what a processor can have in its own memory, so that no record of it is larger."""
        self.record_bytes_max = record_bytes_max
        self._held_bytes_max = held_bytes_max
        self._stall_seconds = stall_seconds
        self._held: dict[Sender, int] = {}
        """Bytes by sender, in the order in which the records began."""
        self._held_bytes = 0
        self._first: Sender | None = None
        """While too much is held: the only one that is read."""
        self._moved_at = 0.0
        """When something of that one came last."""
        self._paused: set[Sender] = set()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, sender: Sender, held_bytes: int) -> None:
        """So much is held of a record of this sender now; 0 when it has arrived, or was dropped."""
        self._held_bytes += held_bytes - self._held.get(sender, 0)
        if held_bytes:
            self._held[sender] = held_bytes
        else:
            self._held.pop(sender, None)
        if sender is self._first:
            self._moved_at = time.monotonic()
        if self._first is not None or self._held_bytes > self._held_bytes_max:
            self._settle()

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _settle(self) -> None:
        """While too much is held, read from the first only of those whose records have arrived in part."""
        first = next(iter(self._held)) if self._held_bytes > self._held_bytes_max else None
        waiting = set(self._held) - {first} if first is not None else set()
        if first is not self._first:
            self._first, self._moved_at = first, time.monotonic()
        before, self._paused = self._paused, waiting
        for sender in waiting - before:
            sender.pause()
        for sender in before - waiting:
            sender.go_on()
        if first is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._stall_seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        first = self._first
        if first is None:
            return
        left = self._moved_at + self._stall_seconds - time.monotonic()
        if left <= 0:
            first.give_up("stops in the middle of a record, for which others wait")
            left = self._stall_seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._look)


class RecordAssembler:
    """Puts the records of a processor together from packets. Raises ValueError for what no processor of ours sends.

    `note` is told how many bytes are held of a record that has arrived in part, whenever that changes.
    """

    __slots__ = ("_boxes", "_kind", "_parts", "_record_bytes_max", "note")

    def __init__(
        self, note: Callable[[int], None], record_bytes_max: int = RELAY_BYTES_MAX, boxes: Boxes | None = None
    ) -> None:
        """`boxes`: those that the processor fills."""
        self._boxes = boxes
        self._parts: list[memoryview] = []
        self._kind = 0
        self._record_bytes_max = record_bytes_max
        self.note = note

    def add(self, packet: bytes) -> tuple[int, bytes] | None:
        """Return (kind, body) when `packet` completes a record. After a ValueError, nothing is left of the record."""
        if not packet[1] and not self._parts:
            return packet[0], packet[2:]
        if packet[1] == BOXED and not self._parts and self._boxes is not None and packet[0] in BOXED_KINDS:
            return packet[0], self._boxes.empty(packet[2:])
        problem = self._problem(packet)
        if problem:
            self.drop()
            raise ValueError(problem)
        self._parts.append(memoryview(packet)[2:])
        if packet[1]:
            self.note(len(self._parts) * PACKET_BYTES_MAX)
            return None
        body = b"".join(self._parts)
        self.drop()
        return packet[0], body

    def drop(self) -> None:
        """Forget what has arrived of a record."""
        self._parts.clear()
        self.note(0)

    def _problem(self, packet: bytes) -> str:
        if not self._parts:
            self._kind = packet[0]
        elif packet[0] != self._kind:
            # The bound of a record is that of its kind.
            return "parts of several kinds in one record"
        if packet[1] and len(packet) != PACKET_BYTES_MAX:
            # Any number of small ones would cost more than their bytes.
            return f"a part of {len(packet)} bytes, though more follow"
        bytes_max = min(self._record_bytes_max, _bytes_max(packet[0]))
        if packet[1] and (len(self._parts) + 1) * PACKET_BYTES_MAX > bytes_max:
            return f"more than {bytes_max // 1024**2} MiB in one record"
        return ""


def _bytes_max(kind: int) -> int:
    if kind in _RELAYS:
        return RELAY_BYTES_MAX
    return RECORD_BYTES_MAX if kind == Kind.RESULTS else OTHER_BYTES_MAX


class UnsentMessages:
    """Messages for the scheduler that may be lost: from clients inside tasks, which repeat them, and what tasks print.

    `is_behind` says whether the scheduler has not taken all that was sent.
    """

    def __init__(self, is_behind: Callable[[], bool]) -> None:
        self._is_behind = is_behind
        self._unsent_bytes = 0

    def admits(self, size: int) -> bool:
        """Return whether a message of so many bytes may be passed on; count it then."""
        size += MESSAGE_OVERHEAD_BYTES
        if not self._is_behind():
            self._unsent_bytes = 0
        if self._unsent_bytes and self._unsent_bytes + size > UNSENT_BYTES_MAX:
            return False
        self._unsent_bytes += size
        return True
