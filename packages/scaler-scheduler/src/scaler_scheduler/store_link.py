"""The scheduler's link to object storage: requests to it, its answers, and what the log says if it cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scaler_protocol.errors import WireError, WrongServerKeyError
from scaler_protocol.objects.storage import CHECK_SECONDS, StoreChanged, StoreRequests, TooManyRequestsError
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope
from scaler_protocol.wire.object_batches import joined

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import ServerSecurity

logger = logging.getLogger(__name__)

DRAIN_MESSAGES = 256
"""Largest number of messages that are read before other work goes on."""

STATUS_SECONDS = 10.0
"""How long the object storage server may take to say how much it holds, before it is asked again."""

UNREACHED_SECONDS = 3.0
"""How long there may be no connection before the log says so. A server that is started again is back sooner."""

TOLD_AGAIN_SECONDS = 10.0
"""While it waits, the log says so again after this time."""

_SAME_KEYS = (
    "Both servers need the same --security-dir: scaler_keys export DIR server OUT makes a copy for another machine"
)

_SILENT = "what listens there takes the connection and does not answer; another scheduler with the same keys does so"


class StoreLink:
    """Sends and receives on the running event loop."""

    def __init__(
        self,
        address: str,
        incarnation: bytes,
        security: ServerSecurity | None,
        on_status: Callable[[m.StoreStatus, float], None],
        on_objects: Callable[[m.ObjectList], None],
        on_lost: Callable[[m.ObjectsLost, float], None],
        on_replaced: Callable[[float], None],
        known_clients: Callable[[], tuple[bytes, ...]],
        term: int = 0,
    ) -> None:
        """Begin to connect.

        `known_clients` returns the clients whose end the core will tell.

        `on_status` is called with each answer to `ask_status`, `on_lost` when objects are lost, `on_replaced` when another
        server answers than before, all with the time; `on_objects` with each answer to `ask_objects`. `term`: this scheduler's,
        by which the server knows which of two is first.
        """
        self._loop = asyncio.get_running_loop()
        self._on_status = on_status
        self._on_objects = on_objects
        self._on_lost = on_lost
        self._on_replaced = on_replaced
        self._requests = StoreRequests(
            m.Hello(m.Role.SCHEDULER, f"scheduler-{os.getpid()}", incarnation, pid=os.getpid(), term=term),
            # By its hello the server knows that there is somebody who tells it which clients have ended.
            check_seconds=CHECK_SECONDS,
            known_clients=lambda: m.ClientsKnown(known_clients()),
        )
        self._link = connect_as_scheduler(address, incarnation, security)
        self._asked_at = float("-inf")
        self._reached_at = time.monotonic()
        self._is_answered = False
        """Whether what listens there has ever answered: only an object storage server does."""
        self._took_connection = False
        self._told = ""
        """The trouble that the log tells last; empty while there is a connection."""
        self._told_at = float("-inf")
        self._loop.add_reader(self._link.fd, self._drain)
        # What is no object storage server says so.
        self._requests.introduce(time.monotonic())
        self.flush(time.monotonic())

    def close(self) -> None:
        """Close the connection."""
        self._loop.remove_reader(self._link.fd)
        self._link.close()

    def next_deadline(self) -> float:
        """Return when to call `flush` at the latest."""
        return self._requests.next_deadline()

    def flush(self, now: float) -> None:
        """Send what is due. Connects again if the connection is lost."""
        requests, link = self._requests, self._link
        requests.tick(now)
        for message in joined(requests.take_outgoing()):
            link.send([encode_envelope(UNSEQUENCED), *encode(message)])
        if link.has_queued:
            link.flush()
        if link.misdirected:
            self._tell_trouble(now)

    def watch(self, now: float) -> None:
        """Connect again if the connection is lost, and say in the log if that does not help. To be called often."""
        link = self._link
        if link.connected and self._is_answered:
            self._reached_at = now
            if self._told:
                self._told = ""
                logger.info("the object storage server at %s answers", link.address)
            return
        link.flush()
        self._took_connection |= link.connected
        if now >= self._reached_at + UNREACHED_SECONDS:
            self._tell_trouble(now)

    def keep_owner(self, client: bytes) -> None:
        """Keep the objects of a client, which came back."""
        self._requests.keep_owner(client)

    def tell(self, message: m.ObjectDelete | m.ClientGone | m.ObjectsGone | m.Shutdown, now: float) -> None:
        """Have objects deleted, say which are not to be waited for, or have the server stopped."""
        try:
            if isinstance(message, m.ObjectDelete):
                self._requests.delete(message.ids, message.owner, now)
            elif isinstance(message, m.ClientGone):
                self._requests.end_owner(message.client, now)
            else:
                self._requests.tell(message, now)
        except TooManyRequestsError as error:
            logger.warning("objects that nobody needs stay in object storage: %s", error)
        self.flush(now)

    def ask_status(self, now: float, *, even_if_unanswered: bool) -> bool:
        """Ask the server how much it holds. Return whether it was asked.

        `even_if_unanswered`: also while the answer to the last question may still arrive.
        """
        if not even_if_unanswered and now < self._asked_at + STATUS_SECONDS:
            return False
        self._asked_at = now
        self._requests.tell(m.StoreStatusRequest(1), now)
        self.flush(now)
        return True

    def ask_objects(self, requests: Sequence[m.ObjectListRequest], now: float) -> None:
        """Ask the server for pages of its list of objects."""
        for request in requests:
            self._requests.tell(request, now)
        if requests:
            self.flush(now)

    # --- private

    def _drain(self) -> None:
        link = self._link
        now = time.monotonic()
        for frames in link.receive(DRAIN_MESSAGES):
            try:
                message = decode(frames[1:])
                self._is_answered = True
                if isinstance(message, m.Refused):
                    logger.error(
                        "the object storage server at %s refuses this scheduler: %s", link.address, message.text
                    )
                if isinstance(message, m.StoreStatus):
                    self._asked_at = float("-inf")
                    self._on_status(message, now)
                elif isinstance(message, m.ObjectList):
                    self._on_objects(message)
                elif isinstance(message, m.ObjectsLost):
                    self._on_lost(message, now)
                elif any(isinstance(one, StoreChanged) for one in self._requests.receive(message, now)):
                    self._on_replaced(now)
            except WireError as error:
                logger.warning("dropped a message of the object storage server: %s", error)
        if link.has_received:
            self._loop.call_soon(self._drain)
        self.flush(now)

    def _tell_trouble(self, now: float) -> None:
        link = self._link
        if self._took_connection and not self._is_answered and not link.misdirected:
            trouble = _SILENT
        else:
            trouble = link.trouble or "what listens there does not answer"
        if isinstance(link.refusal, WrongServerKeyError):
            trouble = f"{trouble}. {_SAME_KEYS}"
        if trouble != self._told:
            self._told, self._told_at = trouble, now
            logger.error("no object storage server answers at %s: %s", link.address, trouble)
        elif now >= self._told_at + TOLD_AGAIN_SECONDS:
            self._told_at = now
            logger.error(
                "no object storage server at %s since %.0f s: %s", link.address, now - self._reached_at, trouble
            )


def connect_as_scheduler(address: str, incarnation: bytes, security: ServerSecurity | None) -> DealerLink:
    """Return a link from this scheduler to object storage or to another scheduler. With keys, both servers have the same."""
    if security is None:
        return DealerLink(address, b"scheduler-" + incarnation)
    # Imported late: only with keys is PyNaCl needed.
    from scaler_protocol.security.credentials import PeerSecurity
    from scaler_protocol.security.keys import pinned_id

    public = security.own.public
    return DealerLink(address, pinned_id(public), PeerSecurity(security.own, public))
