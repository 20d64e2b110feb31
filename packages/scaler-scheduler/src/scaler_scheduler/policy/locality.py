"""Where a task that reads large objects should run, given where it would be put by load alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Host(NamedTuple):
    """An agent that could take the task: how many of its inputs are there, and how busy it is."""

    inputs: int
    """Large inputs of the task that this host made or has read: no need to fetch them."""
    busy: int
    """Tasks (and chains) assigned to it."""
    slots: int
    spare: int
    """How many more it would take."""


def better_host(planned: Host, others: Sequence[Host]) -> int | None:
    """Return which of `others` should run the task instead of `planned`, or None.

    One that has more of its inputs, if the task would not wait longer there: a worker is free, or it is no busier than the
    planned host. Of these the one with most inputs, the least busy, the first.
    """
    best = None
    best_key = (planned.inputs, 0.0)
    for index, host in enumerate(others):
        load = host.busy / host.slots
        if host.spare <= 0 or host.inputs <= planned.inputs or (load >= 1.0 and load > planned.busy / planned.slots):
            continue
        key = (host.inputs, -load)
        if best is None or key > best_key:
            best, best_key = index, key
    return best
