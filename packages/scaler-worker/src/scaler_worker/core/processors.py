"""What the agent knows about its processors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from scaler_protocol.wire.messages import ProcessorState
from scaler_worker.core.functions import KnownFunctions
from scaler_worker.core.slices import TaskSlice

ENVIRONMENT_CHARACTERS_MAX = 500

TEARDOWN_SECONDS_MAX = 12.0
"""So long a teardown is believed to go on. Processors end themselves before that."""


@dataclass(slots=True, frozen=True)
class Ending:
    """A task handed over is to be ended: since when, and what it will be answered with."""

    since: float
    status: int
    text: str


@dataclass(slots=True, eq=False)
class Processor:
    """A child process, which works for the worker in `slot`: that can be another one for every task that begins.

    `pipe` holds what was handed to it and is not answered, in order; its first row is the one running.

    `front_since` is when that row became the first. `free_at` is when a teardown between two tasks has ended, or will have at
    the latest. `endings` are tasks of the pipe, by index, that are being cancelled.
    `unfinished_since` is when a client inside last began to have unanswered tasks, or its task last went on after it was
    blocked. `lent_unasked` says of a BLOCKED one that it did not ask for it, `lent_index` for which task this last was so (see
    `lending`).
    """

    number: int
    slot: int
    state: ProcessorState = ProcessorState.STARTING
    pid: int = 0
    generation: int = 0
    given_back_index: int = -1
    """From where on it gave back tasks last."""
    next_index: int = 0
    pipe: deque[TaskSlice] = field(default_factory=deque)
    rows: int = 0
    front_since: float = 0.0
    free_at: float = 0.0
    idle_since: float = 0.0
    unfinished_since: float = 0.0
    lent_unasked: bool = False
    lent_index: int = -1
    taking_back: bool = False
    endings: dict[int, Ending] = field(default_factory=dict)
    known: KnownFunctions = field(default_factory=KnownFunctions)
    clients: set[bytes] = field(default_factory=set)
    failures_index: int = -1
    """The last task of which monitors were told the failures of single items."""
    environment: str = ""
    """The names of the worker plugins and uploaded modules there, for people."""
    devices: tuple[str, ...] = ()
    """The GPUs that its tasks have used: it keeps them (see `grants`)."""
    fault: str = ""
    """Why it is replaced, as the end of a sentence; empty while it does what a processor should."""

    @property
    def front_index(self) -> int:
        """The index of the first row that the processor has not answered."""
        return self.pipe[0].index if self.pipe else self.next_index

    @property
    def begun_at(self) -> float:
        """When the first row has begun at the earliest."""
        return max(self.front_since, self.free_at)

    def note_teardown(self, begins: bool, now: float) -> None:
        """A teardown begins, or has ended."""
        self.free_at = now + TEARDOWN_SECONDS_MAX if begins else now

    def note_environment(self, text: str) -> None:
        """Worker plugins and uploaded modules there are others now."""
        # One line of a heartbeat, whatever a task has sent.
        self.environment = " ".join(text.split())[:ENVIRONMENT_CHARACTERS_MAX]

    def may_give_back(self, generation: int, next_index: int) -> bool:
        """Whether it can have dropped what it was handed from `next_index` on, and raised its generation to this.

        Where it has read nothing since it gave back tasks last, it says the same index again: it does not know how many the
        agent has handed over meanwhile. That happens on a machine so loaded that only its control thread gets its turn.
        """
        return generation == self.generation + 1 and (
            self.front_index <= next_index <= self.next_index or next_index == self.given_back_index
        )

    def pipe_bytes(self) -> int:
        """Return how many payload bytes lie in its pipe."""
        return sum([tasks.payload_bytes() for tasks in self.pipe]) if self.pipe else 0

    def push(self, tasks: TaskSlice, now: float) -> TaskSlice:
        """Note that `tasks` are handed over; return a slice of the same rows that does not change with the pipe."""
        rows = tasks.stop - tasks.start
        tasks.index = self.next_index
        self.next_index += rows
        if not self.pipe:
            self.front_since = now
        self.pipe.append(tasks)
        self.rows += rows
        return TaskSlice(
            tasks.batch, tasks.start, tasks.stop, tasks.first_byte, tasks.abandoned, tasks.index, tasks.asked
        )

    def pop(self, count: int, now: float) -> TaskSlice:
        """Remove and return up to `count` rows from the front of the pipe: those of its first slice. The next one runs now."""
        self.front_since = now
        front = self.pipe[0]
        taken = self.pipe.popleft() if front.stop - front.start <= count else front.take(count)
        self.rows -= taken.stop - taken.start
        return taken

    def drop_endings(self) -> None:
        """Forget the endings of tasks that have been answered."""
        front = self.front_index
        self.endings = {index: ending for index, ending in self.endings.items() if index >= front}

    def pop_from(self, index: int) -> list[TaskSlice]:
        """Remove and return all rows from `index` on, in order."""
        removed: list[TaskSlice] = []
        while self.pipe and self.pipe[-1].index + len(self.pipe[-1]) > index:
            last = self.pipe[-1]
            tail = self.pipe.pop() if last.index >= index else last.take_last(last.index + len(last) - index)
            self.rows -= len(tail)
            removed.append(tail)
        removed.reverse()
        return removed

    def find(self, index: int) -> tuple[TaskSlice, int] | None:
        """Return the slice and the row in its batch of a task handed over, or None once it is answered."""
        for tasks in self.pipe:
            if tasks.index <= index < tasks.index + len(tasks):
                return tasks, tasks.start + index - tasks.index
        return None


class ProcessorTable:
    """All processors of a host by number, and how many of them are in each state.

    Nothing else changes a processor's `state`, or adds or removes processors.
    """

    __slots__ = ("_next_number", "by_number", "counts", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        """How many tasks may run at the same time."""
        self.by_number: dict[int, Processor] = {}
        self.counts = [0] * (max(ProcessorState) + 1)
        """Processors by state."""
        self._next_number = 0

    def add(self) -> Processor:
        """Add a processor that is being started, in the slot with the fewest processors, and return it."""
        number = self._next_number
        self._next_number += 1
        processor = self.by_number[number] = Processor(number, self._emptiest_slot())
        self.counts[ProcessorState.STARTING] += 1
        return processor

    def remove(self, number: int) -> Processor | None:
        """Remove a processor that has ended and return it; None if it is not known."""
        processor = self.by_number.pop(number, None)
        if processor is not None:
            self.counts[processor.state] -= 1
        return processor

    def set_state(self, processor: Processor, state: ProcessorState) -> None:
        """Change the state of a processor, and the counts of states."""
        self.counts[processor.state] -= 1
        self.counts[state] += 1
        processor.state = state

    def set_ready(self, processor: Processor, pid: int, now: float) -> None:
        """Note that a processor has started."""
        processor.pid = pid
        self.set_idle(processor, now)

    def set_idle(self, processor: Processor, now: float) -> None:
        """Note that a processor has nothing to run."""
        counts = self.counts
        counts[processor.state] -= 1
        counts[ProcessorState.IDLE] += 1
        processor.state = ProcessorState.IDLE
        processor.idle_since = now

    def unblocked_count(self) -> int:
        """Return how many processors start, are idle or run."""
        counts = self.counts
        return len(self.by_number) - counts[ProcessorState.BLOCKED] - counts[ProcessorState.STOPPING]

    def take_free_slot(self, processor: Processor) -> None:
        """Let a processor that begins to run have a slot where nothing runs; its own, if that is one."""
        held = {other.slot for other in self.by_number.values() if other.state is ProcessorState.RUNNING}
        if processor.slot in held:
            processor.slot = next((slot for slot in range(self.slots) if slot not in held), processor.slot)

    def give_slot(self, processor: Processor, slot: int) -> None:
        """Let an idle processor have a slot where nothing runs."""
        processor.slot = slot

    def holder(self, slot: int) -> Processor | None:
        """Return the processor that runs a task in this slot, or None."""
        for processor in self.by_number.values():
            if processor.slot == slot and processor.state is ProcessorState.RUNNING:
                return processor
        return None

    def _emptiest_slot(self) -> int:
        counts = [0] * self.slots
        for processor in self.by_number.values():
            if processor.state not in (ProcessorState.BLOCKED, ProcessorState.STOPPING):
                counts[processor.slot] += 1
        return counts.index(min(counts))


_SHOWN_FIRST = {
    ProcessorState.RUNNING: 4,
    ProcessorState.BLOCKED: 3,
    ProcessorState.IDLE: 2,
    ProcessorState.STARTING: 1,
    ProcessorState.STOPPING: 0,
}


def shown_processors(processors: Iterable[Processor], slots: int) -> list[Processor | None]:
    """Return the processor to show for each slot: the one that does most for it.

    A task that went on after it was blocked may run beside another one in the same slot. It is shown in one where nothing
    runs, so that as many workers are seen to be busy as are.
    """
    shown: list[Processor | None] = [None] * slots
    others: list[Processor] = []
    for processor in processors:
        best = shown[processor.slot]
        hidden: Processor | None = processor
        if best is None or _SHOWN_FIRST[processor.state] > _SHOWN_FIRST[best.state]:
            shown[processor.slot], hidden = processor, best
        if hidden is not None and hidden.state is ProcessorState.RUNNING:
            others.append(hidden)
    for slot, best in enumerate(shown):
        if others and (best is None or best.state is not ProcessorState.RUNNING):
            shown[slot] = others.pop(0)
    return shown
