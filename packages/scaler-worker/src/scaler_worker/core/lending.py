"""Which tasks hold a slot, and which have lent theirs because they wait for tasks of their own.

A processor that is BLOCKED has lent its slot: another one runs further tasks in its place. There are two ways to lend.

*Asked*: the running task waits in our own future, and its processor says so.
*Unasked*: a task can wait in any other way (an event, a queue, an event loop, another thread), and nobody says so. All that is
known is that it has *unfinished* work: clients inside it have unanswered tasks. Its slot is lent when nested tasks are queued
here, every slot is held, and every holder has had its time: `UNASKED_SECONDS` for tasks with unfinished work, and
`PATIENCE_SECONDS` for others, which are expected to end. The loan ends when the work is finished, when the task ends, or when no
nested task needs the slot.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf

from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core.pinned import PinnedTasks
from scaler_worker.core.processors import Processor, ProcessorTable
from scaler_worker.core.queue import TaskQueue

UNASKED_SECONDS = 0.005
"""A task that has unfinished work for so long, and did not say that it blocks, may be waiting in a way nobody sees."""

PATIENCE_SECONDS = 0.5
"""A task without unfinished work that runs for so long no longer counts as one whose slot comes free soon."""


class Lending:
    """The rules above, over the agent's processors and its queue. Alone writes what a processor has lent, and since when."""

    def __init__(self, table: ProcessorTable, queue: TaskQueue, pinned: PinnedTasks) -> None:
        self._table = table
        self._slots = table.slots
        self._processors = table.by_number
        self._counts = table.counts
        self._queue = queue
        self._pinned = pinned
        self.parents: dict[int, Processor] = {}
        """Processors in which clients have unanswered tasks, whatever their state."""
        self._was_due_at = inf

    # --- what is known

    def block(self, processor: Processor) -> None:
        """The running task of a processor says that it waits for a task of its own: its slot is lent."""
        processor.lent_unasked = False
        self._table.set_state(processor, State.BLOCKED)

    def unblock(self, processor: Processor, unfinished: bool, now: float) -> None:
        """A blocked task goes on; `unfinished` as in `note_unfinished`."""
        if processor.state is State.BLOCKED:
            self._table.set_state(processor, State.RUNNING)
        self.note_unfinished(processor, unfinished, now)

    def note_unfinished(self, processor: Processor, unfinished: bool, now: float) -> None:
        """Clients inside a processor have unanswered tasks since now, or have none any more."""
        if unfinished:
            processor.unfinished_since = now
            self.parents[processor.number] = processor
            return
        self.parents.pop(processor.number, None)
        if processor.lent_unasked and processor.state is State.BLOCKED:
            self._table.set_state(processor, State.RUNNING)

    def forget(self, processor: Processor) -> None:
        """The processor has ended: whatever it lent is taken back with it."""
        self.parents.pop(processor.number, None)

    def closed_depths(self, target: Processor | None = None, further: int = 0) -> Collection[int]:
        """Return the depths at which no further task may start (at `target`, behind what it has).

        `further` is how many more slots than now to count as lent.

        Every blocked task keeps a process. While no more are blocked than there are slots, any task may start; beyond that
        no more than one per slot of each depth. So processes are bounded by the deepest nesting, branches of a recursion
        go on side by side, and the deepest blocked task's own children can always start: nothing of their depth blocks.
        """
        if self._counts[State.BLOCKED] + further <= self._slots:
            return ()
        begun: dict[int, int] = {}
        for processor in self._processors.values():
            pipe = processor.pipe
            if not pipe or processor is target:
                continue
            if len(pipe) == 1:
                # Nearly always, and with many processors this is asked for every task.
                depth = pipe[0].batch.depth
                begun[depth] = begun.get(depth, 0) + 1
            else:
                for depth in {tasks.depth for tasks in pipe}:
                    begun[depth] = begun.get(depth, 0) + 1
        slots = self._slots
        return [depth for depth, count in begun.items() if count >= slots]

    # --- lending unasked

    def due_at(self) -> float:
        """From when on slots are lent unasked to nested tasks that cannot start; infinite while nobody could lend one."""
        if not self.parents or self._counts[State.RUNNING] < self._slots:
            return inf
        latest = -inf
        lenders = False
        for processor in self._processors.values():
            if processor.state is State.RUNNING:
                if processor.number in self.parents:
                    lenders = True
                    if processor.lent_index == processor.front_index:
                        # It was found to wait once, and is taken to do so again.
                        continue
                    until = max(processor.unfinished_since, processor.front_since) + UNASKED_SECONDS
                else:
                    until = processor.front_since + PATIENCE_SECONDS
                latest = max(latest, until)
        return latest if lenders else inf

    def waits_unseen(self, processor: Processor, now: float) -> bool:
        """Whether a running task has unfinished work and has had its time."""
        return processor.number in self.parents and (
            processor.lent_index == processor.front_index
            or now >= max(processor.unfinished_since, processor.front_since) + UNASKED_SECONDS
        )

    def has_become_due(self, now: float) -> bool:
        """Whether lending is due for another reason than when this was last asked."""
        due_at = self.due_at()
        if due_at > now:
            return False
        before, self._was_due_at = self._was_due_at, due_at
        return due_at != before

    def lenders(self) -> Sequence[Processor]:
        """Return the processors that hold a slot and could lend it, those whose task began first in front."""
        running = [processor for processor in self.parents.values() if processor.state is State.RUNNING]
        return sorted(running, key=lambda processor: processor.front_since)

    def nested_count(self, further: int = 0) -> int:
        """Return how many nested tasks are queued here and may start where there is a slot; `further` as above."""
        # Those with counted resources too, however deep: deeper ones may need what they hold.
        counted = self._pinned.counted_tasks() if self._pinned.count else 0
        return self._queue.count_open(self.closed_depths(None, further), 1) + counted

    def lend(self) -> list[Processor]:
        """Lend as many slots unasked as nested tasks want. Where lending is due, after free slots have been filled.

        Returns lenders that have tasks behind the running one: these have to be taken back first.
        """
        encumbered: list[Processor] = []
        for processor in self.lenders():
            # Every loan may close a depth: only what can start after it counts.
            if self.nested_count(1) <= self._slots - self._counts[State.RUNNING]:
                break
            if processor.rows > 1:
                encumbered.append(processor)
            else:
                processor.lent_unasked = True
                processor.lent_index = processor.front_index
                self._table.set_state(processor, State.BLOCKED)
        return encumbered

    def lend_slot_of(self, processor: Processor, now: float) -> bool:
        """Lend the slot of a running processor unasked, if its task has unfinished work and has had its time."""
        if processor.rows > 1 or not self.waits_unseen(processor, now):
            return False
        processor.lent_unasked = True
        processor.lent_index = processor.front_index
        self._table.set_state(processor, State.BLOCKED)
        return True

    def take_back_unneeded(self) -> None:
        """End loans made unasked whose slots no nested task will fill: they are not there for other tasks."""
        loans = [
            processor
            for processor in self.parents.values()
            if processor.state is State.BLOCKED and processor.lent_unasked
        ]
        if not loans:
            return
        unneeded = self._slots - self._counts[State.RUNNING] - self.nested_count()
        for processor in reversed(loans):
            if unneeded <= 0:
                return
            self._table.set_state(processor, State.RUNNING)
            unneeded -= 1
