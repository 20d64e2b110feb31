"""What each worker did in the last ten minutes: how busy it was, its memory, tasks it ended, processes that were replaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from scaler_protocol.wire.messages import MonitorSnapshot, ProcessorState
from scaler_ui.model.bars import Lane

SPAN_SECONDS = 10.0
"""One value stands for so long."""

SPANS_KEPT = 60

_RUNNING = ProcessorState.RUNNING


class WorkerPast:
    """The past of one worker, as values of `SPAN_SECONDS` each, the newest last; the last one still grows."""

    __slots__ = ("_busy", "_ended", "_memory", "_running", "_samples", "pid", "replaced_at")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.replaced_at: deque[float] = deque(maxlen=100)
        """When another process was first seen in its place, Unix time."""
        self._samples = self._running = 0
        self._busy: deque[float] = deque(maxlen=SPANS_KEPT)
        self._memory: deque[int] = deque(maxlen=SPANS_KEPT)
        self._ended: deque[int] = deque(maxlen=SPANS_KEPT)

    def begin_span(self) -> None:
        """Further samples belong to the next value."""
        self._samples = self._running = 0
        self._busy.append(0.0)
        self._memory.append(0)
        self._ended.append(0)

    def add(self, running: bool, memory_bytes: int) -> None:
        """Take in how it was at one moment."""
        if not self._busy:
            self.begin_span()
        self._samples += 1
        self._running += running
        self._busy[-1] = self._running / self._samples
        self._memory[-1] = max(self._memory[-1], memory_bytes)

    def note_ended(self, count: int) -> None:
        """It has ended tasks."""
        if not self._ended:
            self.begin_span()
        self._ended[-1] += count

    @property
    def busy(self) -> Sequence[float]:
        """Shares of samples at which it ran a task, from 0 to 1."""
        return self._busy

    @property
    def memory(self) -> Sequence[int]:
        """The most bytes that its process had."""
        return self._memory

    @property
    def ended(self) -> int:
        """Tasks that it has ended."""
        return sum(self._ended)

    def ended_in(self, spans: int) -> int:
        """Return the tasks that it has ended in the last spans."""
        return sum(list(self._ended)[-spans:])

    @property
    def busy_seconds(self) -> float:
        """About how long it ran tasks."""
        return sum(self._busy) * SPAN_SECONDS

    def replaced(self, now: float) -> int:
        """Return how often its process was replaced within the time that is kept."""
        return sum(at > now - SPANS_KEPT * SPAN_SECONDS for at in self.replaced_at)


class WorkerHistory:
    """The past of all connected workers, by lane."""

    def __init__(self) -> None:
        self._workers: dict[Lane, WorkerPast] = {}
        self._span = 0.0

    def accept(self, snapshot: MonitorSnapshot) -> None:
        """Take in one snapshot. Workers that are gone are forgotten."""
        span = snapshot.time_seconds // SPAN_SECONDS
        is_new = span != self._span
        self._span = span
        before, self._workers = self._workers, {}
        for lane, worker in zip(lanes_of(snapshot), snapshot.workers, strict=True):
            past = before.get(lane)
            if past is None:
                past = WorkerPast(worker.pid)
            elif is_new:
                past.begin_span()
            if worker.pid and worker.pid != past.pid:
                if past.pid:
                    past.replaced_at.append(snapshot.time_seconds)
                past.pid = worker.pid
            past.add(worker.state == _RUNNING, worker.rss_bytes)
            self._workers[lane] = past

    def note_ended(self, lane: Lane, count: int) -> None:
        """A worker has ended tasks."""
        past = self._workers.get(lane)
        if past is not None:
            past.note_ended(count)

    def of(self, lane: Lane) -> WorkerPast:
        """Return the past of a worker; an empty one if it is not known."""
        return self._workers.get(lane) or WorkerPast(0)

    def __len__(self) -> int:
        return len(self._workers)


def lanes_of(snapshot: MonitorSnapshot) -> Iterable[Lane]:
    """Return the lane of each worker of a snapshot, in their order."""
    slots: dict[str, int] = {}
    for worker in snapshot.workers:
        slot = slots.get(worker.agent, 0)
        slots[worker.agent] = slot + 1
        yield Lane(worker.agent, slot)
