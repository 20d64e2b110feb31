"""Reads all descriptors that are ready, then lets each service handle what has arrived, in one pass of the event loop.

Without it, the event loop would call a reader for each descriptor, and the service would handle what they read in a further
pass. Every single task would need that pass.

A service *registers* two callbacks. `turn` handles everything that has arrived for it and sends the consequences. `on_idle` sets
its timers when no service has anything left to do.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections import deque
from collections.abc import Callable

READY_MAX = 1024
"""Most descriptors read in a pass."""

LINGER_SECONDS = 0.001
"""How long to wait for more after a turn before returning to the event loop. A pass of the loop costs as much as a task, and
answers usually come at once."""

PASS_SECONDS_MAX = 0.005
"""The longest that timers, signals and other work of the event loop wait for that."""

TURNS_MAX = 4
"""Most turns in a row before descriptors are read again. A turn may schedule one of another service by sending it a message."""

logger = logging.getLogger(__name__)


class Reactor:
    """Belongs to one event loop. All services of the loop share it, so each runs when another has sent it a message."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._registrations: list[Registration] = []
        self._due: deque[Registration] = deque()
        self._awake = False
        """Whether it runs, or is about to."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._run)

    def register(self, turn: Callable[[], None], on_idle: Callable[[], None]) -> Registration:
        """Add a service. `turn` is called soon after the registration's `schedule`; `on_idle` when there is no more to do."""
        registration = Registration(self, turn, on_idle)
        self._registrations.append(registration)
        return registration

    def unregister(self, registration: Registration) -> None:
        """Remove a service. It gets no further turn, not even a scheduled one. Idempotent."""
        if registration in self._registrations:
            self._registrations.remove(registration)
        if registration in self._due:
            self._due.remove(registration)
        # So that `schedule` does nothing from here on.
        registration.is_due = True

    def add_reader(self, descriptor: int, read: Callable[[], None]) -> None:
        """Have `read` called whenever the descriptor is readable."""
        self._readers[descriptor] = read
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove_reader(self, descriptor: int) -> None:
        """Forget a descriptor before it is closed. Unknown ones are ignored."""
        if self._readers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    # --- private

    def _wake(self) -> None:
        self._awake = True
        self._loop.call_soon(self._run)

    def _run(self) -> None:
        """Read and call turns as long as more arrives at once; then return to the event loop."""
        self._awake = True
        until = time.monotonic() + PASS_SECONDS_MAX
        linger, seconds = False, 0.0
        while not self._epoll.closed:
            ready = self._epoll.poll(seconds, READY_MAX)
            if ready:
                linger = True
            elif not self._due:
                break
            # An exception in one service must not keep another from its turn.
            for descriptor, _ in ready:
                read = self._readers.get(descriptor)
                # One reader may remove another.
                if read is not None:
                    try:
                        read()
                    except Exception:
                        logger.exception("a reader failed")
            for _ in range(TURNS_MAX):
                if not self._due:
                    break
                registration = self._due.popleft()
                registration.is_due = False
                try:
                    registration.turn()
                except Exception:
                    logger.exception("a turn failed")
            if time.monotonic() >= until:
                break
            if self._due:
                seconds = 0.0
            elif linger:
                seconds = LINGER_SECONDS
            else:
                break
        self._awake = False
        for registration in list(self._registrations):
            try:
                registration.on_idle()
            except Exception:
                logger.exception("a service could not set its timers")
        if self._due and not self._awake:
            self._wake()


class Registration:
    """One service in a reactor."""

    __slots__ = ("_reactor", "is_due", "on_idle", "turn")

    def __init__(self, reactor: Reactor, turn: Callable[[], None], on_idle: Callable[[], None]) -> None:
        self._reactor = reactor
        self.turn = turn
        self.on_idle = on_idle
        self.is_due = False

    def schedule(self) -> None:
        """Have a turn soon; only one, however often this is called before it."""
        if not self.is_due:
            self.is_due = True
            reactor = self._reactor
            reactor._due.append(self)
            if not reactor._awake:
                reactor._wake()
