"""Figures of the last minutes and of the last hour: kept by spans of time, and added up for the range that somebody asks for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

FINE_SECONDS, FINE_RANGE_SECONDS = 10.0, 300.0
"""A span, and the longest range that is made of such spans."""

COARSE_SECONDS, COARSE_RANGE_SECONDS = 60.0, 3600.0

ENTRIES_MAX = 20_000
"""Figures that are kept of all spans together. Where there would be more, the oldest spans are dropped."""


class Figures(Protocol):
    """What can be added up."""

    def merge(self, other: Any, /) -> None:
        """Add figures of another time, of the same kind."""


Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept", bound=Figures)


class _Spans(Generic[Key, Kept]):
    """Spans of one length, by number."""

    def __init__(self, span_s: float, range_s: float) -> None:
        self.span_s = span_s
        self.spans_max = int(range_s / span_s) + 1
        self.by_number: dict[int, dict[Key, Kept]] = {}
        self.entries = 0
        self.dropped_until = 0.0
        """Of earlier times something was dropped, because it was too much."""

    def find(self, key: Key, at: float, make: Callable[[Key], Kept]) -> Kept | None:
        """Return the figures to add to. None: that was too long ago."""
        number = int(at // self.span_s)
        span = self.by_number.get(number)
        if span is None:
            newest = max(self.by_number, default=number)
            if number <= newest - self.spans_max or (number + 1) * self.span_s <= self.dropped_until:
                return None
            span = self.by_number[number] = {}
            for old in [known for known in self.by_number if known <= number - self.spans_max]:
                self.entries -= len(self.by_number.pop(old))
        found = span.get(key)
        if found is None:
            found = span[key] = make(key)
            self.entries += 1
            while self.entries > ENTRIES_MAX and len(self.by_number) > 1:
                oldest = min(self.by_number)
                self.entries -= len(self.by_number.pop(oldest))
                self.dropped_until = (oldest + 1) * self.span_s
        return found


class RecentFigures(Generic[Key, Kept]):
    """Figures by key and time. `make` makes empty ones."""

    def __init__(self, make: Callable[[Key], Kept]) -> None:
        self._make = make
        self._fine: _Spans[Key, Kept] = _Spans(FINE_SECONDS, FINE_RANGE_SECONDS)
        self._coarse: _Spans[Key, Kept] = _Spans(COARSE_SECONDS, COARSE_RANGE_SECONDS)

    def at(self, key: Key, time: float) -> list[Kept]:
        """Return the figures that something at that Unix time is added to."""
        found = (spans.find(key, time, self._make) for spans in (self._fine, self._coarse))
        return [one for one in found if one is not None]

    def within(self, seconds: float, now: float) -> tuple[dict[Key, Kept], float]:
        """Return the sums over the last `seconds` until `now`, and since when they count.

        Spans are whole, so they count since up to a span earlier; or since later, if no more is kept.
        """
        spans = self._fine if seconds <= FINE_RANGE_SECONDS else self._coarse
        first = int((now - min(seconds, COARSE_RANGE_SECONDS)) // spans.span_s)
        sums: dict[Key, Kept] = {}
        for number, span in spans.by_number.items():
            if number < first:
                continue
            for key, figures in span.items():
                total = sums.get(key)
                if total is None:
                    total = sums[key] = self._make(key)
                total.merge(figures)
        return sums, max(first * spans.span_s, spans.dropped_until)
