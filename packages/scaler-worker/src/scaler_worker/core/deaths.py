"""What an agent does about processors that die again and again: it waits before it starts more, and counts."""

from __future__ import annotations

from math import inf

FREE_DEATHS = 1
"""The number of deaths in a row that delay nothing: a processor that died once is replaced at once."""

FIRST_DELAY_SECONDS = 0.01
DELAY_SECONDS_MAX = 0.5

UNSTARTED_DEATHS_MAX = 3
"""The number of processor deaths after which a task that was next each time, and had not begun, is charged with one of them."""

UNSTARTED_TASKS_MAX = 256


class Backoff:
    """When the host may start processors again. The delay doubles with every death in a row; a result ends the row."""

    __slots__ = ("_until", "deaths")

    def __init__(self) -> None:
        self.deaths = 0
        """Processors that died since one of this host last answered a task."""
        self._until = -inf

    def note_death(self, now: float) -> None:
        """Count the death of a processor at `now`; after several the next start waits."""
        self.deaths += 1
        doublings = self.deaths - FREE_DEATHS - 1
        if doublings >= 0:
            # Beyond 2**10 the delay is at its bound anyway.
            self._until = now + min(FIRST_DELAY_SECONDS * 2 ** min(doublings, 10), DELAY_SECONDS_MAX)

    def note_success(self) -> None:
        """Forget the deaths: a processor has answered a task."""
        self.deaths = 0
        self._until = -inf

    def due(self, now: float) -> float:
        """When processors may be started next; `-inf` for at once."""
        return self._until if now < self._until else -inf


class UnstartedDeaths:
    """Counts, for tasks that were next when their processor died, how often that happened.

    Such a task is most likely innocent, so the first deaths cost it nothing. But one whose processor dies of reading it would be
    handed out for ever. Only the most recent `UNSTARTED_TASKS_MAX` tasks are remembered.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[tuple[bytes, int], int] = {}

    def is_too_many(self, client: bytes, number: int) -> bool:
        """Count one more death; return whether the task is to be held responsible, and count anew then."""
        key = (client, number)
        count = self._counts.pop(key, 0) + 1
        if count >= UNSTARTED_DEATHS_MAX:
            return True
        self._counts[key] = count
        if len(self._counts) > UNSTARTED_TASKS_MAX:
            del self._counts[next(iter(self._counts))]
        return False
