"""Figures of the last minutes: spans are added up, and what is too old or too much is dropped."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_ui.model import recent
from scaler_ui.model.recent import RecentFigures

START = 1_790_000_040.0
"""A whole minute."""


@dataclass
class Sum:
    total: int = 0

    def merge(self, other: Sum, /) -> None:
        self.total += other.total


def kept() -> RecentFigures[str, Sum]:
    return RecentFigures(lambda _: Sum())


def add(figures: RecentFigures[str, Sum], key: str, at: float, count: int = 1) -> None:
    for one in figures.at(key, at):
        one.total += count


def totals(figures: RecentFigures[str, Sum], seconds: float, now: float) -> dict[str, int]:
    return {key: one.total for key, one in figures.within(seconds, now)[0].items()}


def test_a_range_has_what_came_in_it() -> None:
    figures = kept()
    for second in range(3600):
        add(figures, "a" if second % 2 else "b", START + second)
    now = START + 3599.5
    assert totals(figures, 60, now) == {"a": 35, "b": 35}
    assert figures.within(60, now)[1] == START + 3530
    assert totals(figures, 300, now) == {"a": 155, "b": 155}
    assert totals(figures, 900, now) == {"a": 480, "b": 480}
    assert totals(figures, 3600, now) == {"a": 1800, "b": 1800}
    assert totals(figures, 3600, now + 3000) == {"a": 330, "b": 330}


def test_what_comes_late_counts_when_it_happened() -> None:
    figures = kept()
    add(figures, "a", START + 3000)
    add(figures, "a", START + 2400)
    assert totals(figures, 60, START + 3000) == {"a": 1}
    assert totals(figures, 900, START + 3000) == {"a": 2}
    add(figures, "a", START + 90_000)
    add(figures, "a", START + 3000)
    assert totals(figures, 3600, START + 90_000) == {"a": 1}


def test_what_is_too_much_is_dropped_and_said() -> None:
    figures = kept()
    for number in range(recent.ENTRIES_MAX + 10):
        add(figures, str(number), START + number % 2 * 60)
    sums, since = figures.within(3600, START + 70)
    assert since == START + 60
    assert len(sums) <= recent.ENTRIES_MAX // 2 + 10
    add(figures, "late", START + 5)
    assert "late" not in figures.within(3600, START + 70)[0]
