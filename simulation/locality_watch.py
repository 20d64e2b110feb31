"""Checks where a scheduler sends tasks that read large objects: to where more of their bytes are, and only to somebody who is
busier where fetching them would take longer than to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scaler_scheduler.core.placement import Placement
from scaler_scheduler.policy.locality import LINK_BYTES_PER_SECOND, TASK_SECONDS_MIN, AgentFigures
from scaler_scheduler.policy.placement import PlacementPolicy
from simulation.ledger import Ledger, SimulationError

SAID_BYTES = 100_000
"""Clients and processors say that an object has so many times the bytes that it has: in a simulation all of them are small."""


class LocalityWatch(PlacementPolicy):
    """A policy that asks another one and looks at its answers."""

    name = "watched"
    summary = "asks another policy"

    def __init__(self, placement: Placement, ledger: Ledger) -> None:
        self._policy = placement._policy
        # A function: what is behind it does not count as held by the scheduler.
        self._note: Callable[[str], None] = lambda what: ledger.kinds.update((what,))
        placement._policy = self

    def choose(self, ready: int, groups: Sequence[Any]) -> Any:
        return self._policy.choose(ready, groups)

    def better_agent(
        self, planned: AgentFigures, others: Sequence[AgentFigures], task_seconds: float, *, is_last_reader: bool
    ) -> int | None:
        index = self._policy.better_agent(planned, others, task_seconds, is_last_reader=is_last_reader)
        may_wait = is_last_reader or planned.busy >= planned.slots
        if index is not None:
            chosen = others[index]
            if (
                chosen.held_bytes <= planned.held_bytes
                or not _may_take(chosen, may_wait)
                or _waits_longer(chosen, planned, task_seconds, may_wait)
            ):
                raise SimulationError(f"a task goes to {chosen} and not to {planned}")
            most = max(_without_wait(planned, others, task_seconds, may_wait), key=lambda one: one.held_bytes)
            if chosen.held_bytes < most.held_bytes * 7 / 8:
                raise SimulationError(f"a task goes to {chosen}, although {most} has more of its bytes")
            self._note("tasks sent to their bytes")
        return index


def _may_take(one: AgentFigures, may_wait: bool) -> bool:
    """Whether one may get the task: it wants more, or it stays, and the task may wait for it."""
    return one.spare > 0 or (one.is_open and may_wait)


def _waits_longer(one: AgentFigures, other: AgentFigures, task_seconds: float, may_wait: bool) -> bool:
    """Whether a worker of `one` comes free later, and, if the task may wait for that, later by more than fetching takes."""
    if one.busy < one.slots or one.busy / one.slots <= other.busy / other.slots:
        return False
    if not may_wait:
        return True
    later = (one.busy / one.slots - other.busy / other.slots) * max(task_seconds, TASK_SECONDS_MIN)
    return later > (one.held_bytes - other.held_bytes) / LINK_BYTES_PER_SECOND


def _without_wait(
    planned: AgentFigures, others: Sequence[AgentFigures], task_seconds: float, may_wait: bool
) -> Iterable[AgentFigures]:
    return [
        one for one in others if _may_take(one, may_wait) and not _waits_longer(one, planned, task_seconds, may_wait)
    ]
