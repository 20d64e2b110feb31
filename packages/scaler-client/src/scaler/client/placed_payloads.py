"""Payloads of some size on their way to workers on the same host, and back: they lie in shared memory, and messages name them.

The scheduler, the agent and two sockets would each copy them. See `scaler_protocol.objects.segments.batch_place`. The core knows
nothing of it: it keeps the payload of each task until the task is answered, so that it can leave once more, inside of a message,
where a worker cannot read it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler.serialization.repeated_values import COPIES_BYTES_MAX
from scaler_protocol.objects.segments.batch_place import PLACE_BYTES, BatchPlace, Form
from scaler_protocol.objects.segments.batch_segment import BatchSegment
from scaler_protocol.objects.segments.layout import supported
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX, RAW_BYTES, RAW_ITEMS
from scaler_protocol.payloads.unpickled import UNPICKLED_BYTES_MIN
from scaler_protocol.runtime.freed_memory import MOST_KEPT_BYTES, give_back_freed_memory, keep_freed_memory
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed, Pieces
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler.core.client_core import ClientCore
    from scaler.core.effects import Payload

PLACED_BYTES_MIN = UNPICKLED_BYTES_MIN
"""Smaller payloads travel inside messages: a place costs the worker some system calls."""

ALONE_BYTES_MAX = 4 * 1024 * 1024 + 4 * 1024
"""The only argument of a call, and the items of a map chunk, are placed up to this size: copying them takes less than the
messages of an object."""

WAITING_BYTES_MAX = 512 * 1024 * 1024
"""While payloads of so many bytes wait to leave, further ones become objects, which the server can keep on a disk, and for
whose room the caller waits."""

FAILURES_MAX = 3
"""After so many messages with tasks that a worker could not read, there are workers on other hosts, or of another user. Then
everything travels inside messages."""

INSIDE_MAX = 1000

UNREADABLE = int(m.Status.UNREADABLE)

LOST_RESULT = b"the result lies where this client cannot read it"


class PlacedBuffers(tuple[Frame, ...]):
    """A result that lay in the segment, as if an object had these buffers."""

    __slots__ = ()


class PlacedPayloads:
    """Those of one client. Used with the lock of its engine held."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core
        self._segment: BatchSegment | None = None
        self.is_over = not supported()
        """Whether everything travels inside messages."""
        self._failures = 0
        # The values of all results that nobody has taken yet are here at once.
        keep_freed_memory(MOST_KEPT_BYTES)
        self._inside: set[int] = set()
        """Tasks whose payloads could not be read."""

    @property
    def alone_bytes_max(self) -> int:
        """How many bytes the only argument of a call, or the items of a map chunk, may have that is no object."""
        if self.is_over or not self._core.admission.accepts_freely or self._core.waiting_bytes >= WAITING_BYTES_MAX:
            return INLINE_BYTES_MAX
        return ALONE_BYTES_MAX

    @property
    def copies_bytes_max(self) -> int:
        """How many bytes the payloads may have that bring one and the same value to tasks under way; 0: only one of them."""
        return 0 if self.is_over or not self._core.admission.accepts_freely else COPIES_BYTES_MAX

    def place(self, batch: m.TaskBatch) -> None:
        """Put the large payloads of a message that is about to leave where workers can read them, and name the places in it.

        Those that were not made yet are afterwards, where they still travel inside.
        """
        self._place(batch)
        payloads = batch.payloads
        if type(payloads) is Pieces and any(type(item) is not bytes for item in payloads.items):
            batch.payloads = Pieces([bytes(item) for item in payloads.items])

    def _place(self, batch: m.TaskBatch) -> None:
        payloads = batch.payloads
        if self.is_over or type(payloads) is not Pieces or not self._core.admission.accepts_freely:
            # Whoever needs permission for each task has none to let one leave once more.
            return
        rows = [row for row, length in enumerate(payloads.lengths) if length >= PLACED_BYTES_MIN]
        if self._inside:
            rows = [row for row in rows if batch.numbers[row] not in self._inside]
        if not rows:
            return
        try:
            segment = self._segment = self._segment or BatchSegment()
        except OSError:
            self.is_over = True
            return
        self._free()
        items = list(payloads.items)
        places = segment.put([batch.numbers[row] for row in rows], [items[row] for row in rows], time.monotonic())
        if places is not None:
            for row, place in zip(rows, places, strict=True):
                items[row] = place
            # Others may have to travel inside.
            batch.payloads = Packed.of([bytes(item) for item in items])

    def take(self, batch: m.ResultBatch) -> None:
        """Put the results that lie in the segment where their places are.

        One that cannot be read makes its task leave again, or fails it where that may not run twice.
        """
        statuses = batch.statuses
        if len(statuses) and UNREADABLE in statuses:
            self._note_unreadable(
                [n for n, status in zip(batch.numbers, statuses, strict=True) if status == UNREADABLE]
            )
        segment = self._segment
        if segment is None or PLACE_BYTES not in batch.payloads.lengths:
            return
        items: list[Payload] = list(batch.payloads.split())
        unreadable: list[int] = []
        found = False
        for row, item in enumerate(items):
            place = BatchPlace.parse(item) if isinstance(item, bytes) else None
            if place is None:
                continue
            found = True
            content = segment.read(place)
            if content is None:
                unreadable.append(row)
                items[row] = LOST_RESULT
            elif place.form == Form.PAYLOAD:
                items[row] = content[0]
            elif place.form == Form.BUFFERS:
                items[row] = PlacedBuffers(content)
            else:
                items[row] = PlacedBuffers((RAW_ITEMS if place.form == Form.ITEMS else RAW_BYTES, *content))
        if unreadable:
            changed = list(statuses) or [int(m.Status.SUCCESS)] * len(items)
            for row in unreadable:
                changed[row] = UNREADABLE
                if self._core.may_run_once_only(batch.numbers[row]):
                    changed[row] = int(m.Status.STORAGE_FAILED)
                    items[row] = LOST_RESULT + b", and the task may not run again (idempotent=False)"
            batch.statuses = changed
            self._note_unreadable([batch.numbers[row] for row in unreadable])
        if found:
            batch.payloads = Pieces(items)

    def _note_unreadable(self, numbers: Sequence[int]) -> None:
        """These tasks must travel inside messages; after some of them, all tasks."""
        placed = [number for number in numbers if self._core.is_unanswered(number)]
        self._inside.update(placed)
        if len(self._inside) > INSIDE_MAX:
            self._inside = {number for number in self._inside if self._core.is_unanswered(number)}
        # A row that has come too late for the answer of an earlier task is unreadable as well, and says nothing of workers.
        if any(map(self._was_placed, placed)):
            self._failures += 1
            self.is_over = self.is_over or self._failures >= FAILURES_MAX

    def _was_placed(self, number: int) -> bool:
        return self._segment is not None and self._segment.has(number)

    def _free(self) -> None:
        # A worker may still need an answer that has come here, as an argument.
        if self._segment is not None and not self._core.needs_answers:
            self._segment.free(self._core.is_unanswered)

    def give_back_idle(self) -> None:
        """Give back memory that has not been used for a while."""
        segment = self._segment
        if segment is not None and segment.has_memory:
            self._free()
            if segment.give_back_idle(time.monotonic()):
                give_back_freed_memory()

    def close(self) -> None:
        """Give back everything. What comes later cannot be read."""
        self.is_over = True
        if self._segment is not None:
            self._segment.close()
            self._segment = None
