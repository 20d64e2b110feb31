"""How many items the next chunk of a map gets, and how many chunks are under way. Pure arithmetic."""

from __future__ import annotations

import math

from scaler_protocol.objects.segments.batch_place import ITEMS_MAX as PLACED_ITEMS_MAX

TARGET_SECONDS = 0.02
"""Work in one chunk: long beside what sending it costs, short beside what people wait for."""

SHORTEST_SECONDS = 0.001
"""Work in the chunks of the end, which are made smaller so that all workers finish together."""

GROWTH_MAX = 16
"""A chunk is at most so many times larger than the largest one measured."""

IN_FLIGHT_START = 32
IN_FLIGHT_MAX = 8192

PAYLOAD_BYTES = 192 * 1024
"""Aimed size of a chunk's items and of its results."""

PAYLOAD_BYTES_MAX = 258 * 1024
"""Their greatest size, below what travels inside messages. Where few items are a chunk, one more saves much of what it costs."""

PLACED_BYTES = 512 * 1024
"""As `PAYLOAD_BYTES`, where they are copied straight to and from memory that workers on this host read, which only chunks of
`PLACED_ITEMS_MAX` items and fewer are. What a processor has read and writes again should still be in its cache."""

ITEMS_MAX = 50_000
_SMOOTHING = 0.3


class ChunkPlanner:
    """Plans the chunks of one map. `remaining` is the number of items to come, or None where nobody knows."""

    def __init__(self, remaining: int | None, items_max: int = ITEMS_MAX) -> None:
        self.remaining = remaining
        self._items_max = items_max
        self.in_flight = 0
        self.limit = IN_FLIGHT_START
        self._item_seconds: float | None = None
        self._item_payload_bytes = 0.0
        self._item_result_bytes = 0.0
        self._payloads_placed = self._results_placed = False
        self._largest_measured = 1
        self._work_seconds = 0.0

    def may_send(self) -> bool:
        """Whether one more chunk may be under way."""
        return self.in_flight < self.limit

    def next_size(self, elapsed_seconds: float) -> int:
        """Return the number of items for the next chunk, `elapsed_seconds` after the map began."""
        if self._item_seconds is None:
            return 1
        size = TARGET_SECONDS / max(self._item_seconds, 1e-9)
        size = min(size, GROWTH_MAX * self._largest_measured, self._items_max)
        for item_bytes, placed in (
            (self._item_payload_bytes, self._payloads_placed),
            (self._item_result_bytes, self._results_placed),
        ):
            if item_bytes and placed and PAYLOAD_BYTES / item_bytes <= PLACED_ITEMS_MAX:
                size = min(size, PLACED_BYTES / item_bytes, PLACED_ITEMS_MAX)
            elif item_bytes:
                size = min(size, math.ceil(PAYLOAD_BYTES / item_bytes), PAYLOAD_BYTES_MAX / item_bytes)
        if self.remaining is not None:
            busy = max(2.0, self._work_seconds / max(elapsed_seconds, 1e-3))
            shortest = SHORTEST_SECONDS / max(self._item_seconds, 1e-9)
            size = min(size, max(shortest, math.ceil(self.remaining / (4 * busy))))
        return max(1, int(size))

    def on_sent(self, items: int, payload_bytes: int, *, placed: bool = False) -> None:
        """A chunk of so many items left; `placed`: not inside of a message."""
        self.in_flight += 1
        self._payloads_placed = placed
        if self.remaining is not None:
            self.remaining = max(0, self.remaining - items)
        self._item_payload_bytes = _smooth(self._item_payload_bytes, payload_bytes / items)

    def on_completed(
        self,
        items: int,
        work_seconds: float,
        latency_seconds: float,
        result_bytes: int,
        *,
        placed: bool = False,
        was_awaited: bool = True,
    ) -> None:
        """A chunk came back: `work_seconds` in its processor, `latency_seconds` after it was sent; `placed` as there.

        `was_awaited`: somebody waited for results. Where nobody does, fewer chunks under way are enough.
        """
        self.in_flight -= 1
        self._results_placed = placed
        self._work_seconds += work_seconds
        per_item = work_seconds / items
        if self._item_seconds is None or items >= GROWTH_MAX * self._largest_measured / 2:
            # One item's time is mostly overhead; a much larger chunk knows better.
            self._item_seconds = per_item
        else:
            self._item_seconds = _smooth(self._item_seconds, per_item)
        self._item_result_bytes = _smooth(self._item_result_bytes, result_bytes / items)
        self._largest_measured = max(self._largest_measured, items)
        if not was_awaited:
            self.limit = max(IN_FLIGHT_START, self.limit - 1)
        elif latency_seconds < 4 * max(TARGET_SECONDS, work_seconds):
            # It did not have to queue: there are workers for more.
            self._grow(1)

    def on_sent_apart(self) -> None:
        """An item left as a task of its own, which says nothing of the others."""
        self.in_flight += 1
        if self.remaining is not None:
            self.remaining = max(0, self.remaining - 1)

    def on_completed_apart(self, *, was_awaited: bool = True) -> None:
        """An item came back that was a task of its own: what it took may have been waiting. `was_awaited` as above."""
        self.in_flight -= 1
        if was_awaited:
            self._grow(1)

    def on_nothing_completed(self) -> None:
        """All chunks under way take long: some of the workers may have nothing to do."""
        self._grow(self.limit)

    @property
    def takes_long(self) -> bool:
        """Whether one item takes longer than a chunk should, as far as is known."""
        return self._item_seconds is None or self._item_seconds > TARGET_SECONDS

    def _grow(self, count: int) -> None:
        self.limit = min(IN_FLIGHT_MAX, self.limit + count)


def _smooth(old: float, new: float) -> float:
    return new if old == 0.0 else old + _SMOOTHING * (new - old)
