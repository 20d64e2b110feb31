"""The thread that sleeps until a link has something to receive, something is due, or somebody wakes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from scaler.client.sleepers import Sleepers
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.transport.wakeup import Wakeup
from scaler_protocol.wire.envelope import Frame

MESSAGES_PER_TURN = 64


class LinkOwner(Protocol):
    """Who the thread works for. All methods are called by the thread, none with a lock held."""

    def on_start(self, ident: int) -> None:
        """The thread has started; `ident` is its own."""

    def on_messages(self, messages: list[list[Frame]]) -> None:
        """These arrived."""

    def on_turn(self) -> None:
        """Called before every sleep: do what is due, send what waits."""

    def before_sleep(self) -> None:
        """Tell others what came, as the last thing of a turn."""

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
        self.wake: Callable[[], None] = self._wakeup.set
        """Makes the thread take a turn soon, from any thread, which may be interrupted."""
        self.redirect = link.redirect
        """See `DealerLink.redirect`. For the thread itself."""
        self._stopping = False
        self._has_ended = False
        self._end = Sleepers()

    def send(self, frames: list[Frame]) -> None:
        """Send one message, from any thread."""
        if self._link.send(frames):
            # Also from this thread: it may be about to sleep.
            self._wakeup.set()

    def stop(self) -> None:
        """Ask the thread to end; it sends what `on_turn` sends a last time. Does not wait."""
        self._stopping = True
        self._wakeup.set()

    def wait_ended(self, seconds: float) -> None:
        """Wait until it has ended, or so many seconds. Not from the thread itself."""
        deadline = time.monotonic() + seconds
        while not self._has_ended and (remaining := deadline - time.monotonic()) > 0:
            self._end.sleep(self._is_over, remaining)

    def _is_over(self) -> bool:
        return self._has_ended

    def run(self) -> None:
        """The thread: work for the owner until `stop`, or until something fails."""
        error: BaseException | None = None
        try:
            self._owner.on_start(threading.get_ident())
            self._loop()
        except BaseException as caught:
            error = caught
        finally:
            try:
                self._owner.on_end(error)
            finally:
                self._link.close()
                self._wakeup.close()
                self._has_ended = True
                self._end.wake()

    def _loop(self) -> None:
        link, owner, wakeup = self._link, self._owner, self._wakeup
        readable = True
        while True:
            stopping = self._stopping
            if readable and (messages := link.receive(MESSAGES_PER_TURN)):
                owner.on_messages(messages)
            owner.on_turn()
            if stopping:
                return
            readable = link.has_received
            if readable:
                owner.before_sleep()
            else:
                # Whoever is told then waits for the interpreter lock until this thread sleeps: nothing may come between.
                seconds = max(0.0, owner.next_deadline() - time.monotonic())
                readable = link.wait(seconds, wakeup, owner.before_sleep)
