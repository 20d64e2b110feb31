"""One to many, for monitors: a slow subscriber loses messages, and nobody else notices.

Why not libzmq's XPUB: one `recv` of it takes in subscriptions as long as a subscriber sends them, for many seconds and into
gigabytes of memory, and no option of it bounds that. It also cannot close the connection of one subscriber.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scaler_protocol.transport.admission import OnRefused, RefusalKind
from scaler_protocol.transport.limits import ListenerLimits
from scaler_protocol.transport.router import RouterListener, SendOutcome
from scaler_protocol.transport.streams import publisher_streams
from scaler_protocol.transport.subscriptions import READERS, SUBSCRIBE
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.security.authority import Authority
    from scaler_protocol.security.credentials import ServerSecurity

SEND_QUEUE_MESSAGES = 32
"""Most messages that wait for one subscriber, besides those in the system's socket buffers; it loses further ones.

A scheduler publishes two to four a second and at most a dozen at once, so this is enough for some ten seconds. Subscribers
share waiting messages, so many stopped ones cost no more than one.
"""

CONNECTIONS_MAX = 256
"""Subscribers at once. Each costs a call to the system for each message."""

CONNECTIONS_PER_ADDRESS_MAX = 128
HALF_OPEN_MAX = 64

TOPICS_MAX = 100
"""Topics of one subscriber."""

EVENTS_MAX = 16
"""Subscribers that are read in one turn, see `PAUSE_SECONDS`."""

PAUSE_SECONDS = 0.02
"""Pause after each turn, so that subscribers that send all the time get no more than a part of the publisher's thread."""

STALL_SECONDS_MAX = 30.0
"""A subscriber whose queue is full for so long is disconnected. It connects again when it goes on."""


class Publisher:
    """A bound XPUB. It knows the subscriptions, so that the owner collects only what somebody wants.

    Call `update_subscribers` if `fd` is readable, but not before a pause of `PAUSE_SECONDS`.
    A topic is the beginning of a message's first frame; the empty one stands for everything.
    """

    def __init__(
        self,
        address: str,
        *,
        queue_messages: int = SEND_QUEUE_MESSAGES,
        security: ServerSecurity | None = None,
        on_connected: Callable[[str, Authority | None], None] | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        """`queue_messages` may wait for each subscriber.

        With `security`, only monitors and operators are let in. `on_connected` is called with (address, whose key it has) for
        each subscriber, `on_refused` for each that is not let in or is disconnected for what it sent. Raises TransportError
        when the address cannot be bound.
        """
        self._on_connected = on_connected
        self._subscribers: dict[bytes, dict[bytes, None]] = {}
        """By identity of the connection: its topics."""
        self._topics: Counter[bytes] = Counter()
        """How many subscribers each topic has."""
        self._stalled: dict[bytes, float] = {}
        """Since when the queue of a subscriber has been full."""
        self.subscriptions_made = 0
        """How many subscriptions there have been, also those that were cancelled."""
        self._router = RouterListener(
            address,
            security=security,
            on_refused=on_refused,
            on_connected=self._add_subscriber,
            limits=ListenerLimits(
                connections=CONNECTIONS_MAX,
                connections_per_address=CONNECTIONS_PER_ADDRESS_MAX,
                half_open=HALF_OPEN_MAX,
                queue_messages=queue_messages,
                events=EVENTS_MAX,
            ),
            new_stream=publisher_streams(security),
        )
        self.address = self._router.address

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable when `update_subscribers` has something to do."""
        return self._router.fd

    def refresh_authorities(self) -> None:
        """Disconnect subscribers whose keys are not let in any more. To be called several times a second."""
        self._router.refresh_authorities()
        for identity in self._subscribers:
            authority = self._router.authority_of(identity)
            if authority is not None and authority.role not in READERS:
                self._router.refuse(identity, RefusalKind.REVOKED, f"its key is a {authority.role}'s now")
        self._drop_gone()

    def update_subscribers(self) -> int:
        """Do everything that connections need; return how many subscriptions there are."""
        for identity, (change,) in self._router.receive(_NO_LIMIT):
            topics = self._subscribers.get(identity)
            if topics is None:
                continue
            kind, topic = bytes(change[:1]), bytes(change[1:])
            if kind != SUBSCRIBE:
                if topic in topics:
                    del topics[topic]
                    self._remove(topic)
            elif topic not in topics:
                if len(topics) >= TOPICS_MAX:
                    self._router.refuse(
                        identity,
                        RefusalKind.TOO_MANY_SUBSCRIPTIONS,
                        f"it subscribes to more than {TOPICS_MAX} topics",
                    )
                    continue
                topics[topic] = None
                self._topics[topic] += 1
                self.subscriptions_made += 1
        self._drop_gone()
        return self._topics.total()

    def topics(self) -> list[bytes]:
        """Return the topics with a subscription, each once."""
        return list(self._topics)

    def wanted(self, first_frame: bytes) -> bool:
        """Whether anybody has subscribed to messages that begin with this frame."""
        return any(first_frame.startswith(topic) for topic in self._topics)

    def send(self, frames: Sequence[Frame]) -> None:
        """Publish. A subscriber whose queue is full does not get the message."""
        first = bytes(frames[0])
        wanted = {topic for topic in self._topics if first.startswith(topic)}
        if not wanted:
            return
        for identity, topics in self._subscribers.items():
            if wanted.isdisjoint(topics):
                continue
            outcome = self._router.send(identity, frames)
            if outcome is SendOutcome.FULL:
                self._stalled.setdefault(identity, time.monotonic())
            else:
                self._stalled.pop(identity, None)

    def close(self) -> None:
        """Close all connections. Messages that have not been sent are lost."""
        self._router.close()

    # --- private

    def _add_subscriber(self, identity: bytes) -> None:
        self._subscribers[identity] = {}
        if self._on_connected is not None:
            self._on_connected(self._router.address_of(identity), self._router.authority_of(identity))

    def _drop_gone(self) -> None:
        """Forget subscribers whose connections have ended, after those that have stalled were disconnected."""
        self._router.flush()
        now = time.monotonic()
        for identity, since in self._stalled.items():
            if now >= since + STALL_SECONDS_MAX:
                self._router.refuse(
                    identity, RefusalKind.STALLED, f"it has read nothing for {STALL_SECONDS_MAX:g} seconds"
                )
        gone = [identity for identity in self._subscribers if not self._router.address_of(identity)]
        for identity in gone:
            self._stalled.pop(identity, None)
            for topic in self._subscribers.pop(identity):
                self._remove(topic)

    def _remove(self, topic: bytes) -> None:
        self._topics[topic] -= 1
        if not self._topics[topic]:
            del self._topics[topic]


_NO_LIMIT = 1_000_000
"""More messages than subscribers may send in a turn."""
