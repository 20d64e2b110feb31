"""Where a task that reads large objects should run, given where it would be put by load alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class AgentFigures(NamedTuple):
    """An agent that could take the task: how many of the task's inputs are on its machine, and how busy it is."""

    inputs: int
    """Large inputs of the task that the agent made or has read: it need not fetch them."""
    busy: int
    """Units of work assigned to it: single tasks, and whole chains."""
    slots: int
    spare: int
    """How many more tasks it would take."""


def better_agent(planned: AgentFigures, others: Sequence[AgentFigures]) -> int | None:
    """Return which of `others` should run the task instead of `planned`, or None.

    One that has more of its inputs, if the task would not wait longer there: a worker is free, or it is no busier than the
    planned agent. Of these the one with most inputs, the least busy, the first.
    """
    best = None
    best_key = (planned.inputs, 0.0)
    for index, agent in enumerate(others):
        load = agent.busy / agent.slots
        if agent.spare <= 0 or agent.inputs <= planned.inputs:
            continue
        if load >= 1.0 and load > planned.busy / planned.slots:
            continue
        key = (agent.inputs, -load)
        if best is None or key > best_key:
            best, best_key = index, key
    return best
