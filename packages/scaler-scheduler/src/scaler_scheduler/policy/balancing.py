"""Which agents should give back how many tasks that have not started, so that idle workers get some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Load(NamedTuple):
    """One agent: tasks assigned to it, how many it can run at once, and how many of the tasks an idle agent may run."""

    assigned: int
    slots: int
    movable: int


def tasks_to_recall(loads: Sequence[Load]) -> list[int]:
    """Return for each agent how many tasks to recall; all zeros where no worker is idle or nothing waits elsewhere.

    Idle means fewer assigned tasks than slots. Donors give from what they cannot run at once, down to the even level.
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
