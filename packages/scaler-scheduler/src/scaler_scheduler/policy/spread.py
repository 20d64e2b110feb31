"""The two policies that spread tasks evenly over workers: one heeds the capabilities that tasks ask for, one does not."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_scheduler.policy.placement import Agent, GroupView, PlacementPolicy


class Capability(PlacementPolicy):
    """Fills each agent up to the load per slot that all would have if everything ready were spread evenly.

    Agents that offer more capabilities get tasks when those that offer fewer have no room.
    """

    name = "capability"
    summary = "sends each task to a worker that offers the capabilities it asks for, and spreads tasks evenly"

    def choose(self, ready: int, groups: Sequence[GroupView[Agent]]) -> tuple[Agent, int] | None:
        """Return the least loaded agent that may run the tasks, and its share of them."""
        agent = groups[0].least_loaded() if len(groups) == 1 else _least_loaded(groups)
        if agent is None:
            return None
        if ready == 1:
            return agent, 1
        assigned = slots = 0
        for other in groups:
            assigned += other.assigned
            slots += other.slots
        return agent, share_of(ready, agent.assigned, assigned, slots, agent.slots, agent.spare)


class Even(Capability):
    """The same for all workers alike."""

    name = "even"
    summary = "spreads tasks evenly over all workers and ignores capabilities"
    enforces_capabilities = False


def _least_loaded(groups: Sequence[GroupView[Agent]]) -> Agent | None:
    """Return the least loaded agent of the least specialised groups with room, the first of equals."""
    best: Agent | None = None
    best_load, names = 0.0, 0
    for group in groups:
        if best is not None and len(group.names) > names:
            break
        agent = group.least_loaded()
        if agent is None:
            continue
        load = agent.assigned / agent.slots
        if best is None or load < best_load:
            best, best_load, names = agent, load, len(group.names)
            if not load:
                break
    return best


def share_of(ready: int, assigned: int, total_assigned: int, total_slots: int, slots: int, spare: int) -> int:
    """Return how many of `ready` tasks to give to the least loaded agent now, at least 1 and at most `spare`.

    `assigned`, `slots` and `spare` are the agent's own; the totals are over all agents that may run these tasks. The
    agent is filled up to the load per slot that all would have if everything ready were spread evenly.
    """
    level = (total_assigned + ready) * slots
    wanted = -(-level // max(1, total_slots)) - assigned
    return max(1, min(wanted, spare, ready))
