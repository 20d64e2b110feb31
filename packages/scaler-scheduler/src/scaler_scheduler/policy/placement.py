"""How many ready tasks one agent gets at a time, so that all end up equally loaded."""

from __future__ import annotations


def share_of(ready: int, assigned: int, total_assigned: int, total_slots: int, slots: int, spare: int) -> int:
    """Return how many of `ready` tasks to give to the least loaded agent now, at least 1 and at most `spare`.

    `assigned`, `slots` and `spare` are the agent's own; the totals are over all agents that may run these tasks. The
    agent is filled up to the load per slot that all would have if everything ready were spread evenly.
    """
    level = (total_assigned + ready) * slots
    wanted = -(-level // max(1, total_slots)) - assigned
    return max(1, min(wanted, spare, ready))
