"""Turns: whatever is ready at the same moment is read in one go, handled in one turn, and all that follows is sent.

With a reader of its own for each descriptor, an event loop would call them one by one, and a turn for all would cost a further
pass through the loop, on the way of every single task.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections import deque
from collections.abc import Callable

READY_MAX = 1024

STAY_SECONDS = 0.001
"""How long to wait for more right after a turn, before the event loop has its own again: a pass through it costs as much as a
task does, and answers come at once."""

STAY_SECONDS_MAX = 0.005
"""How long timers, signals and everything else may have to wait for that."""

TURNS_MAX = 4
"""Turns in a row before it is read again. One turn asks for another in a service that it has sent something."""

logger = logging.getLogger(__name__)


class Turns:
    """The turns of an event loop. Services that share the loop share these: each is awake when another has something for it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._seats: list[Seat] = []
        self._due: deque[Seat] = deque()
        self._awake = False
        """Whether turns are under way, or about to be."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._run)

    def join(self, turn: Callable[[], None], rest: Callable[[], None]) -> Seat:
        """Take part. `turn` is called soon after the seat's `schedule`; `rest` when the turns are over for now, to set timers."""
        seat = Seat(self, turn, rest)
        self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Take part no more, not even in a turn that was asked for. Idempotent."""
        if seat in self._seats:
            self._seats.remove(seat)
        if seat in self._due:
            self._due.remove(seat)
        # So that asking for a turn does nothing from here on.
        seat.is_due = True

    def add(self, descriptor: int, read: Callable[[], None]) -> None:
        """Have `read` called whenever the descriptor is readable."""
        self._readers[descriptor] = read
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor, before it is closed. One that is not known is ignored."""
        if self._readers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    # --- inside

    def _wake(self) -> None:
        self._awake = True
        self._loop.call_soon(self._run)

    def _run(self) -> None:
        """Read and have turns, for as long as more comes at once; then let the event loop have its own."""
        self._awake = True
        until = time.monotonic() + STAY_SECONDS_MAX
        stay, seconds = False, 0.0
        while not self._epoll.closed:
            ready = self._epoll.poll(seconds, READY_MAX)
            if ready:
                stay = True
            elif not self._due:
                break
            # What fails in one service keeps no other from its turn.
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
                seat = self._due.popleft()
                seat.is_due = False
                try:
                    seat.turn()
                except Exception:
                    logger.exception("a turn failed")
            if time.monotonic() >= until:
                break
            if self._due:
                seconds = 0.0
            elif stay:
                seconds = STAY_SECONDS
            else:
                break
        self._awake = False
        for seat in list(self._seats):
            try:
                seat.rest()
            except Exception:
                logger.exception("a service could not set its timers")
        if self._due and not self._awake:
            self._wake()


class Seat:
    """One service's part in the turns."""

    __slots__ = ("_turns", "is_due", "rest", "turn")

    def __init__(self, turns: Turns, turn: Callable[[], None], rest: Callable[[], None]) -> None:
        self._turns = turns
        self.turn = turn
        self.rest = rest
        self.is_due = False

    def schedule(self) -> None:
        """Have a turn soon, once however often this is called before it comes."""
        if not self.is_due:
            self.is_due = True
            turns = self._turns
            turns._due.append(self)
            if not turns._awake:
                turns._wake()
