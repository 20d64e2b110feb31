"""What a scheduler that is started anew must know of unanswered tasks: since when they wait, and how often they have failed.

Only tasks that ask for a deadline or for retries have entries here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.task_history import Failures, History, with_history

FEW = 1000
"""So many entries may be of tasks that have ended."""

_DEADLINE = b'"deadline_seconds"'


class TaskHistory:
    """Entries by number; a graph has its time under the number of its first row."""

    __slots__ = ("_failures", "_left_at", "_now", "_unstamped")

    def __init__(self) -> None:
        self._now = 0.0
        self._left_at: dict[int, float] = {}
        self._unstamped: list[int] = []
        """Tasks that have left since the time was told."""
        self._failures: dict[int, Failures] = {}

    def set_time(self, now: float) -> None:
        """It is `now`. Called at least once in each turn, after tasks have left in it."""
        self._now = now
        if self._unstamped:
            for number in self._unstamped:
                self._left_at.setdefault(number, now)
            self._unstamped.clear()

    def note_left(self, number: int, options: bytes) -> None:
        """A task with these options leaves, perhaps not for the first time."""
        if _DEADLINE in options:
            self._unstamped.append(number)

    def note_failures(self, batch: m.ResultBatch) -> None:
        """The scheduler says how often tasks have failed that it tries again."""
        for number, attempt, count in zip(batch.numbers, batch.attempts, batch.payloads.split(), strict=True):
            if count.isdigit() and len(count) < 5:
                self._failures[number] = Failures(int(count), attempt)

    def added_to(self, options: bytes, timed: Sequence[int], numbers: Iterable[int]) -> bytes:
        """Return the options of a message that announces tasks again, with their history.

        `timed`: the numbers under which the rows' times are kept; `numbers`: those of all rows.
        """
        if not options or not (self._left_at or self._failures):
            return options
        waited = [max(0.0, self._now - self._left_at.get(number, self._now)) for number in timed]
        failures = {number: self._failures[number] for number in numbers if number in self._failures}
        return with_history(options, History(waited, failures))

    def forget_ended(self, unanswered: int, is_open: Callable[[int], bool]) -> None:
        """Forget what has ended, once that is much."""
        for entries in (self._left_at, self._failures):
            if len(entries) > 2 * unanswered + FEW:
                for number in [number for number in entries if not is_open(number)]:
                    del entries[number]
