"""An operating-system process of the simulated cluster: a mailbox, turns, stalls, and a violent end.

What arrives waits in the mailbox; a *turn* some microseconds later takes all of it, as a real shell drains its socket
before it acts. A stalled process (SIGSTOP, a machine that swaps) takes no turns until it goes on; its mailbox fills.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from simulation.clock import Clock, Timer

THINKING_S = (0.00001, 0.0005)
# A shell drains at most this many messages before it performs effects.
DRAIN_MAX = 256


class Process:
    """Base of all simulated processes. Subclasses say what a turn does with what was in the mailbox."""

    def __init__(self, name: str, clock: Clock, random: Random) -> None:
        self.name = name
        self.clock = clock
        self.random = random
        self.alive = True
        self._mailbox: deque[Any] = deque()
        self._turn: Timer | None = None
        self._deadline: Timer | None = None
        self._stalled_until = 0.0

    # --- for subclasses

    def take_turn(self, mail: list[Any]) -> None:
        """Handle `mail` (nothing when only a deadline has passed) and perform what follows from them."""
        raise NotImplementedError

    def next_deadline(self) -> float:
        """When a turn is due even if nothing arrives; inf for never."""
        raise NotImplementedError

    def after_end(self) -> None:
        """Release what the system takes back from a dead process: sockets, children."""

    # --- events

    def post(self, event: Any) -> None:
        """Put one event into the mailbox."""
        if self.alive:
            self._mailbox.append(event)
            self._plan_turn()

    def stall(self, seconds: float) -> None:
        """Stop taking turns for a while."""
        self._stalled_until = max(self._stalled_until, self.clock.now + seconds)

    def resume(self) -> None:
        """End a stall now."""
        self._stalled_until = 0.0
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            self._plan_turn()

    def end(self) -> None:
        """The process is gone, with all it had not sent; nothing of it runs again."""
        if not self.alive:
            return
        self.alive = False
        self._mailbox.clear()
        for timer in (self._turn, self._deadline):
            if timer is not None:
                timer.cancel()
        self.after_end()

    def plan_deadline(self) -> None:
        """Ask for a turn when the next deadline comes. Call after anything that may have moved it."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        when = self.next_deadline()
        if self.alive and when != float("inf"):
            self._deadline = self.clock.at(when, self._on_deadline)

    # --- inside

    def _plan_turn(self) -> None:
        if self._turn is None:
            when = max(self.clock.now, self._stalled_until) + self.random.uniform(*THINKING_S)
            self._turn = self.clock.at(when, self._on_turn)

    def _on_deadline(self) -> None:
        self._deadline = None
        self._plan_turn()

    def _on_turn(self) -> None:
        self._turn = None
        if not self.alive:
            return
        if self.clock.now < self._stalled_until:
            self._plan_turn()
            return
        events = [self._mailbox.popleft() for _ in range(min(len(self._mailbox), DRAIN_MAX))]
        self.take_turn(events)
        if not self.alive:
            return
        if self._mailbox:
            self._plan_turn()
        self.plan_deadline()
