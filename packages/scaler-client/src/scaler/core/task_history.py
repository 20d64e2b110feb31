"""What a scheduler that is started anew must know of unanswered tasks: since when they wait, and how often they have failed.

Only tasks that ask for a deadline or for retries have entries here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import asked_of, join_records
from scaler_protocol.wire.task_history import Failures, History, with_history

FEW = 1000
"""So many entries may be of tasks that have ended."""

RETURNED_MAX = 100_000
"""So many tasks that are to be submitted anew are remembered as that."""

_JOINED = b'{"records"'
_DEADLINE = b'"deadline_seconds"'


class Before(NamedTuple):
    """What a graph had been submitted as before: its tasks come under other numbers now."""

    first_number: int
    """That of its first row then."""
    numbers: Mapping[int, int]
    """By row now: the number that this task had then."""


class TaskHistory:
    """Entries by number; a graph has its time under the number of its first row."""

    __slots__ = ("_due", "_failures", "_last_seconds", "_left_at", "_now", "_returned", "_unstamped", "next_due")

    def __init__(self) -> None:
        self._now = 0.0
        self.next_due = inf
        """When the next deadline is over, perhaps of a task that has ended."""
        self._due: list[tuple[float, int, float]] = []
        """A heap: when deadlines are over, the numbers as in `_left_at`, and how many seconds they were."""
        self._last_seconds = (b"", 0.0)
        """The options that were read last, and the deadline in them: many tasks have the same."""
        self._left_at: dict[int, float] = {}
        self._unstamped: list[tuple[int, bytes]] = []
        """Tasks that have left since the time was told."""
        self._failures: dict[int, Failures] = {}
        self._returned: dict[int, None] = {}
        """Entries of tasks that have ended, and that will `move`."""

    def set_time(self, now: float) -> None:
        """It is `now`. Called at least once in each turn, after tasks have left in it."""
        self._now = now
        if self._unstamped:
            for number, options in self._unstamped:
                if number not in self._left_at:
                    self._left_at[number] = now
                    self._note_due(number, now, options)
            self._unstamped.clear()
            self._note_next_due()

    def note_left(self, number: int, options: bytes) -> None:
        """A task with these options leaves, perhaps not for the first time."""
        if _DEADLINE in options:
            self._unstamped.append((number, options))

    def take_overdue(self, now: float) -> list[tuple[int, float]]:
        """Return, and forget, the numbers whose deadlines are over, and how many seconds these were."""
        overdue = []
        while self._due and self._due[0][0] <= now:
            _, number, seconds = heapq.heappop(self._due)
            overdue.append((number, seconds))
        self._note_next_due()
        return overdue

    def look_again(self, overdue: Iterable[tuple[int, float]], when: float) -> None:
        """These are overdue, and to be returned once more."""
        for number, seconds in overdue:
            heapq.heappush(self._due, (when, number, seconds))
        self._note_next_due()

    def _note_due(self, number: int, left_at: float, options: bytes) -> None:
        seconds = self._seconds_of(options)
        if 0.0 < seconds < inf:
            heapq.heappush(self._due, (left_at + seconds, number, seconds))

    def _note_next_due(self) -> None:
        self.next_due = self._due[0][0] if self._due else inf

    def _seconds_of(self, options: bytes) -> float:
        if options != self._last_seconds[0]:
            # Those of a graph are joined already.
            joined = options if options.startswith(_JOINED) else join_records((options,))
            self._last_seconds = (options, asked_of(joined).deadline_seconds)
        return self._last_seconds[1]

    def note_failures(self, batch: m.ResultBatch) -> None:
        """The scheduler says how often tasks have failed that it tries again."""
        for number, attempt, count in zip(batch.numbers, batch.attempts, batch.payloads.split(), strict=True):
            if count.isdigit() and len(count) < 5:
                self._failures[number] = Failures(int(count), attempt)

    def __bool__(self) -> bool:
        return bool(self._left_at or self._failures)

    def note_returned(self, numbers: Iterable[int]) -> None:
        """Tasks, or graphs, with these numbers have ended, and are submitted anew when the values they need are here."""
        for number in numbers:
            if number in self._left_at or number in self._failures:
                self._returned[number] = None
        while len(self._returned) > RETURNED_MAX:
            del self._returned[next(iter(self._returned))]

    def move(self, before: Before, first_number: int, options: bytes) -> bool:
        """What becomes of a graph counts on under other numbers. Return whether anything is known of it."""
        left_at = self._left_at.pop(before.first_number, None)
        if left_at is not None:
            self._left_at[first_number] = left_at
            self._note_due(first_number, left_at, options)
            self._note_next_due()
        failed = {row: number for row, number in before.numbers.items() if number in self._failures}
        for row, number in failed.items():
            self._failures[first_number + row] = self._failures.pop(number)
        for number in (before.first_number, *before.numbers.values()) if self._returned else ():
            self._returned.pop(number, None)
        return left_at is not None or bool(failed)

    def knows(self, numbers: Iterable[int]) -> bool:
        """Whether one of these tasks has left or failed before."""
        return any(number in self._left_at or number in self._failures for number in numbers)

    def added_to(self, options: bytes, timed: Sequence[int], numbers: Iterable[int]) -> bytes:
        """Return the options of a message that announces tasks again, with their history.

        `timed`: the numbers under which the rows' times are kept; `numbers`: those of all rows.
        """
        if not options or not (self._left_at or self._failures):
            return options
        waited = [max(0.0, self._now - self._left_at.get(number, self._now)) for number in timed]
        failures = {number: self._failures[number] for number in numbers if number in self._failures}
        return with_history(options, History(waited, failures))

    @property
    def entries_count(self) -> int:
        """How many tasks have entries, some of which may have ended. For tests."""
        return len(self._left_at.keys() | self._failures.keys() | {number for _, number, _ in self._due})

    @property
    def may_forget(self) -> bool:
        """Whether there are so many entries that `forget_ended` may have something to do."""
        return len(self._left_at) > FEW or len(self._failures) > FEW

    def forget_ended(self, unanswered: int, is_open: Callable[[int], bool]) -> None:
        """Forget what has ended, once that is much."""
        for entries in (self._left_at, self._failures):
            if len(entries) > 2 * unanswered + FEW:
                for number in [one for one in entries if one not in self._returned and not is_open(one)]:
                    del entries[number]
                if entries is self._left_at:
                    self._due = [entry for entry in self._due if entry[1] in self._left_at]
                    heapq.heapify(self._due)
                    self._note_next_due()
