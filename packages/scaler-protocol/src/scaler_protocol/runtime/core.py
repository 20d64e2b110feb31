"""The contract that every core keeps: the part of a process that decides, without sockets, files, threads or a clock.

    core.handle(event, now)             # for everything that happens
    for effect in core.take_effects():  # what follows from it, in the order in which it was decided
        ...
    core.next_deadline()                # when to call handle with a `Tick`, at the latest

The part around a core (its shell) owns sockets, processes and time, and decides nothing. The simulation drives the same cores
under a virtual clock.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

Event = TypeVar("Event", contravariant=True)
Effect = TypeVar("Effect")


class InvariantError(AssertionError):
    """A core's facts contradict each other. The text says which."""


class Core(Protocol[Event, Effect]):
    """What shells, tests and the simulation may ask of any core."""

    def handle(self, event: Event, now: float) -> None:
        """Take in something that has happened at `now`, in seconds of a clock that never goes back."""

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, in order, and forget it."""

    def next_deadline(self) -> float:
        """When something is due although nothing happens, on the clock of `now`; inf for never."""

    def check_invariants(self) -> None:
        """Compare all facts with each other. Raises InvariantError. For tests and the simulation: it takes long."""


class Outbox(Generic[Effect]):
    """Effects that wait to be taken, in the order in which they were added."""

    __slots__ = ("_effects",)

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def add(self, effect: Effect) -> None:
        """Have this done after everything added before it."""
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """Return all effects and forget them."""
        effects, self._effects = self._effects, []
        return effects

    def __len__(self) -> int:
        return len(self._effects)
