"""How many tasks an agent wants to hold, and how many it holds."""

from __future__ import annotations

from math import ceil

from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core.state import AgentState

HELD_MICROSECONDS = 50_000
"""Work an agent wants to hold per slot."""

HELD_BYTES = 2 * 1024 * 1024
"""Bytes of messages that the tasks an agent wants to hold take per slot. Of quick tasks with large values it would hold hundreds
of MiB otherwise, and what reads the results of a graph's rows would stand behind all of them."""

HELD_FEW = 8
"""So many per slot are wanted whatever they take: a slot would have nothing to do while the next are on their way."""

GROWTH = 4
"""A slot wants at most so many times what this agent has seen end."""

LONG_TASK_MICROSECONDS = 1_000_000
"""From here on tasks are not held ahead at all."""


class Capacity:
    """Asked for whatever tells the scheduler something: it sends no more tasks than this."""

    __slots__ = (
        "_counts",
        "_departure",
        "_durations",
        "_lending",
        "_message_bytes",
        "_pinned",
        "_processors",
        "_queue",
        "_queue_limit",
        "_slots",
    )

    def __init__(self, state: AgentState) -> None:
        self._departure = state.departure
        self._durations = state.durations
        self._lending = state.lending
        self._message_bytes = state.message_bytes
        self._processors = state.processors.by_number
        self._counts = state.processors.counts
        self._queue = state.queue
        self._pinned = state.pinned
        self._queue_limit = state.options.queue_limit
        self._slots = state.slots

    def wanted(self, now: float) -> int:
        """Return how many tasks this agent wants to hold in all."""
        if self._departure.leaving:
            return 0
        mean = self._durations.mean_microseconds
        if mean is None:
            wanted = 2
        elif mean >= LONG_TASK_MICROSECONDS:
            wanted = 1
        else:
            wanted = ceil(HELD_MICROSECONDS / mean) + 1
            # The next ones may be of another kind: a new agent had thousands of a graph's rows after one quick task.
            wanted = min(wanted, max(HELD_FEW, GROWTH * self._message_bytes.ended))
            each = self._message_bytes.each
            if wanted * each > HELD_BYTES:
                wanted = min(wanted, max(HELD_FEW, int(HELD_BYTES / each)))
        lent = self._counts[State.BLOCKED]
        if now >= self._lending.due_at():
            # Nested tasks that could have these slots must be able to come here.
            lent += len(self._lending.lenders())
        # Those that wait for one worker take no room from the others'.
        return self._slots * min(wanted, self._queue_limit) + lent + self._pinned.count

    def held(self) -> int:
        """Return how many tasks are here that the scheduler counts as assigned."""
        return self._queue.count + self._pinned.count + sum([processor.rows for processor in self._processors.values()])
