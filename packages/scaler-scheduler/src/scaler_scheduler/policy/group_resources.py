"""What a new host should have, so that waiting tasks with counted resources can run there."""

from __future__ import annotations

from collections.abc import Iterable

from scaler_protocol.runtime.resources import GPU, ONE, Amounts

Asks = Iterable[tuple[Amounts, int]]
"""What waiting tasks ask for, and how many ask for it."""


def host_amounts(asks: Asks, tasks_max: int) -> Amounts:
    """Return what a host needs to run any `tasks_max` of these tasks at once: of each resource, as much as the largest asks."""
    by_name: dict[str, list[int]] = {}
    for amounts, count in asks:
        for name, amount in amounts:
            by_name.setdefault(name, []).extend([amount] * min(count, tasks_max))
    sums = {name: sum(sorted(amounts)[-tasks_max:]) for name, amounts in sorted(by_name.items())}
    if GPU in sums:
        # A host has whole devices.
        sums[GPU] = -(-sums[GPU] // ONE) * ONE
    return tuple(sums.items())


def covers(amounts: Amounts, ask: Amounts) -> bool:
    """Whether these amounts are enough for an ask."""
    there = dict(amounts)
    return all(there.get(name, 0) >= amount for name, amount in ask)
