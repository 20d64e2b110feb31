"""How many tasks that have not started each agent should give back, so that idle workers get work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Load(NamedTuple):
    """The load of one agent.

    `assigned`: units of work it holds. `slots`: how many it can run at once. `movable`: tasks of it that an idle agent may run.
    """

    assigned: int
    slots: int
    movable: int


def tasks_to_recall(loads: Sequence[Load]) -> list[int]:
    """Return for each agent how many tasks to recall: 0 for all, if no worker is idle or no task waits elsewhere.

    An agent is idle if it has fewer tasks than slots. The others give tasks that they cannot run at once, until all agents have
    the same load per slot.
    """
    idle = sum(load.slots - load.assigned for load in loads if load.assigned < load.slots)
    recalls = [0] * len(loads)
    slots = sum(load.slots for load in loads)
    if not idle or not slots:
        return recalls
    level = sum(load.assigned for load in loads) / slots
    excess = [min(load.movable, max(0, int(load.assigned - max(load.slots, level * load.slots)))) for load in loads]
    for index in sorted(range(len(loads)), key=lambda index: excess[index], reverse=True):
        if idle <= 0 or excess[index] <= 0:
            break
        recalls[index] = excess[index]
        idle -= excess[index]
    return recalls
