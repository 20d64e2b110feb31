"""Where a task that reads large objects should run, given where it would be put by load alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

EQUAL_PARTS = 16
"""Agents of which one has less than such a part more than the other, of what the task reads, are as good: the less busy one is
better then."""


LINK_BYTES_PER_SECOND = 125e6
"""What a link between hosts carries, as far as anybody knows: 1 Gbit/s."""

TASK_SECONDS_MIN = 0.02
"""What a task with large objects takes at least, with all that is done for it."""


class AgentFigures(NamedTuple):
    """An agent that could take the task: how much of the task's input is on its machine, and how busy it is."""

    held_bytes: int
    """Bytes of large inputs of the task that the agent made or has read: it need not fetch them."""
    busy: int
    """Units of work assigned to it: single tasks, and whole chains."""
    slots: int
    spare: int
    """How many more tasks it would take."""
    is_open: bool = True
    """Whether it takes new tasks at all, also beyond what it wants: it is not about to leave."""


def better_agent(
    planned: AgentFigures, others: Sequence[AgentFigures], task_seconds: float = inf, *, is_last_reader: bool = False
) -> int | None:
    """Return which of `others` should run the task instead of `planned`, or None.

    One that has more bytes of its inputs, if the task would not wait longer there: a worker is free, or it is no busier than the
    planned agent. Where the planned agent is busy too, or nobody else will read the inputs (`is_last_reader`), it may be busier
    by as many tasks, of `task_seconds` each, as are done while the planned agent would fetch those bytes, and hold more than it
    wants. An idle agent that fetches what others read too has it for the next one.

    Of these the least busy one among those with about the most bytes, the first.
    """
    part = max(1, max((agent.held_bytes for agent in others), default=0) // EQUAL_PARTS)
    planned_load = planned.busy / planned.slots
    may_wait = is_last_reader or planned.busy >= planned.slots
    better = [
        (index, agent.held_bytes, agent.busy / agent.slots)
        for index, agent in enumerate(others)
        if agent.held_bytes >= planned.held_bytes + part
        and (
            (agent.spare > 0 and (agent.busy < agent.slots or agent.busy / agent.slots <= planned_load))
            or (agent.is_open and may_wait and waits_no_longer(agent, planned, task_seconds))
        )
    ]
    if not better:
        return None
    enough = max(held for _, held, _ in better) - part
    return min((load, index) for index, held, load in better if held > enough)[1]


def waits_no_longer(agent: AgentFigures, planned: AgentFigures, task_seconds: float) -> bool:
    """Whether a task waits less for a worker of `agent`, beyond what it would at `planned`, than `planned` needs to fetch."""
    more_tasks = agent.busy / agent.slots - planned.busy / planned.slots
    more_bytes = agent.held_bytes - planned.held_bytes
    return more_tasks * max(task_seconds, TASK_SECONDS_MIN) <= more_bytes / LINK_BYTES_PER_SECOND
