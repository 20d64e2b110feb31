"""Virtual time: what is due next happens next, and nothing waits.

Everything in a simulated run happens as an action on this clock, so that one seed gives one order of events, always.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Timer:
    """One action that is due at `when`; `cancel` takes it back."""

    __slots__ = ("action", "number", "when")

    def __init__(self, when: float, number: int, action: Action) -> None:
        self.when = when
        self.number = number
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None

    def __lt__(self, other: Timer) -> bool:
        # Equal times happen in the order they were asked for.
        return (self.when, self.number) < (other.when, other.number)


class Clock:
    """The queue of everything that will happen. `now` is seconds since the run began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._numbers = 0
        self._timers: list[Timer] = []

    def at(self, when: float, action: Action) -> Timer:
        """Do `action` at `when`; a time already past means: next."""
        self._numbers += 1
        timer = Timer(max(when, self.now), self._numbers, action)
        heapq.heappush(self._timers, timer)
        return timer

    def after(self, delay: float, action: Action) -> Timer:
        return self.at(self.now + delay, action)

    def step(self) -> bool:
        """Do the next action; False when there is none."""
        while self._timers:
            timer = heapq.heappop(self._timers)
            if timer.action is None:
                continue
            self.now = timer.when
            self.steps += 1
            timer.action()
            return True
        return False
