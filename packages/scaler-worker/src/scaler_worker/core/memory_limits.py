"""Tasks that are held to the memory they ask for: when each is measured, and what follows.

A task is measured the more often, the sooner it could have taken all that it may. The shell measures; a task that has taken
more ends together with its processor. Nothing here runs while no task is watched.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf
from typing import NamedTuple

from scaler_protocol.runtime.core import WARNING
from scaler_protocol.runtime.resources import MEMORY, ONE, format_amount
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects, events
from scaler_worker.core.endings import TaskEndings
from scaler_worker.core.processors import Processor
from scaler_worker.core.state import AgentState

BYTES_PER_SECOND_MAX = 16 * 1024**3
"""More than any host fills."""

MEASURE_SECONDS_MIN = 0.01
MEASURE_SECONDS_MAX = 0.1


class _Watched(NamedTuple):
    task_index: int
    limit_bytes: int
    due_at: float


class MemoryLimits:
    """Watches the tasks that ask for memory, one for each processor at most. Used only where their asks are enforced."""

    def __init__(self, state: AgentState, endings: TaskEndings) -> None:
        self._state = state
        self._endings = endings
        self.watched: dict[int, _Watched] = {}
        """By processor. A task that has ended is forgotten when it would be measured next."""

    def watch(self, processor: Processor, index: int, limit_bytes: int, now: float) -> None:
        """Watch a task that is handed over now."""
        self.watched[processor.number] = _Watched(index, limit_bytes, now + _wait_seconds(limit_bytes))

    def tick(self, now: float) -> None:
        """Have those measured whose turn it is."""
        due = []
        for number, watched in self._running():
            if now >= watched.due_at:
                due.append((number, watched.task_index))
                # Until the answer is there.
                self.watched[number] = watched._replace(due_at=inf)
        if due:
            self._state.outbox.add(effects.MeasureMemory(tuple(due)))

    def next_deadline(self) -> float:
        """When `tick` has something to do next."""
        return min((watched.due_at for watched in self.watched.values()), default=inf)

    def on_measured(self, event: events.MemoryMeasured, now: float) -> None:
        """End the tasks that have taken more than they may."""
        for number, watched in self._running():
            index, used_bytes = event.used.get(number, (-1, 0))
            if index != watched.task_index:
                continue
            room = watched.limit_bytes - used_bytes
            if room >= 0:
                self.watched[number] = watched._replace(due_at=now + _wait_seconds(room))
                continue
            del self.watched[number]
            text = (
                f"the task took {ceil(used_bytes / 1024**2)} MiB of memory, more than the mem="
                f"{format_amount(MEMORY, watched.limit_bytes * ONE)} that it asked for, and was ended (--enforce-memory)"
            )
            processor = self._state.processors.by_number[number]
            self._state.log(WARNING, f"Worker[{processor.slot}]: processor {processor.pid}: {text}")
            self._endings.end_at_once(processor, index, Status.LIMIT_EXCEEDED, text, now)

    def _running(self) -> Iterator[tuple[int, _Watched]]:
        """Iterate over the tasks that still run, and forget all others."""
        processors = self._state.processors.by_number
        for number, watched in list(self.watched.items()):
            processor = processors.get(number)
            if processor is None or not processor.rows or processor.front_index != watched.task_index:
                del self.watched[number]
            else:
                yield number, watched


def _wait_seconds(room_bytes: int) -> float:
    return min(max(room_bytes / BYTES_PER_SECOND_MAX, MEASURE_SECONDS_MIN), MEASURE_SECONDS_MAX)
