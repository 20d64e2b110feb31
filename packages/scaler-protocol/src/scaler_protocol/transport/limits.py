"""What one listener takes from its peers."""

from __future__ import annotations

from scaler_protocol.runtime.values import value

CONNECTIONS_PER_ADDRESS_MAX = 4096
"""By default. Many workers may share one address behind network address translation."""

HALF_OPEN_MAX = 4096
"""Most connections whose handshake is not over: after a restart, all peers connect at once."""

QUEUE_MESSAGES_MAX = 100_000
"""Most messages that wait for one peer."""

EVENTS_MAX = 64
"""Most peers that are read in one turn, so that all get theirs."""

READ_SECONDS = 0.001
"""How long a turn may take to accept and to read. Who is left comes first in the next one."""

ACCEPT_EVENTS = 4
"""Accepting a connection takes as long as reading so many peers."""


@value
class ListenerLimits:
    """Connections of this machine are not limited by address."""

    connections: int | None = None
    """In all; None: as many as the process may have descriptors."""
    connections_per_address: int = CONNECTIONS_PER_ADDRESS_MAX
    half_open: int = HALF_OPEN_MAX
    """Connections whose handshake is not over; if there are more, the oldest is closed."""
    queue_messages: int = QUEUE_MESSAGES_MAX
    """Messages that wait for one peer."""
    unfinished_bytes: int | None = None
    """Of messages that have arrived in part, see `UnfinishedMessages`; None: half of the memory."""
    unread_bytes: int | None = None
    """Of messages that wait for peers, see `UnreadMessages`; None: half of the memory."""
    events: int = EVENTS_MAX
    """Peers read in a turn, and `ACCEPT_EVENTS` times as many as connections accepted."""
    read_seconds: float = READ_SECONDS
    """After so long, a turn accepts and reads no more. It has accepted a connection or read a peer by then."""
