"""Reads all descriptors that are ready, then lets each service handle what has come, in one pass through the event loop.

An event loop would call a reader for each descriptor one by one, and a service that collects what they read would run in a
further pass. That pass would be on the way of every single task.

A service *registers* two callbacks. `turn` handles everything that has come for it and sends what follows. `on_idle` sets its
timers, once no service has anything left to do.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections import deque
from collections.abc import Callable

READY_MAX = 1024
"""Descriptors read per pass, at most."""

LINGER_SECONDS = 0.001
"""How long to wait for more right after a turn, before the event loop goes on: a pass through it costs as much as a task does,
and answers come at once."""

PASS_SECONDS_MAX = 0.005
"""How long timers, signals and everything else of the event loop may have to wait for that."""

TURNS_MAX = 4
"""Turns in a row before descriptors are read again. A turn may schedule one of another service, which it has sent something."""

logger = logging.getLogger(__name__)


class Reactor:
    """Belongs to one event loop. Services in the same loop share it, so each runs when another has sent it something."""

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
        """Remove a service: it has no further turn, not even one that is scheduled. Idempotent."""
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
        """Forget a descriptor, before it is closed. One that is not known is ignored."""
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
        """Read and call turns, for as long as more comes at once; then return to the event loop."""
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
        """Have a turn soon, once however often this is called before it comes."""
        if not self.is_due:
            self.is_due = True
            reactor = self._reactor
            reactor._due.append(self)
            if not reactor._awake:
                reactor._wake()
