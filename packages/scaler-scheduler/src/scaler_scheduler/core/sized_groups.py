"""Worker groups on hosts of a size: what adapters are told that waiting tasks ask for.

Only adapters that say so choose the size of a host, and only for the resources that they name. A group for tasks whose ask no
connected host can serve is started beside those that are needed anyway, once: what exists is not stopped while tasks wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaler_protocol.runtime.resources import NO_AMOUNTS, Amounts
from scaler_scheduler.core.adapters import Adapter
from scaler_scheduler.policy.group_resources import host_amounts
from scaler_scheduler.policy.scaling import Names


class _Ask(NamedTuple):
    kind: Names
    amounts: Amounts
    tasks: int
    is_served: bool
    """Whether a connected host could serve it."""


class SizedGroups:
    """The asks of one look at the waiting tasks, and what follows from them for each adapter."""

    def __init__(self, adapters: Sequence[Adapter], *, any_extra: bool) -> None:
        """`any_extra`: adapters are asked for capabilities beyond those of all their workers."""
        self._adapters = adapters
        self._any_extra = any_extra
        self._asks: list[_Ask] = []

    def begin(self) -> None:
        """Forget the asks of the last look."""
        self._asks = []

    def note(self, kind: Names, amounts: Amounts, count: int, *, is_served: bool) -> None:
        """So many waiting tasks with these capabilities ask for this of a host."""
        self._asks.append(_Ask(kind, amounts, count, is_served))

    def can_bring(self, kind: Names, amounts: Amounts) -> bool:
        """Whether an adapter can start a host of a size that serves this ask."""
        return any(self._can_bring(adapter, kind, amounts) for adapter in self._adapters)

    def _can_bring(self, adapter: Adapter, kind: Names, amounts: Amounts) -> bool:
        extra = kind - adapter.offers
        return (
            adapter.ready
            and bool(amounts)
            and adapter.sizes.issuperset(name for name, _ in amounts)
            and (self._any_extra or not extra)
            and not adapter.refuses(extra, amounts)
        )

    def amounts_for(self, adapter: Adapter, extra: Names) -> Amounts:
        """Return the size of the next host that a group with these further capabilities gets; empty: any."""
        asks = [
            (tuple(item for item in ask.amounts if item[0] in adapter.sizes), ask.tasks)
            for ask in self._asks
            if ask.kind - adapter.offers == extra
        ]
        # Those that are missed come first: a host as large as the largest ask is better than none.
        missing = self._missing(adapter, extra)
        for amounts in (
            host_amounts(asks, adapter.workers_per_group),
            host_amounts(asks, 1),
            *(host_amounts([(ask.amounts, 1)], 1) for ask in missing),
        ):
            if amounts and not adapter.refuses(extra, amounts):
                return amounts
        return NO_AMOUNTS

    def raise_targets(self, adapter: Adapter, target: dict[Names, int], existing: Mapping[Names, int]) -> None:
        """Have the adapter keep or start a group for asks that no connected host can serve."""
        for extra in {ask.kind - adapter.offers for ask in self._asks if not ask.is_served}:
            missing = self._missing(adapter, extra)
            if missing:
                there = existing.get(extra, 0)
                # Also where one has come and does not have what it was to have: another would not either.
                more = any(not adapter.has_group_for(extra, ask.amounts) for ask in missing)
                target[extra] = max(target.get(extra, 0), there + more)

    def _missing(self, adapter: Adapter, extra: Names) -> list[_Ask]:
        return [
            ask
            for ask in self._asks
            if not ask.is_served
            and ask.kind - adapter.offers == extra
            and self._can_bring(adapter, ask.kind, ask.amounts)
        ]
