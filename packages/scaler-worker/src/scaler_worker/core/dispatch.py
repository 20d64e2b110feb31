"""Which tasks each processor is handed, and when."""

from __future__ import annotations

from math import ceil

from scaler_protocol.runtime.resources import memory_bytes
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core import effects
from scaler_worker.core.durations import OVERHEAD_MICROSECONDS
from scaler_worker.core.endings import TAKE_BACK_SECONDS
from scaler_worker.core.grants import InUse, choose
from scaler_worker.core.lifecycle import ProcessorLifecycle
from scaler_worker.core.memory_limits import MemoryLimits
from scaler_worker.core.nesting import Nesting
from scaler_worker.core.pinned import Granted, granted_of
from scaler_worker.core.processors import Processor
from scaler_worker.core.returns import TaskReturns
from scaler_worker.core.slices import TaskSlice
from scaler_worker.core.state import AgentState

PIPE_MICROSECONDS = 24_000
"""Work that lies in a processor's pipe at most."""

SHARED_PIPE_MICROSECONDS = 6_000
"""The same while several clients wait: nothing overtakes what lies in a pipe."""

PIPE_TASKS_MAX = 512
PIPE_BYTES_MAX = 4 * 1024 * 1024

AHEAD_MICROSECONDS = 20_000
"""Up to this duration, a task may lie ready behind a running one when there is work for everybody."""


