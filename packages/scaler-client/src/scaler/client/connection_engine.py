"""The engine of an application's client: a link to the scheduler and a thread that attends to it."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from scaler import errors
from scaler.client.engine import Engine
from scaler.client.link_thread import LinkThread
from scaler.client.placed_payloads import PlacedPayloads
from scaler.client.steps import Start
from scaler.core import effects, events
from scaler.core.client_core import ClientCore
from scaler.serialization.edited_modules import EDITED_MODULES
from scaler_protocol.address import Address
from scaler_protocol.address_list import split_addresses
from scaler_protocol.errors import RefusedError, TransportError
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger("scaler")

JOIN_SECONDS = 5.0

EDITS_SECONDS = 1.0
"""How often is looked at most whether modules were edited."""

UNREACHABLE_SECONDS = 1.0
"""How long a scheduler that has no successor may be out of reach. Meanwhile the link tries several times to connect again."""


class ConnectionEngine(Engine):
    """Connects when it is made; `close` ends it."""

    def __init__(
        self,
        address: str,
        hello: m.Hello,
        *,
        timeout_seconds: float,
        heartbeat_seconds: float,
        object_address: str | None,
        security: PeerSecurity | None,
        holder: object,
    ) -> None:
        """`holder`: the client. When nothing refers to it any more, the engine closes once no task is unanswered.

        Raises DisconnectedError or ConnectionRefusedByScheduler when no session begins in time, or it never can.
        """
        addresses = split_addresses(address)
        core = ClientCore(
            hello.incarnation,
            hello,
            address=address,
            addresses=addresses,
            timeout_seconds=timeout_seconds,
            # An idle scheduler speaks when it is spoken to: often enough that its silence means something.
            heartbeat_seconds=min(heartbeat_seconds, timeout_seconds / 4),
        )
        super().__init__(core, hello, timeout_seconds=timeout_seconds, object_address=object_address)
        self._security = security
        self.address = address
        self._closing_when_idle = False
        # The callback is an append, no Python code: whatever interrupts the constructor, the thread does not stay.
        self._holder = weakref.ref(holder, self.steps.queue.append)
        try:
            link = DealerLink(addresses[0], hello.incarnation, security)
        except TransportError as error:
            raise errors.DisconnectedError(f"cannot connect to {address}: {error}") from None
        self._has_several_schedulers = len(addresses) > 1
        if security is None and all(Address.parse(one).is_loopback for one in addresses):
            # Else workers are most likely on other hosts. With keys, nothing lies where others of this user can read it.
            self._placed = PlacedPayloads(core)
        link.on_refused = self._on_link_refused
        self._link = link
        self._looked_at_modules = (-math.inf, 0)
        """When edits were looked for last, and the number of the next task then."""
        self._unreachable_since = math.inf
        self._last_deadline = 0.0
        """When the next turn is due at the latest, as the last one found."""
        self._thread = LinkThread(link, self, "scaler-client")
        self.steps.wake = self._thread.wake
        self._start = Start(self._thread)
        try:
            core.start(time.monotonic())
            # Its hello: the thread sends what is due, and this is due only when it has to be said again.
            self._send_effects()
            self._start()
            _open.add(self)
            # The core reports silence itself; the margin lets it tell the better story.
            self.wait_connected(timeout_seconds + 1.0)
        except errors.ScalerError as error:
            self.close(effects.Cause.CLOSED, "it never connected")
            raise _connect_error(error, link, timeout_seconds, address, met_standby=core.met_standby) from None
        except BaseException:
            # Its hello may have left, and only the thread can say goodbye.
            self._start()
            self.close(effects.Cause.CLOSED, "it was interrupted while it connected")
            raise

    def _tell_waiting(self, seconds: float) -> None:
        """See `Engine`."""
        trouble = f" ({self._link.trouble})" if self._link.trouble else ""
        logger.warning(
            "no scheduler at %s since %.0f s%s; waiting for %g s at most",
            self.address,
            seconds,
            trouble,
            self.timeout_seconds,
        )

    def must_not_wait(self) -> bool:
        """See `Engine`."""
        return self.steps.is_owner

    def storage_security(self) -> PeerSecurity | None:
        """See `Engine`."""
        return self._security

    def close(self, cause: effects.Cause = effects.Cause.CLOSED, text: str = "the client was disconnected") -> None:
        """End the session; what is unanswered fails with `cause` and `text`. Idempotent."""
        if self.forked:
            return
        if not self.steps.closed:
            self.steps.do(partial(self.core.close, cause, text))
        self.objects.close()
        self._thread.stop()
        if not self.steps.is_owner:
            self._thread.wait_ended(JOIN_SECONDS)
        _open.discard(self)

    def close_when_idle(self) -> None:
        """Called when nobody holds the client any more; from any thread, with any lock held."""
        if not self.forked:
            self._closing_when_idle = True
            self._thread.wake()

    def shut_down_cluster(self, reason: str, timeout: float) -> None:
        """Ask the scheduler to stop everything, and wait until it has heard it."""
        self.core.admission.require_usable()
        self.ask(partial(self.core.shut_down_cluster, reason))
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.core.unusable is None and self.core.goodbye_text is None:
            time.sleep(0.01)

    # --- Engine

    def _transmit(self, frames: list[Frame]) -> None:
        self._thread.send(frames)

    def _move_link(self, address: str) -> None:
        self._link.move(address)

    @property
    def address_in_use(self) -> str:
        """See `Engine`."""
        return self._link.address

    # --- LinkOwner

    def on_start(self, ident: int) -> None:
        """See `LinkOwner`."""
        self.steps.owner_ident = ident

    def before_sleep(self) -> None:
        """See `LinkOwner`: complete futures, and let threads that submit go on."""
        if self._later:
            self._perform_later()
        self.steps.note_turn()

    def on_turn(self) -> None:
        """See `LinkOwner`."""
        self._last_deadline = self._tick()
        self.steps.looks_soon = self.core.is_holding
        if self._placed is not None and self.core.idle:
            with self.lock:
                self._placed.give_back_idle()
        if self.welcome is not None and self.welcome.ends_cluster and not self._has_several_schedulers:
            self._notice_end()
        self._notice_edits()
        if self.welcome is None and self._link.misdirected and not self._has_several_schedulers:
            # A scheduler that is not there yet may come; what serves something else will not become one.
            with self.lock:
                self.core.close(effects.Cause.DISCONNECTED, self._link.trouble)
                self._send_effects()
            self._perform_later()
        if self._closing_when_idle and not self.core.unanswered_count:
            self._closing_when_idle = False
            threading.Thread(target=self.close, name="scaler-close", daemon=True).start()

    def _on_link_refused(self, error: RefusedError) -> None:
        # The link calls this in the middle of receiving: the turn that follows takes the step.
        self.steps.queue.append(partial(self._refuse, str(error)))

    def _refuse(self, reason: str) -> None:
        """Keys stay as they are: end, and connect no more. With the lock held."""
        self.core.handle(events.LinkRefused(reason), time.monotonic())
        if self.welcome is not None:
            # Otherwise the constructor waits for this, and closes.
            self._closing_when_idle = True

    def _notice_end(self) -> None:
        """A scheduler that has no successor and cannot be reached any more has ended, however that was."""
        if self._link.connected:
            self._unreachable_since = math.inf
        elif self._unreachable_since == math.inf:
            self._unreachable_since = time.monotonic()
        elif time.monotonic() >= self._unreachable_since + UNREACHABLE_SECONDS and self.core.unusable is None:
            with self.lock:
                self._take_steps()
                self.core.scheduler_ended("its process cannot be reached any more")
                self._send_effects()

    def _notice_edits(self) -> None:
        """Look whether modules were edited that tasks need, where any were submitted since the last look."""
        looked_at, before = self._looked_at_modules
        now = time.monotonic()
        if now >= looked_at + EDITS_SECONDS:
            number = self.core.next_number()
            self._looked_at_modules = now, number
            if number != before:
                EDITED_MODULES.look()

    def next_deadline(self) -> float:
        """See `LinkOwner`."""
        return self.objects.look_before(self._last_deadline)

    def on_end(self, error: BaseException | None) -> None:
        """However the thread ends, nothing stays silent."""
        text = "the client was disconnected" if error is None else f"the client's connection thread ended: {error!r}"
        with self.lock:
            self._take_steps()
            self.core.close(effects.Cause.CLOSED if error is None else effects.Cause.DISCONNECTED, text)
            if error is None:
                self._send_effects()
            else:
                self._later.extend(x for x in self.core.take_effects() if not isinstance(x, effects.Send))
            if self._placed is not None:
                self._placed.close()
        self._perform_later()
        self.steps.close()


def _connect_error(
    error: errors.ScalerError, link: DealerLink, timeout_seconds: float, address: str, *, met_standby: bool
) -> errors.DisconnectedError:
    if met_standby:
        return errors.DisconnectedError(
            f"the scheduler at {link.address} is a standby, and another one is first, which does not answer at {address}; "
            f"waited {timeout_seconds:g} s: give the addresses of both, as in tcp://a:2345,tcp://b:2345"
        )
    if isinstance(error, errors.ConnectionRefusedByScheduler):
        return error
    if link.refusal is not None:
        return errors.ConnectionRefusedByScheduler(f"{link.address}: {link.refusal}")
    if link.misdirected:
        return errors.DisconnectedError(f"{link.address} is not the address of a scheduler: {link.trouble}")
    trouble = f" ({link.trouble})" if link.trouble else ""
    return errors.DisconnectedError(
        f"no scheduler answers at {address}{trouble}, waited {timeout_seconds:g} s: is it running, and is the address right?"
    )


# Closed at exit, while threads still run: a client nobody disconnected must not be cut off in the middle of a message.
_open: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for engine in list(_open):
        engine.close(effects.Cause.CLOSED, "the program ended")
