"""The link between a scheduler and its standby, and when the one becomes the other. `core.succession` decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from scaler_protocol.address import Address
from scaler_protocol.errors import WireError
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Frame, encode_envelope
from scaler_scheduler.config import SchedulerConfig
from scaler_scheduler.core.succession import STANDBYS_TEXT, Change, Succession
from scaler_scheduler.store_link import connect_as_scheduler

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import ServerSecurity

logger = logging.getLogger(__name__)

DRAIN_MESSAGES = 64


class SuccessionLink:
    """What the shell of a scheduler asks. Without `standby_of` it connects to nobody, and only answers."""

    def __init__(
        self,
        standby_of: Address | None,
        lease_seconds: float,
        security: ServerSecurity | None,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change`: called when `change` is set."""
        now = time.monotonic()
        self._succession = Succession(new_id(), dials=standby_of is not None, lease_seconds=lease_seconds, now=now)
        self._on_change = on_change
        self._lease_seconds = lease_seconds
        self.change: Change | None = None
        """What this scheduler is to become; None once it is. The shell takes it with `take_change`."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._link = None if standby_of is None else connect_as_scheduler(str(standby_of), new_id(), security)
        self._was_refused = False
        self.standby: bytes | None = None
        """As which peer the other scheduler is connected here, if it is."""
        if self._link is not None:
            self._loop.add_reader(self._link.fd, self._drain)
            self._tick()

    @property
    def term(self) -> int:
        """The term of this scheduler, or the highest that it knows of."""
        return self._succession.term

    def log_start(self) -> None:
        """Say in the log if this scheduler is a standby."""
        if self._link is not None:
            logger.info(
                "it is the standby of the scheduler at %s, and takes over when nothing is heard of that one for %g s",
                self._link.address,
                self._lease_seconds,
            )

    def take_change(self) -> Change | None:
        """Return, and forget, what this scheduler is to become."""
        change, self.change = self.change, None
        if change is Change.TAKE_OVER:
            logger.warning("this scheduler takes over: it is first now (term %d)", self.term)
        elif change is Change.STEP_DOWN:
            logger.warning("another scheduler is first (term %d): this one is a standby now", self.term)
        return change

    def config(self, of_first: SchedulerConfig) -> SchedulerConfig:
        """Return what a new core is told now: this if it is first; a standby asks nobody for workers."""
        first = self._succession.is_first
        scaling = of_first.scaling if first else None
        return replace(of_first, is_first=first, term=self.term, incarnation=new_id(), scaling=scaling)

    def on_asked(self, term: int) -> None:
        """A peer says hello to a scheduler that is not first, or that has a lower term than the peer has obeyed."""
        self._note(self._succession.on_asked(term, time.monotonic()))

    def answer(self, peer: bytes, status: m.SchedulerStatus) -> list[Frame]:
        """Another scheduler has connected and says what it is. Return the message that answers it."""
        now = time.monotonic()
        if not self._succession.accepts(status, now):
            return _frames(m.Refused(STANDBYS_TEXT))
        self.standby = peer
        self._note(self._succession.on_status(status, now))
        return _frames(self._succession.status(answers=True))

    def last_words(self) -> list[Frame] | None:
        """Return what tells the standby that this scheduler ends, so that it need not wait; None where that is not first."""
        return _frames(self._succession.status(answers=True, ends=True)) if self._succession.is_first else None

    def close(self) -> None:
        """Close the link. If this scheduler is first, the other one is told that it ends."""
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._loop.remove_reader(self._link.fd)
            frames = self.last_words()
            if frames is not None:
                self._link.send(frames)
            self._link.close()

    # --- inside

    def _note(self, change: Change | None) -> None:
        if change is not None:
            self.change = change
            self._on_change()

    def _tick(self) -> None:
        link, now = self._link, time.monotonic()
        assert link is not None
        self._succession.tick(now)
        link.flush()
        for status in self._succession.take_outgoing():
            if link.connected or not link.has_queued:
                # What waits there says the same.
                link.send(_frames(status))
        self._timer = self._loop.call_later(max(0.01, self._succession.next_deadline() - now), self._tick)

    def _drain(self) -> None:
        link = self._link
        assert link is not None
        for frames in link.receive(DRAIN_MESSAGES):
            try:
                message = decode(frames[1:])
            except WireError as error:
                logger.warning("dropped a message of the other scheduler: %s", error)
                continue
            if isinstance(message, m.SchedulerStatus):
                self._was_refused = False
                self._note(self._succession.on_status(message, time.monotonic()))
            elif isinstance(message, m.Refused):
                self._succession.on_refused()
                if not self._was_refused:
                    self._was_refused = True
                    logger.error("the scheduler at %s refuses this standby: %s", link.address, message.text)
        if link.has_received:
            self._loop.call_soon(self._drain)


def _frames(message: m.Message) -> list[Frame]:
    return [encode_envelope(UNSEQUENCED), *encode(message)]