class Dispatcher:
    """Moves tasks from the queue into the pipes of processors: nobody else does."""

    def __init__(
        self,
        state: AgentState,
        returns: TaskReturns,
        nesting: Nesting,
        lifecycle: ProcessorLifecycle,
        memory_limits: MemoryLimits,
    ) -> None:
        self._state = state
        self._lifecycle = lifecycle
        self._slots = state.slots
        self._queue = state.queue
        self._pinned = state.pinned
        self._table = state.processors
        self._processors = state.processors.by_number
        self._counts = state.processors.counts
        self._lending = state.lending
        self._parents = state.lending.parents
        self._durations = state.durations
        self._functions = state.functions
        self._bodies = state.functions.bodies
        self._outbox = state.outbox
        self._returns = returns
        self._nesting = nesting
        self._enforces_memory = state.options.enforces_memory
        self._memory_limits = memory_limits

    def hand_over(self, now: float) -> None:
        """Hand queued tasks to processors that should have more, and lend slots where that is due."""
        lending, nesting, queue = self._lending, self._nesting, self._queue
        if not self._parents:
            if now >= nesting.return_at:
                nesting.make_room(now)
            if self._pinned.count:
                self._hand_pinned(now)
                self._hand_counted(now)
            if queue.count:
                self._assign(now)
            return
        lending.take_back_unneeded()
        if self._pinned.count:
            self._hand_pinned(now)
            self._hand_counted(now)
        if now >= nesting.return_at or lending.has_become_due(now):
            nesting.make_room(now)
        if queue.count:
            self._assign(now)
        if (queue.count or self._pinned.count) and now >= lending.due_at():
            for processor in lending.lend():
                self._returns.take_back_behind(processor)
            if self._pinned.count:
                self._hand_counted(now)
            if queue.count:
                self._assign(now)

    def _assign(self, now: float) -> None:
        """Hand tasks to processors: first one share to each idle one, then ahead to those that run short ones."""
        queue, counts = self._queue, self._counts
        if (
            queue.count == 1
            and counts[State.IDLE]
            and counts[State.RUNNING] < self._slots
            and counts[State.BLOCKED] <= self._slots
        ):
            # One task, which an idle processor takes: nothing to share, nothing to hand over ahead, no depth that is closed.
            for processor in self._processors.values():
                if processor.state is State.IDLE:
                    self._hand(processor, queue.take_only(), now)
                    break
            return
        running = [processor for processor in self._processors.values() if processor.state is State.RUNNING]
        share = ceil((queue.count + sum([processor.rows for processor in running])) / self._slots)
        if counts[State.IDLE] and len(running) < self._slots:
            for processor in self._processors.values():
                if processor.state is State.IDLE:
                    if len(running) >= self._slots or not self._fill(processor, share, now):
                        break
                    running.append(processor)
        if queue.count and len(running) <= self._slots:
            parents = self._parents
            if self._pinned.count:
                # They finish what they have: the next task there is one that waits for just that worker.
                running = [processor for processor in running if processor.slot not in self._pinned]
            for processor in running:
                # Behind a task that has run for long, or waits for others, they would only be taken back again.
                if (
                    not processor.taking_back
                    and now < processor.front_since + TAKE_BACK_SECONDS
                    and processor.number not in parents
                ):
                    self._fill(processor, share, now)

    def _hand_pinned(self, now: float) -> None:
        """Hand tasks for one worker to it, where nothing runs there."""
        for slot in self._pinned.slots():
            processor = self._idle_for(slot, now)
            if processor is None:
                continue
            granted = granted_of(self._pinned.head(slot).batch)
            if granted is not None:
                if not self._in_use().fits(granted):
                    continue
                if choose([processor], granted.devices) is None:
                    self._lifecycle.replace_idle(processor)
                    continue
            self._table.give_slot(processor, slot)
            self._hand(processor, self._pinned.take(slot), now, granted)

    def _hand_counted(self, now: float) -> None:
        """Hand tasks with counted resources to idle processors, one to each.

        Also tasks of depths at which no others may start: deeper ones may wait for what these hold. The scheduler sends no more
        of them than one for each slot and depth.
        """
        lines = self._pinned.counted_lines()
        if not lines or not self._counts[State.IDLE] or self._counts[State.RUNNING] >= self._slots:
            return
        in_use = self._in_use()
        idle = [processor for processor in self._processors.values() if processor.state is State.IDLE]
        for line in lines:
            granted = line.granted
            while line in self._pinned and idle and self._counts[State.RUNNING] < self._slots:
                if not in_use.fits(granted):
                    break
                chosen = choose(idle, granted.devices)
                if chosen is None:
                    replaced = min(idle, key=lambda processor: processor.idle_since)
                    idle.remove(replaced)
                    self._lifecycle.replace_idle(replaced)
                    break
                idle.remove(chosen)
                in_use.take(granted)
                self._hand(chosen, self._pinned.take(line), now, granted)

    def _in_use(self) -> InUse:
        return InUse(self._state.offered, self._state.options.devices, self._processors.values())

    def _idle_for(self, slot: int, now: float) -> Processor | None:
        """Return the idle processor that may run a task in this slot: the one that is there, or the one idle for longest.

        While one may be started for this slot, because the other one's task waits for its own, that one is waited for: so tasks
        for several workers run in several processes.
        """
        holder = self._table.holder(slot)
        if holder is not None and not self._lending.lend_slot_of(holder, now):
            return None
        counts = self._counts
        if not counts[State.IDLE] or counts[State.RUNNING] >= self._slots:
            return None
        idle = [processor for processor in self._processors.values() if processor.state is State.IDLE]
        chosen = min(idle, key=lambda processor: (processor.slot != slot, processor.idle_since))
        if (
            chosen.slot != slot
            and counts[State.BLOCKED] <= self._slots
            and self._table.unblocked_count() <= self._slots
        ):
            starting = any(p.slot == slot and p.state is State.STARTING for p in self._processors.values())
            if starting or self._table.unblocked_count() < self._slots:
                return None
        head = self._pinned.head(slot)
        is_closed = head.depth in self._lending.closed_depths(chosen) and granted_of(head.batch) is None
        return None if is_closed else chosen

    def _fill(self, processor: Processor, share: int, now: float) -> bool:
        """Hand a processor what it should have now; return whether it has anything."""
        queue = self._queue
        closed = self._lending.closed_depths(processor)
        bytes_left = PIPE_BYTES_MAX - processor.pipe_bytes()
        while queue.count and (head := queue.head(closed)) is not None:
            room = 1 if queue.count == 1 and not processor.rows else self._room(processor, head, share)
            if room <= 0 or (bytes_left <= 0 and processor.rows):
                break
            tasks = queue.take(head, room, max(bytes_left, 0))
            if queue.count:
                bytes_left -= tasks.payload_bytes()
            self._hand(processor, tasks, now)
        return processor.rows > 0

    def _hand(self, processor: Processor, tasks: TaskSlice, now: float, granted: Granted | None = None) -> None:
        if granted is not None and granted.devices:
            processor.devices = granted.devices
        functions = tasks.functions()
        known = processor.known
        missing = known.update(functions)
        forgotten = known.take_forgotten(len(functions))
        if processor.state is not State.RUNNING:
            if self._counts[State.RUNNING]:
                self._table.take_free_slot(processor)
            self._table.set_state(processor, State.RUNNING)
        handed = processor.push(tasks, now)
        if granted is not None and self._enforces_memory:
            limit_bytes = memory_bytes(tasks.asked.resources)
            if limit_bytes:
                self._memory_limits.watch(processor, handed.index, limit_bytes, now)
        bodies = self._bodies
        self._outbox.add(
            effects.SendTasks(
                processor.number,
                processor.generation,
                handed.index,
                handed,
                tuple([(function, bodies[function]) for function in missing]) if missing else (),
                forgotten,
                () if granted is None else granted.devices,
            )
        )
        owner = self._functions.left_owner(tasks.batch.serializer)
        if owner:
            # They set up what has been torn down.
            self._outbox.add(effects.EndEnvironment(processor.number, owner))

    def _room(self, processor: Processor, head: TaskSlice, share: int) -> int:
        """Return how many tasks like `head` the processor should be handed now."""
        estimate = self._durations.of(head)
        if estimate is None or estimate > AHEAD_MICROSECONDS:
            return 0 if processor.rows else 1
        shared = self._queue.is_shared
        if shared and estimate > SHARED_PIPE_MICROSECONDS:
            return 0 if processor.rows else 1
        pipe = SHARED_PIPE_MICROSECONDS if shared else PIPE_MICROSECONDS
        budget = max(2, min(int(pipe / max(estimate, OVERHEAD_MICROSECONDS)), PIPE_TASKS_MAX))
        if processor.rows > budget // 2:
            # Refill in larger pieces: a slice costs as much as several tasks.
            return 0
        return max(min(budget, share) - processor.rows, 0 if processor.rows else 1)
