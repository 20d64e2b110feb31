"""The contract that every core keeps: the part of a process that decides, without sockets, files, threads or a clock.

    core.handle(event, now)             # for each event
    for effect in core.take_effects():  # what to do, in the order in which the core decided it
        ...
    core.next_deadline()                # the latest time to call handle with a `Tick`

The part around a core (its shell) owns sockets, processes and time, and decides nothing. The simulation drives the same cores
under a virtual clock.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

Event = TypeVar("Event", contravariant=True)
Effect = TypeVar("Effect")

INFO, WARNING, ERROR = 20, 30, 40
"""Levels of the lines that cores have logged: those of the module `logging`, which cores do not import."""


class InvariantError(AssertionError):
    """A core's facts contradict each other. The text says which."""


def require(condition: object, text: str) -> None:
    """Raise InvariantError with this text unless the condition holds."""
    if not condition:
        raise InvariantError(text)


class Core(Protocol[Event, Effect]):
    """The methods that shells, tests and the simulation call."""

    def handle(self, event: Event, now: float) -> None:
        """Handle something that happened at `now`, in seconds of a clock that never goes back."""

    def take_effects(self) -> list[Effect]:
        """Return the effects in order, and forget them."""

    def next_deadline(self) -> float:
        """The time at which something is due without an event, on the clock of `now`; inf for never."""

    def check_invariants(self) -> None:
        """Compare all facts with each other. Raises InvariantError. For tests and the simulation, because it is slow."""


class Outbox(Generic[Effect]):
    """Effects that wait to be taken, in the order in which they were added.

    A subclass may append to `_effects` itself where a call more would be felt, which is once per task.
    """

    __slots__ = ("_effects",)

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def add(self, effect: Effect) -> None:
        """Add an effect after all others."""
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """Return all effects and forget them."""
        effects, self._effects = self._effects, []
        return effects

    def __len__(self) -> int:
        return len(self._effects)
