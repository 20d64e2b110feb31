"""What tests see of an agent: values, copied from its facts, that nothing changes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scaler_protocol.wire.messages import ProcessorState
from scaler_worker.core.capacity import Capacity
from scaler_worker.core.state import AgentState


@dataclass(slots=True, frozen=True)
class ProcessorSnapshot:
    """One processor."""

    number: int
    slot: int
    state: ProcessorState
    front_index: int
    """The index of the task that runs, or of the next one it will be handed."""
    tasks: tuple[int, ...]
    """Numbers of the tasks it was handed and has not answered, in order: the first one runs."""


@dataclass(slots=True, frozen=True)
class AgentSnapshot:
    """A whole agent."""

    stopped: bool
    established: bool
    """Whether the scheduler has welcomed this agent."""
    capacity: int
    """How many tasks it wants to hold in all."""
    processors: Mapping[int, ProcessorSnapshot]
    queued: tuple[tuple[int, ...], ...]
    """Numbers of the tasks that are queued, by piece of a batch, in the order in which they are handed over."""
    pinned: tuple[int, ...]
    """Numbers of the tasks that wait for one worker each."""
    mean_task_microseconds: float | None
    """What the agent takes for the mean duration of tasks; None before the first result."""
    parents: frozenset[int]
    """Processors in which clients have unanswered tasks."""


def take_snapshot(state: AgentState, capacity: Capacity, now: float) -> AgentSnapshot:
    """Return what the agent holds and knows at `now`."""
    return AgentSnapshot(
        stopped=state.departure.stopped,
        established=state.connection.established,
        capacity=capacity.wanted(now),
        processors={
            number: ProcessorSnapshot(
                number=number,
                slot=processor.slot,
                state=processor.state,
                front_index=processor.front_index,
                tasks=tuple(task for piece in processor.pipe for task in piece.numbers),
            )
            for number, processor in state.processors.by_number.items()
        },
        queued=tuple(tuple(piece.numbers) for piece in state.queue),
        pinned=tuple(number for piece in state.pinned for number in piece.numbers),
        mean_task_microseconds=state.durations.mean_microseconds,
        parents=frozenset(state.lending.parents),
    )
