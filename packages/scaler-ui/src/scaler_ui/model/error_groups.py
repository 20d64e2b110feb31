"""Failures in groups: those of one type in one function, whose messages differ only in numbers, names and addresses."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from scaler_ui.model.failures import FailedTask

GROUPS_MAX = 500
SPAN_SECONDS = 10
"""Failures of the last hour are counted in spans of this length."""

TREND_SECONDS = 3600
TREND_BARS = 60
SHAPE_MAX = 300

_QUOTED = re.compile(r"'[^'\n]{0,200}'|\"[^\"\n]{0,200}\"|`[^`\n]{0,200}`")
# Sixteen digits after a decimal point belong to a number.
_HEXADECIMAL = re.compile(
    r"\b(?:0x[0-9a-fA-F]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?<!\d\.)[0-9a-f]{16,})\b"
)
_PATH = re.compile(r"(?<![\w.])(?:/[\w.+-]+){2,}")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")


def shape_of(text: str) -> str:
    """Return the first line of a message with its numbers, quoted texts, paths and ids replaced by signs."""
    line = text.strip().split("\n", 1)[0][:2_000]
    line = _QUOTED.sub("'…'", line)
    line = _HEXADECIMAL.sub("#", line)
    line = _PATH.sub("/…", line)
    line = _NUMBER.sub("#", line)
    return line[:SHAPE_MAX]


def bar_seconds(seconds: int) -> int:
    """Return the length of a part of a trend over `seconds`."""
    return max(SPAN_SECONDS, -(-seconds // TREND_BARS // SPAN_SECONDS) * SPAN_SECONDS)


@dataclass(slots=True)
class ErrorGroup:
    """One group. Times are Unix times."""

    number: int
    kind: str
    function: str
    shape: str
    count: int = 0
    items: int = 0
    """Failed items of map chunks among them."""
    first_at: float = 0.0
    last_at: float = 0.0
    last: FailedTask | None = None
    changed: int = 0
    """What `ErrorGroups.changes` was when it was counted last."""
    spans: dict[int, int] = field(default_factory=dict)
    """Failures by spans of `SPAN_SECONDS` of Unix time; the last hour is kept."""

    def trend(self, now: float, seconds: int = TREND_SECONDS) -> list[int]:
        """Return the failures of the last `seconds`, an hour at most, in equal parts, the newest last; that one still grows."""
        width = bar_seconds(seconds)
        last = int(now // width)
        bars = [0] * max(1, seconds // width)
        for span, count in self.spans.items():
            at = last - span * SPAN_SECONDS // width
            if 0 <= at < len(bars):
                bars[-1 - at] += count
        return bars


class ErrorGroups:
    """All groups, bounded. The group that had no failure for longest is dropped first."""

    def __init__(self, limit: int = GROUPS_MAX) -> None:
        self.limit = limit
        self.count = 0
        """How many groups there ever were; groups are numbered from 1."""
        self.changes = 0
        """How many failures were counted: what has changed since can be told by it."""
        self._groups: OrderedDict[tuple[str, str, str], ErrorGroup] = OrderedDict()

    def __len__(self) -> int:
        return len(self._groups)

    def newest_first(self) -> list[ErrorGroup]:
        """Return all groups. The one that failed last comes first."""
        return list(reversed(self._groups.values()))

    def add(self, failure: FailedTask) -> None:
        """Count one failure."""
        key = key_of(failure)
        group = self._groups.get(key)
        if group is None:
            self.count += 1
            group = self._groups[key] = ErrorGroup(self.count, *key, first_at=failure.at)
            if len(self._groups) > self.limit:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        self.changes += 1
        group.changed = self.changes
        group.count += 1
        group.items += failure.items
        group.first_at = min(group.first_at, failure.at)
        group.last_at = max(group.last_at, failure.at)
        group.last = failure
        span = int(failure.at // SPAN_SECONDS)
        if span not in group.spans:
            for old in [known for known in group.spans if known < span - TREND_SECONDS // SPAN_SECONDS]:
                del group.spans[old]
        group.spans[span] = group.spans.get(span, 0) + 1

    def number_of(self, failure: FailedTask) -> int | None:
        """Return the number of a failure's group; None if that was dropped."""
        group = self._groups.get(key_of(failure))
        return None if group is None else group.number


def key_of(failure: FailedTask) -> tuple[str, str, str]:
    """Return what failures of one group have in common: type, function, shape of the message."""
    return failure.error.kind, failure.function, shape_of(failure.error.text)
