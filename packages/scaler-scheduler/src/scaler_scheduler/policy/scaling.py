"""How many workers there should be, computed from the load in three steps.

1.  `workers_needed`: for each kind of work (tasks that ask for the same capabilities), how many workers it is worth.
2.  `steady`: needs go up at once and come down only after they have been lower for the whole cool-down.
3.  `share_out`: which adapter should have how many groups of which kind.

The strategies differ in what counts as a kind and which adapters there are: `vanilla` and `fixed_elastic` put all
work that plain workers of the adapters can do into one kind, `capability` keeps each set of wanted capabilities apart.

Work is counted in seconds where durations are known: two thousand tasks of a microsecond need no second worker, five of
an hour need five. Where nothing is known yet, the thresholds of the older tool decide, in tasks per worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import ceil

Names = frozenset[str]

PLAIN: Names = frozenset()

TASKS_PER_WORKER_MAX = 10
"""If there are more tasks of unknown duration per worker, one more group is worth starting (the older tool's threshold)."""

WORTHWHILE_SECONDS = 3.0
"""A worker is worth starting for so many seconds of work, or for as long as it takes to start if that is longer."""


class Strategy(Enum):
    """Which adapters there are, and what counts as one kind of work."""

    VANILLA = "vanilla"
    """One adapter; all work is one kind."""
    FIXED_ELASTIC = "fixed_elastic"
    """Two adapters: the first up to its limit, then the second, which shrinks first; all work is one kind."""
    CAPABILITY = "capability"
    """Any number of adapters; each set of wanted capabilities is one kind."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Unfinished work of one kind."""

    kind: Names
    waiting: int
    """Tasks that no worker is free for."""
    running: int
    """Tasks at workers, at most one for each."""
    task_seconds: float | None
    """Mean duration of one of them; None if it is not known."""

    @property
    def tasks(self) -> int:
        """Waiting and running ones."""
        return self.waiting + self.running


@dataclass(frozen=True, slots=True)
class AdapterView:
    """What an adapter can start and what exists. Groups that are starting count; groups that are leaving do not."""

    offers: Names = PLAIN
    """Capabilities of each of its workers."""
    workers_per_group: int = 1
    groups_max: int | None = None
    """None: no limit known."""
    groups: Mapping[Names, int] = field(default_factory=dict)
    """By the capabilities asked for beyond `offers`."""
    refuses: frozenset[Names] = frozenset()
    """Capabilities that it has said it cannot offer."""
    start_seconds: float = 0.0
    """How long its workers take to connect, after they were requested."""

    def extra_for(self, kind: Names) -> Names | None:
        """Return the capabilities to ask for, beyond its own, so that its workers can run `kind`; None if it has refused them."""
        extra = kind - self.offers
        return None if extra in self.refuses else extra


@dataclass(frozen=True, slots=True)
class View:
    """Everything a strategy may look at."""

    demands: Sequence[Demand]
    adapters: Sequence[AdapterView]
    connected: Mapping[Names, int] = field(default_factory=dict)
    """Workers that take tasks now, by their capabilities."""
    standing: Mapping[Names, int] = field(default_factory=dict)
    """Of these, workers that no adapter started."""


def workers_needed(strategy: Strategy, view: View) -> dict[Names, int]:
    """Return how many workers each kind of work is worth, including those that no adapter started."""
    demands = view.demands if strategy is Strategy.CAPABILITY else _merged(view)
    return {demand.kind: _need(demand, view) for demand in demands if demand.tasks}


def _merged(view: View) -> list[Demand]:
    """All work that plain workers of any adapter can do, as one kind."""
    served = [d for d in view.demands if any(d.kind <= adapter.offers for adapter in view.adapters)]
    known = [d for d in served if d.task_seconds is not None]
    count = sum(d.tasks for d in known)
    seconds = sum(d.tasks * (d.task_seconds or 0.0) for d in known)
    mean = seconds / count if count else None
    return [Demand(PLAIN, sum(d.waiting for d in served), sum(d.running for d in served), mean)]


def _need(demand: Demand, view: View) -> int:
    able = [adapter for adapter in view.adapters if adapter.extra_for(demand.kind) is not None]
    connected = _count(view.connected, demand.kind)
    if demand.task_seconds is not None:
        worthwhile = max(WORTHWHILE_SECONDS, min((adapter.start_seconds for adapter in able), default=0.0))
        need = min(demand.tasks, ceil(demand.tasks * demand.task_seconds / worthwhile))
    elif demand.tasks > TASKS_PER_WORKER_MAX * connected:
        # One more than are connected, not one more than were requested: the first results will show how many are needed.
        need = connected + 1
    else:
        need = min(connected, demand.tasks)
    need = max(need, 1, demand.running)
    if demand.waiting:
        # While work waits, no worker is stopped, whatever the estimate says.
        existing = _count(view.standing, demand.kind)
        for adapter in able:
            extra = adapter.extra_for(demand.kind)
            existing += adapter.groups.get(extra, 0) * adapter.workers_per_group if extra is not None else 0
        need = max(need, existing)
    return need


def steady(history: Iterable[tuple[float, int]], now: float, cool_down_s: float) -> int:
    """Return the largest need of the last `cool_down_s` seconds; `history` holds (time, need)."""
    return max((need for at, need in history if at >= now - cool_down_s), default=0)


def share_out(needs: Mapping[Names, int], view: View) -> list[dict[Names, int]]:
    """Return for each adapter how many groups it should have, by the capabilities asked for beyond its own.

    Workers that no adapter started are used first, and the work that asks for most capabilities chooses first. Adapters are
    filled in their order. If limits leave too few groups, each kind gets one before any gets a second.
    """
    targets: list[dict[Names, int]] = [{} for _ in view.adapters]
    spare = dict(view.standing)
    missing: dict[Names, int] = {}
    for kind in sorted(needs, key=lambda kind: (-len(kind), sorted(kind))):
        missing[kind] = needs[kind]
        for names in sorted((names for names in spare if kind <= names), key=len):
            taken = min(spare[names], missing[kind])
            spare[names] -= taken
            missing[kind] -= taken
    for groups_max in (1, None):
        for kind, workers in missing.items():
            missing[kind] = _place(kind, workers, groups_max, view.adapters, targets)
    return targets


def _place(
    kind: Names,
    workers: int,
    groups_max: int | None,
    adapters: Sequence[AdapterView],
    targets: list[dict[Names, int]],
) -> int:
    """Add up to `groups_max` groups for `kind` to the targets, and return how many workers are still missing."""
    for adapter, target in zip(adapters, targets, strict=True):
        extra = adapter.extra_for(kind)
        if extra is None or workers <= 0 or groups_max == 0:
            continue
        groups = ceil(workers / adapter.workers_per_group)
        if adapter.groups_max is not None:
            groups = min(groups, max(0, adapter.groups_max - sum(target.values())))
        if groups_max is not None:
            groups = min(groups, groups_max)
            groups_max -= groups
        if groups:
            target[extra] = target.get(extra, 0) + groups
            workers -= groups * adapter.workers_per_group
    return max(workers, 0)


def _count(workers: Mapping[Names, int], kind: Names) -> int:
    return sum(count for names, count in workers.items() if kind <= names)
