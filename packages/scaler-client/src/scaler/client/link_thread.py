"""The thread that sleeps until a link has something to receive, something is due, or somebody wakes it."""

from __future__ import annotations

import contextlib
import math
import select
import selectors
import threading
import time
from typing import Protocol

from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.transport.wakeup import Wakeup
from scaler_protocol.wire import Frame

MESSAGES_PER_TURN = 64
LONGEST_SLEEP_SECONDS = 1.0
"""The link's descriptor is edge-triggered; should an edge ever be missed, this bounds the delay."""

QUEUED_SLEEP_SECONDS = 0.005
"""While the link has something that the network would not take."""


class LinkOwner(Protocol):
    """Who the thread works for. All methods are called by the thread, none with a lock held."""

    def on_messages(self, messages: list[list[Frame]]) -> None:
        """These arrived."""

    def on_turn(self) -> None:
        """Called before every sleep: do what is due, send what waits."""

    def before_sleep(self) -> bool:
        """Tell others what came, as the last thing of a turn. Returns whether that may have sent anything."""

    def next_deadline(self) -> float:
        """When `on_turn` has something to do, on the monotonic clock; infinity for never."""

    def on_end(self, error: BaseException | None) -> None:
        """The thread ends: as asked (None), or because of this. Whoever waits for it must be told."""


class LinkThread(threading.Thread):
    """Owns a link from `start` to its end, and closes it then."""

    def __init__(self, link: DealerLink, owner: LinkOwner, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._link = link
        self._owner = owner
        self._wakeup = Wakeup()
        self._stopping = False

    def send(self, frames: list[Frame]) -> None:
        """Send one message, from any thread."""
        waiting = self._link.send(frames)
        if (waiting or self._link.has_queued) and threading.get_ident() != self.ident:
            # The send has swallowed the edge that would have woken the thread, or it must be tried again.
            self._wakeup.set()

    def wake(self) -> None:
        """Make the thread take a turn soon, from any thread."""
        self._wakeup.set()

    def stop(self) -> None:
        """Ask the thread to end; it sends what `on_turn` sends a last time. Does not wait."""
        self._stopping = True
        self._wakeup.set()

    def run(self) -> None:
        error: BaseException | None = None
        try:
            self._loop()
        except BaseException as caught:
            error = caught
        finally:
            try:
                self._owner.on_end(error)
            finally:
                self._link.close()
                self._wakeup.close()

    def _loop(self) -> None:
        link, owner, wakeup = self._link, self._owner, self._wakeup
        with contextlib.closing(_Sleeper([link.fd, wakeup.fileno()])) as sleeper:
            while True:
                stopping = self._stopping
                while messages := link.receive(MESSAGES_PER_TURN):
                    owner.on_messages(messages)
                    if len(messages) < MESSAGES_PER_TURN:
                        break
                owner.on_turn()
                if link.has_queued:
                    link.flush()
                if stopping:
                    return
                # Sending and receiving both swallow edges: look again before sleeping.
                if link.readable():
                    owner.before_sleep()
                else:
                    seconds = self._sleep_seconds()
                    # Whoever is told now waits for the interpreter lock until this thread sleeps: let nothing come between.
                    if not (owner.before_sleep() and link.readable()):
                        sleeper.sleep(seconds)
                wakeup.clear()

    def _sleep_seconds(self) -> float:
        longest = QUEUED_SLEEP_SECONDS if self._link.has_queued else LONGEST_SLEEP_SECONDS
        return max(0.0, min(longest, self._owner.next_deadline() - time.monotonic()))


class _Sleeper:
    """Sleeps until one of some descriptors is readable; by poll where there is one, as it is the cheapest for two."""

    def __init__(self, descriptors: list[int]) -> None:
        self._poll = None
        self._selector = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            for descriptor in descriptors:
                self._poll.register(descriptor, select.POLLIN)
        else:
            self._selector = selectors.DefaultSelector()
            for descriptor in descriptors:
                self._selector.register(descriptor, selectors.EVENT_READ)

    def sleep(self, seconds: float) -> None:
        if self._poll is not None:
            self._poll.poll(math.ceil(seconds * 1000))
        elif self._selector is not None:
            self._selector.select(seconds)

    def close(self) -> None:
        if self._selector is not None:
            self._selector.close()
