"""Which of several schedulers a peer asks: only one of them is first, and the others say that they are not. Pure.

The peer stays where it is welcome. If nothing is heard there for `patience_seconds`, it asks the next address, and so on in a
circle until one welcomes it. A false alarm (the same session goes on where it was) makes it more patient: what is slow, such
as a network full of this peer's own bytes, is not gone.
"""

from __future__ import annotations

from collections.abc import Sequence

PATIENCE_SECONDS = 2.5
"""Silence after which the next address is asked: two heartbeats of this case are unanswered, and the hello after them."""

PATIENCE_SECONDS_MAX = 40.0

ATTEMPT_SECONDS = 0.5
"""How long an address has to answer while the first scheduler is searched."""

ATTEMPT_SECONDS_MAX = 5.0

ATTEMPT_GROWTH = 1.5
"""By how much that grows with each round in which no address has welcomed the peer."""

PAUSE_SECONDS = 0.2
"""How long to wait where a scheduler says that it is not first, while the first one is searched."""

HEARTBEAT_SECONDS = 1.0
"""Longest time between two signs of life of a peer that has several addresses."""


class AddressRound:
    """The addresses of one peer, and which of them it uses now. With one address nothing is ever due."""

    __slots__ = ("_addresses", "_attempt_seconds", "_go_on_at", "_index", "_searching", "patience_seconds")

    def __init__(self, addresses: Sequence[str]) -> None:
        self.patience_seconds = PATIENCE_SECONDS
        self._addresses = tuple(addresses)
        self._index = 0
        self._searching = False
        """Whether no address has welcomed the peer since the last move."""
        self._attempt_seconds = ATTEMPT_SECONDS
        self._go_on_at = float("inf")

    @property
    def several(self) -> bool:
        """Whether there is another address to go on to."""
        return len(self._addresses) > 1

    @property
    def current(self) -> str:
        """The address in use; empty where none was given."""
        return self._addresses[self._index] if self._addresses else ""

    def start(self, now: float) -> None:
        """The first hello is said."""
        if self.several:
            self._searching = True
            self._go_on_at = now + 2 * ATTEMPT_SECONDS

    def next_deadline(self, silent_since: float) -> float:
        """When to `go_on`, for a peer that has heard nothing since `silent_since`; infinity for never."""
        if not self.several:
            return float("inf")
        return self._go_on_at if self._searching else min(self._go_on_at, silent_since + self.patience_seconds)

    def on_not_first(self, now: float) -> None:
        """The scheduler at this address is not first, or not any more."""
        if self.several:
            self._go_on_at = now + PAUSE_SECONDS if self._searching else now

    def on_welcome(self, *, resumed: bool) -> None:
        """The scheduler at this address is first."""
        if resumed and self._searching:
            self.patience_seconds = min(2 * self.patience_seconds, PATIENCE_SECONDS_MAX)
        elif not resumed:
            self.patience_seconds = PATIENCE_SECONDS
        self._searching = False
        self._attempt_seconds = ATTEMPT_SECONDS
        self._go_on_at = float("inf")

    def go_on(self, now: float) -> str:
        """Return the next address, which is asked from now on."""
        self._index = (self._index + 1) % len(self._addresses)
        if self._searching and not self._index:
            self._attempt_seconds = min(ATTEMPT_GROWTH * self._attempt_seconds, ATTEMPT_SECONDS_MAX)
        self._searching = True
        self._go_on_at = now + self._attempt_seconds
        return self._addresses[self._index]
